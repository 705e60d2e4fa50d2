"""The gate: with its half of every key it decides how much can be opened, and opens nothing itself (DESIGN 4.3)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.delivery import Outgoing
from broker.gate import Gate
from broker.services import frames
from broker.services.frames import Known
from broker.stages import Consented, Submission
from broker.store import tables
from clients import wire
from tests.broker_rig import Rig, epoch_of, present, reason, rig, submission
from tests.formats import (
    CLAIM,
    DAY,
    HOSPITAL,
    INSURER,
    NOW,
    PATIENT,
    PAYER,
    Party,
    Sent,
    answer,
    asked_of,
    bill,
    claim,
    recipient,
    refused,
    some_levels,
)
from zhifu import ladder, leaf, sealed
from zhifu.errors import NotAuthentic
from zhifu.keys import Alg, KemPrivate
from zhifu.receipt import Head
from zhifu.receive import Opened, Received, receive
from zhifu.schema import load
from zhifu.v1 import exchange_pb2 as pb


def consented(sent: Sent, **changed: bytes) -> Consented:
    """A submission that passed every step before the gate."""
    parcel = submission(sent, **changed)
    schema = sent.exchange.schema
    made = Submission(
        sent.hash, sent.envelope, sent.shown, sent.exchange.record.manifest, parcel.manifest, schema, parcel.leaves,
        parcel.capsule, sent.envelope.to_bytes(),
    )  # fmt: skip
    return Consented(made, None, b"", b"", None)


def handed_out(broker: Rig, to: Party) -> list[tuple[pb.Delivery, Received]]:
    """What the broker would write to a node now, with the proof checked."""
    core = broker.core
    leased = Outgoing(to.id, core.store.reader).take(0.0)
    made = list(frames.deliveries(leased, core, Known(Head())))
    found, head = [], Head()
    for frame in made:
        proven = wire.prove(frame.proof, head, core.log.vkey)
        head = proven.head_after(head)
        found += [(one, wire.received(one, proven)) for one in frame.deliveries]
    return found


def opened(broker: Rig, to: Party, *asked: Sent) -> list[Opened]:
    me = recipient(to, policy_hashes=frozenset([broker.policy_hash]))
    me = replace(me, asked={key: value for one in asked for key, value in asked_of(one).items()}.get)
    return [receive(one, me, NOW) for _, one in handed_out(broker, to)]


# What is kept


@settings(max_examples=60)
@given(released=some_levels(CLAIM))
def test_the_released_leaves_are_kept_and_no_other(released: bytes) -> None:
    every = sealed.slices(CLAIM, bill().manifest.size_class, bill().leaves)
    made = Gate.release(consented(SENT), released, bytes(32))
    expected = [one for one, (u, rank) in zip(every, CLAIM.leaves, strict=True) if released[u] == rank]
    assert made.leaves == b"".join(expected)
    assert made.released == released


SENT = present(claim())


@settings(max_examples=60)
@given(released=some_levels(CLAIM), at=st.integers(0, len(CLAIM.leaves) - 1), bit=st.integers(0, 7), data=st.data())
def test_a_flipped_bit_matters_where_it_is_released(released: bytes, at: int, bit: int, data: st.DataObject) -> None:
    every = sealed.slices(CLAIM, bill().manifest.size_class, bill().leaves)
    where = data.draw(st.integers(0, len(every[at]) - 1))
    every[at] = every[at][:where] + bytes([every[at][where] ^ (1 << bit)]) + every[at][where + 1 :]
    lying = consented(SENT, leaves=b"".join(every))
    u, rank = CLAIM.leaves[at]
    if released[u] == rank:
        refused("leaf.digest", Gate.release, lying, released, bytes(32))
    else:
        assert Gate.release(lying, released, bytes(32)).leaves == Gate.release(consented(SENT), released, b"").leaves


# What the recipient can open


async def test_the_recipient_opens_what_was_released_and_nothing_finer(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        (found,) = await broker.submit(present(claim()))
        (one,) = opened(broker, INSURER)
        values = dict(one.values)
        assert one.released == found.released
        for unit, rank in zip(CLAIM.units, found.released, strict=True):
            if rank == 0xFF:
                assert unit.name not in values
            else:
                finest = PATIENT.get(unit.name)
                form = unit.levels[rank].form
                expected = finest if rank == 0 else ladder.coarsen(unit.levels[0].form, form, finest)
                assert ladder.conforms(form, values[unit.name])
                assert (values[unit.name] is None) == (expected is None)
        shown = handed_out(broker, INSURER)[0][0]
        assert len(shown.shares) == 32 * len(sealed.released_places(CLAIM, found.released))
        # Every share that it got opens its own leaf and no other: not even with the finer leaf at hand.
        every = dict(
            zip(CLAIM.leaves, sealed.slices(CLAIM, bill().manifest.size_class, bill().leaves), strict=True)
        )  # fmt: skip
        shares = [shown.shares[i : i + 32] for i in range(0, len(shown.shares), 32)]
        released = {CLAIM.leaves[i] for i in sealed.released_places(CLAIM, found.released)}
        openable = {
            at
            for at, own in one.capsule.shares.items()
            for share in shares
            if opens(every[at], sealed.xor(own, share), at)
        }
        assert openable == released


def opens(sealed_leaf: bytes, secret: bytes, at: tuple[int, int]) -> bool:
    try:
        leaf.open_leaf(sealed_leaf, secret, bill().manifest.rid, *at, CLAIM.hash)
    except NotAuthentic:
        return False
    return True


async def test_statute_and_answer_are_opened_too(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        sent = present(broker.statute())
        await broker.submit(sent)
        (one,) = opened(broker, PAYER)
        assert one.values["name"] == PATIENT["name"]
        decision = present(answer(sent, {"outcome": "paid"}))
        await broker.submit(decision, sender=PAYER)
        (back,) = opened(broker, HOSPITAL, sent)
        assert (back.values["outcome"], back.manifest.schema) == ("paid", load("decision"))


# What the broker keeps


async def test_neither_secret_nor_gate_key_is_at_rest(tmp_path: Path) -> None:
    """A thief of the database has HPKE(E) only; the sealed secret is there, which shows that the test can find."""
    async with rig(tmp_path) as broker:
        await broker.submit(present(broker.statute()))
        handed_out(broker, PAYER)
        content = b"".join(file.read_bytes() for file in broker.home.database.parent.glob("broker.db*"))
        (row,) = [row for row in broker.rows(tables.Epoch) if row.node == HOSPITAL.id]
        assert row.sealed_secret[:64] in content
        secret, (key,) = epoch_of(HOSPITAL).secret, broker.home.gate_keys.values()
        rid = bill().manifest.rid
        root = sealed.gate_root(secret, rid, PAYER.id, broker_nonce(broker))
        for hidden in (secret, root, *sealed.gate_shares(root, CLAIM), key.raw[:32], key.raw[-32:]):
            assert hidden not in content
            assert hidden.hex().encode() not in content


def broker_nonce(broker: Rig) -> bytes:
    (row,) = broker.rows(tables.Exchange)
    return row.nonce


# Delivery looks again


async def test_a_grant_is_asked_again_when_a_delivery_is_written(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange = claim()
        assert exchange.grant is not None
        exchange = replace(exchange, grant=replace(exchange.grant, expiry=NOW + 100))
        await broker.grant(exchange)
        await broker.submit(present(exchange))
        assert len(handed_out(broker, INSURER)) == 1
        broker.clock.advance(101)
        assert handed_out(broker, INSURER) == []


async def test_a_revoked_grant_or_key_withholds_what_is_queued(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        await broker.submit(present(claim()))
        subject = claim().grant.subject  # type: ignore[union-attr]
        for status, count in (("revoked", 0), ("active", 1)):
            await broker.run(
                lambda state, _s, _n, to=status: state.update(tables.Subject, {"status": to}, id=subject)
            )  # fmt: skip
            assert len(handed_out(broker, INSURER)) == count
        await broker.revoke(claim())
        assert handed_out(broker, INSURER) == []
        assert broker.rows(tables.Delivery) == []


async def test_one_delivery_that_cannot_go_does_not_stop_the_others(tmp_path: Path) -> None:
    """Its gate key is gone; what came in another epoch goes all the same."""
    async with rig(tmp_path) as broker:
        await broker.submit(*(present(broker.statute()) for _ in range(3)))
        lost = present(broker.statute())
        await broker.submit(lost)
        await broker.submit(*(present(broker.statute()) for _ in range(2)))
        row = next(row for row in broker.rows(tables.Exchange) if row.hash == lost.hash)
        other = os.urandom(16)
        shown = lost.envelope.to_proto()
        shown.payload = replace(lost.shown, epoch_id=other).to_bytes()
        await broker.run(
            lambda state, _s, _n: state.update(
                tables.Delivery, {"envelope": shown.SerializeToString(deterministic=True)}, entry=row.entry
            )
        )
        assert len(handed_out(broker, PAYER)) == 5


async def test_a_retired_gate_key_opens_nothing_more(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.submit(present(broker.statute()))
        broker.core.gate._epochs.clear()
        (old,) = broker.core.gate._keys
        broker.core.gate._keys = {}
        assert handed_out(broker, PAYER) == []
        (told,) = await broker.submit(present(broker.statute()))
        assert reason(told) == "gate.epoch"
        broker.core.gate._keys = {old: broker.home.gate_keys[old]}
        assert len(handed_out(broker, PAYER)) == 1


# Epochs


async def test_an_unwrapped_epoch_is_its_nodes_alone(tmp_path: Path) -> None:
    """Also when the gate has it in memory already."""
    async with rig(tmp_path) as broker:
        await broker.submit(present(broker.statute()))
        shown = present(broker.statute()).shown
        core = broker.core
        foreign = replace(shown, sender=PAYER.id)
        refused(
            "gate.epoch", core.gate.shares, foreign, bill().manifest, CLAIM.finest, core.store.reader
        )  # fmt: skip


async def test_an_epoch_ends(tmp_path: Path) -> None:
    """Nothing new comes under it; what it released before is still delivered."""
    async with rig(tmp_path) as broker:
        over = epoch_of(HOSPITAL).not_after
        late = {"issued_at": over - 3600, "not_after": over + 3600}
        broker.clock.ms = over * 1000
        assert [reason(one) for one in await broker.submit(present(broker.statute(), **late))] == [""]
        broker.clock.advance(1)
        assert [reason(one) for one in await broker.submit(present(broker.statute(), **late))] == ["gate.epoch"]
        assert len(handed_out(broker, PAYER)) == 1


def test_a_gate_key_of_another_kind_does_not_break_the_gate() -> None:
    """An offer that no key of ours opens is the sender's mistake, not the end of its stream."""
    key = KemPrivate.generate(Alg.X25519)

    class Held:
        """One stored offer."""

        def get(self, *_: object) -> tables.Epoch:
            return tables.Epoch.model_construct(
                id=bytes(16), node=HOSPITAL.id, gate_key_id=key.public.id, not_before=NOW, not_after=NOW + DAY,
                sealed_secret=b"short",
            )  # fmt: skip

    gate = Gate({key.public.id: key})
    refused("gate.unwrap", gate._epoch, HOSPITAL.id, bytes(16), Held())


