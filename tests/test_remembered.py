"""What is remembered on the hot path, and that it is never believed for longer than the store says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker import delivery
from broker.audit import stored_entry
from broker.delivery import Outgoing
from broker.services.submitting import submit
from broker.store import tables
from tests.broker_rig import frame, present, rig
from tests.formats import HOSPITAL, INSURER, NOW, ORIGIN, PAYER, claim
from tests.test_delivery import Counting, handed_out, sent
from zhifu.consent import Revocation
from zhifu.errors import Refused


async def test_what_was_just_accepted_is_not_read_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        core = broker.core
        read = Counting(core.store.reader)
        outgoing = Outgoing(PAYER.id, read, fresh=core.mailroom.fresh)  # type: ignore[arg-type]
        core.mailroom.attach(PAYER.id, outgoing)
        made = [present(broker.statute()) for _ in range(3)]
        await submit(core, HOSPITAL.id, frame(*made))
        fresh, stored = handed_out(broker, PAYER, outgoing), handed_out(broker, PAYER)
        assert read.rows == 0
        assert [one.SerializeToString() for one, _ in fresh] == [one.SerializeToString() for one, _ in stored]
        # Given out once: what comes again comes from the store.
        assert [one.attempt for one in outgoing.take(30.0)] == [2, 2, 2]
        assert read.rows == 3


async def test_what_was_just_accepted_goes_only_while_it_waits(tmp_path: Path) -> None:
    """What is in memory is never sent by itself: the store says what waits, and withdraws it."""
    async with rig(tmp_path) as broker:
        core, exchange = broker.core, claim()
        digest = await broker.grant(exchange)
        outgoing = Outgoing(INSURER.id, core.store.reader, fresh=core.mailroom.fresh)
        core.mailroom.attach(INSURER.id, outgoing)
        await submit(core, HOSPITAL.id, frame(present(exchange)))
        assert [row.grant_hash for row in core.store.reader.find(tables.Delivery)] == [digest]
        await broker.revoke(exchange)
        assert outgoing.take(0.0) == []


async def test_two_streams_of_a_node_remember_a_delivery_once(tmp_path: Path) -> None:
    """Or its bytes would be counted twice and given back once, until nothing could be remembered any more."""
    async with rig(tmp_path) as broker:
        await sent(broker, 2)
        rows = broker.rows(tables.Delivery)
        kept = delivery.Fresh(most=len(rows[0].leaves) + len(rows[0].capsule) + 4096)
        for row in rows:
            opening = stored_entry(row.entry, broker.core.store.reader)
            kept.put(row, opening)
            kept.put(row, opening)
            found = kept.take(row.entry)
            assert found is not None
            assert kept.take(row.entry) is None


async def test_memory_of_what_was_just_accepted_is_bounded(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        made = await sent(broker, 3)
        rows = broker.rows(tables.Delivery)
        kept = delivery.Fresh(most=2 * (len(rows[0].leaves) + len(rows[0].capsule) + 4096))
        for row in rows:
            kept.put(row, stored_entry(row.entry, broker.core.store.reader))
        assert [kept.take(row.entry) is not None for row in rows] == [False, True, True]
        assert [kept.take(row.entry) for row in rows] == [None] * len(made)


async def test_a_grant_is_remembered_no_longer_than_it_stands(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        core, exchange = broker.core, claim()
        digest = await broker.grant(exchange)
        grants = core.in_force.now(NOW)
        assert grants(digest).payload == core.in_force.now(NOW)(digest).payload
        with pytest.raises(Refused, match=r"consent\.expired"):
            core.in_force.now(NOW + 10**9)(digest)
        # Read while the revocation is under way, when committed rows still say that it stands.
        during: list[bytes] = []
        assert exchange.subject is not None
        said = Revocation(ORIGIN, digest, NOW).sign(exchange.subject)

        def revoke(state: Any, sequence: Any, now_ms: int) -> None:
            core.revoker.revoke(said, state, sequence, now_ms)
            during.append(core.in_force.now(NOW)(digest).payload)

        await broker.run(revoke)
        assert during
        with pytest.raises(Refused, match=r"consent\.revoked"):
            core.in_force.now(NOW)(digest)
