"""One entry as an auditor holds it: what was opened, its place in the tree, and what is to be thought of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zhifu import envelope, merkle, receipt, trail
from zhifu.checkpoint import Checkpoint
from zhifu.errors import Error, NotAuthentic
from zhifu.receipt import Detail, Entry, Meta
from zhifu.statement import claimed_participant
from zhifu.tlogproof import Proof
from zhifu.trail import Query, Words

VERIFIED: Final = "verified"
AWAITING: Final = "awaiting"
ERASED: Final = "erased"
MISSING: Final = "missing"
BROKEN: Final = "broken"
STATES: Final = (VERIFIED, AWAITING, ERASED, MISSING, BROKEN)
RECEIPT_FORMAT: Final = "zhifu-receipt/1"
_EITHER_SIDE: Final = ("party", "counterparty", "purposes")


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry's leaf in a signed tree: RFC 9162 path, and the checkpoint's note and its content."""

    leaf_hash: bytes
    path: tuple[bytes, ...]
    note: bytes
    head: Checkpoint


@dataclass(frozen=True, slots=True)
class Row:
    """``entry`` holds what was opened, with empty keys and contents where it was not; ``commitments`` stand for those.

    ``state`` is one of `STATES`;
    ``fault`` says what is wrong with a broken or missing one, ``basis`` why one was erased.
    A plain entry is a key statement.
    """

    entry: Entry
    plain: bool
    proven: Proven
    state: str
    meta: Meta | None = None
    detail: Detail | None = None
    said: tuple[Words, ...] = ()
    commitments: tuple[bytes, bytes] = (b"", b"")
    withheld: bool = False
    fault: str = ""
    basis: str = ""

    @property
    def index(self) -> int:
        return self.entry.index

    @property
    def time_ms(self) -> int:
        return self.entry.time_ms

    @property
    def words(self) -> Words:
        """The first thing it says; a key statement's are given by its envelope."""
        return self.said[0] if self.said else Words("key.stated" if self.plain else "")

    @property
    def names(self) -> tuple[bytes, ...]:
        """The hashes it is found by."""
        return trail.names(self.meta, self.detail) if self.meta and self.detail else ()

    @property
    def proof(self) -> Proof:
        """The tlog-proof of it."""
        return Proof(self.index, self.proven.path, self.proven.note)

    def receipt(self) -> Mapping[str, Any]:
        """All that a verifier needs beside the log's key; byte strings in hex."""
        one = self.entry
        opened = {name: getattr(one, name).hex() for name in ("meta_key", "meta", "detail_key", "detail")}
        c_meta, c_detail = self.commitments
        committed = {"meta_commitment": c_meta.hex(), "detail_commitment": c_detail.hex()}
        return {
            "format": RECEIPT_FORMAT,
            "index": one.index,
            "time_ms": one.time_ms,
            "plain": self.plain,
            **{name: value for name, value in (opened | committed).items() if value},
            "proof": self.proof.encode().decode(),
        }


def leaf_hash(one: Entry, plain: bool, c_meta: bytes, c_detail: bytes) -> bytes:
    """The leaf that these openings give; a commitment counts where its opening is not there."""
    if plain:
        return merkle.leaf_hash(receipt.statement_leaf(one.index, one.time_ms, one.detail))
    meta = receipt.meta_commitment(one) if one.meta else c_meta
    detail = receipt.detail_commitment(one) if one.detail else c_detail
    return merkle.leaf_hash(receipt.leaf(one.index, one.time_ms, meta, detail))


def read(
    one: Entry, plain: bool, proven: Proven, commitments: tuple[bytes, bytes], *, withheld: bool, final: int
) -> Row:
    """Verify one entry and say what it says; entries below ``final`` are cosigned by enough. Raises nothing."""
    if not (plain or one.meta or commitments[0]):
        return Row(one, plain, proven, MISSING, fault="the broker has lost the entry, which stands in the tree")
    try:
        merkle.verify_inclusion(proven.leaf_hash, one.index, proven.head.size, list(proven.path), proven.head.root)
        state = VERIFIED if one.index < final else AWAITING
        if plain:
            stated = envelope.from_bytes(envelope.KEY_STATEMENT, one.detail)
            return Row(one, True, proven, state, said=(Words("key.stated", claimed_participant(stated)),))
        meta = receipt.parse_meta(one.meta) if one.meta else None
        detail = receipt.parse_detail(one.detail) if one.detail else None
    except Error as error:
        return Row(one, plain, proven, BROKEN, commitments=commitments, fault=str(error))
    if meta is None or (detail is None and not withheld):
        state = MISSING
    fault = "the content is gone, and no entry says that it was erased" if state == MISSING else ""
    said = tuple(trail.words(meta, detail)) if meta else ()
    return Row(one, False, proven, state, meta, detail, said, commitments, withheld, fault)


def check_meets(row: Row, query: Query) -> None:
    """What the broker found must be what was asked for, as far as the entry itself tells.

    Raises `NotAuthentic` (receipt.invalid).
    """
    if row.state == MISSING:
        return
    if not query.in_time(row.time_ms) or (query.entries and row.index not in query.entries):
        raise NotAuthentic("receipt.invalid", "an entry of another time or place than was asked for")
    if row.state == BROKEN:
        return
    # Whose exchange was acknowledged stands in the entry that accepted it, and what became of it in the detail.
    is_elsewhere = row.withheld or any(getattr(query, name) for name in _EITHER_SIDE)
    if row.words.event == trail.ACKNOWLEDGED and is_elsewhere:
        return
    is_named = row.withheld or set(query.about) <= set(row.names)
    if not is_named or not any(query.met_by(one) for one in row.said):
        raise NotAuthentic("receipt.invalid", "an entry that does not meet the search")