async def test_secrets_are_unwrapped_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await asyncio.gather(*(broker.submit(present(broker.statute())) for _ in range(5)))
        assert set(broker.core.gate._epochs) == {(HOSPITAL.id, epoch_of(HOSPITAL).epoch_id)}


# Two recipients


async def test_shares_of_two_presentations_do_not_combine(tmp_path: Path) -> None:
    """The payer's broker shares open nothing with the insurer's capsule."""
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        await broker.submit(present(claim()), present(broker.statute()))
        (insurers,), (payers,) = opened(broker, INSURER), handed_out(broker, PAYER)
        every = dict(
            zip(CLAIM.leaves, sealed.slices(CLAIM, bill().manifest.size_class, bill().leaves), strict=True)
        )  # fmt: skip
        shares = cut(payers[0].shares)
        for at, own in insurers.capsule.shares.items():
            assert not any(opens(every[at], sealed.xor(own, share), at) for share in shares)


def cut(shares: bytes) -> Sequence[bytes]:
    return [shares[i : i + 32] for i in range(0, len(shares), 32)]


@pytest.mark.parametrize("changed", ["released", "shares", "leaves"])
async def test_a_broker_that_gives_more_or_less_is_noticed(tmp_path: Path, changed: str) -> None:
    """What the entry says was released is what comes, or it is refused."""
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        await broker.submit(present(claim()))
        ((_, one),) = handed_out(broker, INSURER)
        lies: dict[str, Any] = {"shares": one.shares[:-32], "leaves": one.leaves[:-1], "released": claim().ceilings}
        lying = replace(one, **{changed: lies[changed]})
        expected = "receipt.invalid" if changed == "released" else "leaf.set"
        refused(expected, receive, lying, recipient(INSURER), NOW)
