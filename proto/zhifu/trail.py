"""What an audit entry says in the words that an officer searches by (DESIGN section 7), and whether it meets a search.

The broker finds entries by these words; an auditor derives them again from what was opened to it, so that an entry
which does not meet the search shows. No word is a value of a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zhifu import acknowledgement, cbor, envelope, presentation, schema
from zhifu.errors import Error, Malformed
from zhifu.merkle import MAX_SIZE
from zhifu.receipt import MAX_DETAIL, Detail, Meta
from zhifu.schema import ABSENT

RECORDED: Final = "recorded"
OUTCOMES: Final = ("accepted", "denied", "delivered", "refused", "expired", "withdrawn", RECORDED)
READS: Final = ("audit.searched", "audit.exported")
"""What auditors did; left out unless it is asked for."""
ACKNOWLEDGED: Final = "exchange.acknowledged"
ACCEPTED: Final = "exchange.accepted"
ERASED: Final = "entry.erased"
MAX_QUERY: Final = 65_536
MAX_VALUES: Final = 64
MAX_ENTRIES: Final = 1000
_BY_EVENT: Final = {
    ACCEPTED: "accepted",
    "exchange.denied": "denied",
    "exchange.expired": "expired",
    "exchange.withdrawn": "withdrawn",
    "pseudonym.denied": "denied",
    "grant.refused": "denied",
}
Origin = Callable[[int], tuple[bytes, str] | None]
"""(sender, purpose) of the accepted exchange at an index; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Words:
    """One thing an entry says. ``released`` is one byte a unit of the schema; ids and hashes are 32 bytes or empty."""

    event: str
    actor: bytes = b""
    counterparty: bytes = b""
    purpose: str = ""
    outcome: str = RECORDED
    reason: str = ""
    schema_hash: bytes = b""
    released: bytes = b""
    policy_hash: bytes = b""

    def releases(self, unit: str) -> bool:
        """Whether this unit was released, at whatever level."""
        return unit in units(self)

    def is_about(self, participant: bytes) -> bool:
        return participant in (self.actor, self.counterparty)


@dataclass(frozen=True, slots=True)
class Query:
    """Filters that are met together; of a tuple of words, any one; of ``about`` and ``entries``, see there.

    ``about`` are hashes or handles that the entry names, all of them; ``entries`` are the only indices that count.
    Times are Unix ms, ``until_ms`` 0 for no end.
    """

    since_ms: int = 0
    until_ms: int = 0
    events: tuple[str, ...] = ()
    party: bytes = b""
    actor: bytes = b""
    counterparty: bytes = b""
    purposes: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    policy: bytes = b""
    unit: str = ""
    about: tuple[bytes, ...] = ()
    entries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        words = (*self.events, *self.purposes, *self.outcomes, *self.reasons, self.unit)
        if len(words) > MAX_VALUES or len(self.about) > MAX_VALUES or len(self.entries) > MAX_ENTRIES:
            raise Malformed("malformed.size", "a search has too many filters")
        if any(len(word) > 128 or not word.isprintable() for word in words):
            raise Malformed("malformed.field", "a filter is not a word")
        if any(len(one) not in (0, 32) for one in (self.party, self.actor, self.counterparty, self.policy)):
            raise Malformed("malformed.field", "ids and policies have 32 bytes")
        if any(len(one) not in (16, 32) for one in self.about):
            raise Malformed("malformed.field", "a hash has 32 bytes, a workflow 16")
        if any(not 0 <= one < MAX_SIZE for one in self.entries):
            raise Malformed("malformed.field", "there is no such entry in any log")
        if not 0 <= self.since_ms < 2**48 or not 0 <= self.until_ms < 2**48:
            raise Malformed("malformed.field", "a time is out of bounds")

    def to_bytes(self) -> bytes:
        """What the log keeps of a search: strict CBOR, version first."""
        values = [getattr(self, name) for name in self.__slots__]
        return cbor.encode([1, *(list(value) if isinstance(value, tuple) else value for value in values)])

    def in_time(self, time_ms: int) -> bool:
        return self.since_ms <= time_ms and (not self.until_ms or time_ms < self.until_ms)

    def met_by(self, words: Words) -> bool:
        """Whether the words meet every filter but time, ``about`` and ``entries``."""
        asked = words.event in self.events if self.events else words.event not in READS or bool(self.entries)
        return (
            asked
            and (not self.party or words.is_about(self.party))
            and self.actor in (b"", words.actor)
            and self.counterparty in (b"", words.counterparty)
            and (not self.purposes or words.purpose in self.purposes)
            and (not self.outcomes or words.outcome in self.outcomes)
            and (not self.reasons or words.reason in self.reasons)
            and self.policy in (b"", words.policy_hash)
            and (not self.unit or words.releases(self.unit))
        )


