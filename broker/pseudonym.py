"""Who may have whose pseudonyms evaluated, how often, and what of it is written down (DESIGN 4.5).

A hospital asks for one patient at a time, at a bounded rate. A recipient asks for itself, in bulk, up to the size of
its book, which two operators signed. Every call is an audit entry: who, for which recipient, how many. Of the elements
nothing is kept: blinded as they are, they would tell nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.audit import Sequence as Entries
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import cbor, quota
from zhifu.envelope import Envelope
from zhifu.errors import Error, Malformed, Refused
from zhifu.receipt import Detail, Meta
from zhifu.voprf import MAX_BATCH

CALLED: Final = ("insurer",)
"""Roles of recipients that call persons by pseudonyms."""
_ASKING: Final = ("hospital",)
_DAY_MS: Final = 86_400_000
_RECORDED: Final = ("policy.denied", "pseudonym.quota", "participant.unknown", "participant.suspended")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one hospital may ask for, in evaluations."""

    a_minute: int = 240
    a_day: int = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """Whose elements, under whose key; ``caller`` and ``recipient`` are participant ids, roles their role words."""

    caller: bytes
    caller_role: str
    recipient: bytes
    recipient_role: str
    epoch: int
    count: int

    @property
    def is_own(self) -> bool:
        return self.caller == self.recipient


@dataclass(slots=True)
class Rate:
    """Evaluations of each hospital within the last minute; forgotten by a restart, which costs a minute's worth."""

    limits: Limits = field(default_factory=Limits)
    _recent: dict[bytes, deque[int]] = field(default_factory=dict)

    def take(self, caller: bytes, now_ms: int) -> None:
        """One more. Raises `Refused` (unavailable.overload)."""
        recent = self._recent.setdefault(caller, deque())
        # Those of later than now are of a clock that ran ahead: they would count until that time comes.
        while recent and not now_ms - 60_000 < recent[0] <= now_ms:
            recent.popleft()
        if len(recent) >= self.limits.a_minute:
            raise Refused("unavailable.overload", "too many pseudonyms within a minute")
        recent.append(now_ms)


def check(one: Question) -> None:
    """Whether this caller may ask that. Raises `Refused` (policy.denied), `Malformed` (malformed.size)."""
    if one.recipient_role not in CALLED:
        raise Refused("policy.denied", "the recipient calls nobody by pseudonyms")
    if not 1 <= one.count <= MAX_BATCH:
        raise Malformed("malformed.size", f"1 to {MAX_BATCH} elements")
    if one.is_own:
        return
    if one.caller_role not in _ASKING:
        raise Refused("policy.denied", "only a hospital asks for another's pseudonyms")
    if one.count != 1:
        raise Refused("policy.denied", "a hospital asks for one patient at a time")


def meter(one: Question, limits: Limits, state: Transaction, sequence: Entries, now_ms: int) -> None:
    """Count it and write it down, before anything is evaluated.

    Raises `Refused` (pseudonym.quota, unavailable.overload): nothing is counted then.
    """
    if one.is_own:
        _draw_on_quota(one, state)
    else:
        _count_day(one, limits, state, now_ms)
    sequence.record(_meta("pseudonym.evaluated", one), _detail(one), now_ms)


def is_recorded(error: Error) -> bool:
    """Whether a refusal is for the officer to see: somebody asked for what is not theirs."""
    return error.reason in _RECORDED


def deny(one: Question, error: Error, sequence: Entries, now_ms: int) -> None:
    """Write a refusal down."""
    sequence.record(_meta("pseudonym.denied", one, error.reason), _detail(one), now_ms)


def raise_quota(
    signed: Sequence[Envelope], caller: bytes, operators: Collection[bytes], aud: str,
    state: Transaction, sequence: Entries, now_ms: int,
) -> tables.PseudonymQuota:  # fmt: skip
    """Take a quota that two operators signed; the one that stands now. An older one changes nothing.

    Raises `Refused` (pseudonym.quota, presentation.audience), `NotAuthentic` (key.unknown, signature.invalid).
    """
    found = quota.verify(signed, operators, aud, now_ms // 1000)
    place = {"recipient": found.recipient, "epoch": found.epoch}
    before = state.get(tables.PseudonymQuota, found.recipient, found.epoch)
    if before is not None and found.issued_at <= before.issued_at:
        return before
    used = before.used if before is not None else 0
    state.delete(tables.PseudonymQuota, **place)
    state.insert(tables.PseudonymQuota, [(found.recipient, found.epoch, found.allowed, used, found.issued_at)])
    meta = Meta("pseudonym.quota", sender=caller, recipient=found.recipient)
    sequence.record(meta, Detail(documents=tuple(one.to_bytes() for one in signed)), now_ms)
    return standing_quota(found.recipient, found.epoch, state)


def standing_quota(recipient: bytes, epoch: int, state: Reader) -> tables.PseudonymQuota:
    """The quota of a recipient under an epoch. Raises `Refused` (pseudonym.quota) where there is none."""
    found = state.get(tables.PseudonymQuota, recipient, epoch)
    if found is None:
        raise Refused("pseudonym.quota", f"no quota under epoch {epoch}")
    return found


def _draw_on_quota(one: Question, state: Transaction) -> None:
    found = standing_quota(one.recipient, one.epoch, state)
    if found.used + one.count > found.allowed:
        raise Refused("pseudonym.quota", f"{found.used} of {found.allowed} are used")
    place = {"recipient": one.recipient, "epoch": one.epoch}
    state.update(tables.PseudonymQuota, {"used": found.used + one.count}, **place)


def _count_day(one: Question, limits: Limits, state: Transaction, now_ms: int) -> None:
    day = now_ms // _DAY_MS
    found = state.get(tables.PseudonymDay, one.caller, day)
    used = one.count + (found.used if found is not None else 0)
    if used > limits.a_day:
        raise Refused("unavailable.overload", "too many pseudonyms in a day")
    if found is None:
        state.insert(tables.PseudonymDay, [(one.caller, day, used)])
    else:
        state.update(tables.PseudonymDay, {"used": used}, caller=one.caller, day=day)


def _meta(event: str, one: Question, reason: str = "") -> Meta:
    return Meta(event, sender=one.caller, recipient=one.recipient, reason=reason)


def _detail(one: Question) -> Detail:
    return Detail(documents=(cbor.encode([1, one.epoch, one.count]),))
