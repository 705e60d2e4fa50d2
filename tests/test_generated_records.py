"""What nobody may gain, over generated records of every schema and version (DESIGN 4.2, 4.6; issue: Must hold).

`test_adversaries` plays the same attacks by hand, on one bill and through the whole exchange.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats import normal, records, some_levels
from tests.test_adversaries import Span
from zhifu import capsule, leaf, schema, sealed
from zhifu.errors import Malformed
from zhifu.schema import ABSENT, Schema, coarser, within
from zhifu.sealed import SealedRecord

KINDS: Final = [one for name in schema.names() for one in schema.versions(name)]
RECIPIENTS: Final = (b"\x01" * 32, b"\x02" * 32)
Place = tuple[int, int]


@dataclass(frozen=True)
class Shown:
    """One presentation of a record, as its recipient and an active broker together would have it."""

    record: SealedRecord
    ceilings: bytes
    released: bytes
    own: dict[Place, bytes]
    gate: list[bytes]

    @property
    def kind(self) -> Schema:
        return self.record.manifest.schema

    @property
    def delivered(self) -> list[bytes]:
        return [self.gate[i] for i in sealed.released_places(self.kind, self.released)]

    def reach(self, more: list[bytes]) -> set[Place]:
        """The leaves that open with some combination of own shares and ``more``."""
        return self.reached([*self.own.values(), *more])

    def reached(self, shares: list[bytes]) -> set[Place]:
        span, rid = Span(shares), self.record.manifest.rid
        return {at for at in self.kind.leaves if leaf.secret(self.record.key, rid, *at) in span}


def show(record: SealedRecord, ceilings: bytes, bound: bytes, recipient: bytes) -> Shown:
    kind, rid = record.manifest.schema, record.manifest.rid
    root = sealed.gate_root(os.urandom(32), rid, recipient, os.urandom(16))
    own = capsule.own_shares(record, ceilings, root)
    return Shown(record, ceilings, coarser(ceilings, bound), own, sealed.gate_shares(root, kind))


@st.composite
def shown_twice(draw: st.DrawFn) -> tuple[dict[str, Any], Shown, Shown]:
    kind = draw(st.sampled_from(KINDS))
    values = draw(records(kind))
    try:
        record = sealed.seal(kind, values, bytes(32), 0)
    except Malformed:  # too long, or a date without a year level
        record = sealed.seal(kind, values := {}, bytes(32), 0)
    levels = some_levels(kind)
    one, two = (show(record, draw(levels), draw(levels), to) for to in RECIPIENTS)
    return values, one, two


def places(kind: Schema, levels: bytes) -> set[Place]:
    return {(u, rank) for u, rank in enumerate(levels) if rank != ABSENT}


def at_or_coarser(kind: Schema, levels: bytes) -> set[Place]:
    return {(u, rank) for u, rank in kind.leaves if levels[u] <= rank}


@settings(max_examples=60)
@given(shown_twice())
def test_a_recipient_opens_just_what_was_released(
    made: tuple[dict[str, Any], Shown, Shown],
) -> None:
    values, one, _ = made
    assert within(one.released, one.ceilings)
    kept = sealed.gate(one.record.manifest, one.record.leaves, one.released)
    found = sealed.open_released(one.record.manifest, one.released, kept, b"".join(one.delivered), one.own)
    every = dict(zip(one.kind.leaves, sealed.ladders(one.kind, values), strict=True))
    assert found == {one.kind.units[u].name: normal(every[u, rank]) for u, rank in places(one.kind, one.released)}
    assert one.reach(one.delivered) == places(one.kind, one.released), "a coarser share never yields a finer one"


@settings(max_examples=60)
@given(shown_twice())
def test_with_an_active_broker_the_ceilings_and_no_more(made: tuple[dict[str, Any], Shown, Shown]) -> None:
    _, one, two = made
    assert one.reach(one.gate) == at_or_coarser(one.kind, one.ceilings)
    assert one.reached(one.gate) == set(), "the broker alone has uniform strings"
    assert one.reached(list(one.own.values())) == set(), "and so has the recipient"
    assert one.reach(two.gate) == set(), "another recipient's half fits no capsule but its own"


@settings(max_examples=60)
@given(shown_twice())
def test_shares_of_two_presentations_never_combine(made: tuple[dict[str, Any], Shown, Shown]) -> None:
    _, one, two = made
    both = [*one.own.values(), *two.own.values(), *one.delivered, *two.delivered]
    assert one.reached(both) == places(one.kind, one.released) | places(two.kind, two.released)
    with_broker = [*one.own.values(), *two.own.values(), *one.gate, *two.gate]
    assert one.reached(with_broker) == at_or_coarser(one.kind, one.ceilings) | at_or_coarser(one.kind, two.ceilings)


GUESSED: Final = [
    (kind, unit)
    for kind in KINDS
    for unit in ("birth-date", "citizen-id")
    if any(one.name == unit for one in kind.units)
]


@pytest.mark.parametrize(("kind", "unit"), GUESSED, ids=lambda one: getattr(one, "name", one))
def test_a_dropped_birth_date_or_id_is_not_confirmed_by_the_right_guess(kind: Schema, unit: str) -> None:
    """The attacker has manifest, every leaf, both halves of every other unit, and guesses right at the first try.

    What it can compute from the guess is a leaf under each string that it knows; nothing of that may equal what it
    sees, or else it could try all dates, or all numbers of a region. Lengths say nothing either.
    """
    truth = {"birth-date": "1984-05-17", "citizen-id": "110105194912310021"}[unit]
    record = sealed.seal(kind, {unit: truth, "encounter": b"e" * 32}, bytes(32), 0)
    at = kind.unit(unit).index
    levels = bytes(ABSENT if u == at else 0 for u in range(len(kind.units)))
    one = show(record, levels, levels, RECIPIENTS[0])
    rid, place = record.manifest.rid, kind.leaves.index((at, 0))
    seen = sealed.slices(kind, record.manifest.size_class, record.leaves)[place]
    size = kind.units[at].levels[0].sizes[record.manifest.size_class]
    known = [bytes(32), rid * 2, kind.hash, *record.manifest.digests, *one.own.values(), *one.gate]
    known += [sealed.xor(share, one.gate[kind.leaves.index(where)]) for where, share in one.own.items()]
    for secret in known:
        made = leaf.seal(truth, size, secret, rid, at, 0, kind.hash)
        assert made != seen
        assert made[:32] != seen[:32]
        assert leaf.digest(made, rid, at, 0, kind.hash) != record.manifest.digests[place]
    # With the secret the same computation confirms it: the attack above is a real one.
    secret = leaf.secret(record.key, rid, at, 0)
    assert leaf.seal(truth, size, secret, rid, at, 0, kind.hash) == seen


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.data())
def test_lengths_say_one_of_four_things(kind: Schema, data: st.DataObject) -> None:
    try:
        record = sealed.seal(kind, data.draw(records(kind)), bytes(32), 0)
    except Malformed as error:
        assert error.reason in ("schema.overflow", "schema.value")  # noqa: PT017
        return
    assert len(record.leaves) == sum(kind.sizes[record.manifest.size_class])
    assert len(record.encoded_manifest) == 142 + 32 * len(kind.leaves)


@settings(max_examples=60)
@given(shown_twice(), st.data())
def test_fuzzed_sealed_bytes_are_refused(made: tuple[dict[str, Any], Shown, Shown], data: st.DataObject) -> None:
    """Bytes changed on their way to the recipient: one of our refusals, never a value that was not sealed."""
    _, one, _ = made
    kept = sealed.gate(one.record.manifest, one.record.leaves, one.released)
    if not kept:
        return
    at, bit = data.draw(st.integers(0, len(kept) - 1)), data.draw(st.integers(0, 7))
    wrong = kept[:at] + bytes([kept[at] ^ 1 << bit]) + kept[at + 1 :]
    with pytest.raises(Exception, match=r"leaf\.digest"):
        sealed.open_released(one.record.manifest, one.released, wrong, b"".join(one.delivered), one.own)