def words(meta: Meta, detail: Detail | None, origin: Origin = lambda index: None) -> list[Words]:
    """What an entry says; several things where one entry has acknowledgements of several kinds.

    ``detail`` is None where it was erased or is withheld; ``origin`` tells where an acknowledged exchange came from.
    """
    if meta.event == ACKNOWLEDGED and detail is not None:
        return list(dict.fromkeys(_acknowledged(meta, one, origin) for one in detail.documents))
    outcome = _BY_EVENT.get(meta.event, RECORDED)
    return [
        Words(
            meta.event, meta.sender, meta.recipient, meta.purpose, outcome, meta.reason, meta.schema_hash,
            meta.released, meta.policy_hash,
        )
    ]  # fmt: skip


def _acknowledged(meta: Meta, document: bytes, origin: Origin) -> Words:
    said = acknowledged(document)
    if said is None:
        return Words(meta.event, meta.sender)
    sender, purpose = origin(said.index) or (b"", "")
    outcome = "delivered" if said.opened else "refused"
    return Words(meta.event, meta.sender, sender, purpose, outcome, said.reason)


def acknowledged(document: bytes) -> acknowledgement.Acknowledgement | None:
    """What an entry's document says about one delivery; None if it is no acknowledgement."""
    try:
        return acknowledgement.parse(envelope.from_bytes(envelope.ACKNOWLEDGEMENT, document).payload)
    except Error:
        return None


def names(meta: Meta, detail: Detail) -> tuple[bytes, ...]:
    """The hashes and handles by which an entry is found: exchange, grant, subject, workflow, and what it answers."""
    found = [detail.exchange, detail.grant, detail.subject]
    if meta.event == ACKNOWLEDGED:
        said = (acknowledged(one) for one in detail.documents)
        found += [one.presentation_hash for one in said if one is not None]
    elif meta.event in (ACCEPTED, "exchange.denied") and detail.documents:
        try:
            shown = presentation.parse(envelope.from_bytes(envelope.PRESENTATION, detail.documents[0]).payload)
            found += [shown.workflow, shown.in_reply_to]
        except Error:
            # A presentation that was refused because it cannot be read has no more names than the entry gives it.
            pass
    return tuple(dict.fromkeys(one for one in found if one))


def erased(detail: Detail) -> tuple[int, ...]:
    """The entries whose erasure an entry ``entry.erased`` records. Raises `Malformed`."""
    found = cbor.decode(detail.documents[0], MAX_DETAIL) if detail.documents else ()
    if not isinstance(found, tuple) or not all(type(one) is int for one in found):
        raise Malformed("malformed.field", "not the record of an erasure")
    return tuple(one for one in found if type(one) is int)


def units(words_: Words) -> dict[str, str]:
    """Unit -> level by name, of what was released; empty where the entry releases nothing."""
    try:
        kind = schema.by_hash(words_.schema_hash)
        kind.check_levels(words_.released)
    except Error:
        return {}
    ranks = zip(kind.units, words_.released, strict=True)
    return {unit.name: unit.levels[rank].name for unit, rank in ranks if rank != ABSENT}
