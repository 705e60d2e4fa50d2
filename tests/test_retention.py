"""Retention: what a recipient opened loses each unit when its days are over, is held where it must be, and no more.

The inbox, the store, the roles and the packaged policy are the real ones; the clock is a test's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from clients import config, deletion, holding, parcel_jobs, trimming
from clients.clock import Clock
from clients.config import NodeConfig
from clients.hospital.role import Hospital
from clients.inbox import Inbox
from clients.insurer import product, review
from clients.insurer.adjudicate import Claim
from clients.insurer.book import Policy
from clients.insurer.facts import Facts
from clients.insurer.role import Insurer
from clients.keystore import FileKeystore
from clients.ledger import Holding, Ledger
from clients.node import Node
from clients.parcel_jobs import Kept
from clients.retention import DAY_S, Retention
from clients.role import Parts, Role
from clients.store import Job, Mandate, Store
from clients.trimming import Due
from policies import load
from policies.bundle import Period
from policies.decide import days
from tests import formats
from tests.broker_rig import fresh
from tests.formats import INSURER, NOW, Exchange, claim, recipient
from tests.house import run
from tests.node_peer import Peer, Recorder, Running, Sender, Stream, node_of, now
from zhifu import cbor, consent, envelope, parcel, receipt, schema
from zhifu.deletion import parse as parse_deletion
from zhifu.errors import Malformed, Refused
from zhifu.keys import participant_id
from zhifu.pricing import Split
from zhifu.receipt import Detail, Meta
from zhifu.receive import Opened, receive
from zhifu.v1.signed_pb2 import DELETION_OUTCOME_KEPT

PURPOSE = "commercial-settlement"
CLAIM = schema.load("inpatient-claim")
BUNDLE = load.load()
PERIOD = BUNDLE.retention[PURPOSE, "insurer"]
GRANTED_S = 180 * DAY_S


@dataclass(slots=True)
class Keeper:
    """An insurer's node that does not run: its parts, its files, and the time."""

    parts: Parts
    folder: Path
    now: int = NOW

    def take(self, opened: Opened) -> bytes:
        """Kept as the inbox keeps it."""
        incoming, retention = self.parts.store.incoming, self.parts.retention
        with self.parts.store.transaction():
            at, periods = retention.erase_at(opened, self.now), retention.periods(opened)
            incoming.put_opened(opened, b"", b"said", self.now * 1000, at, periods)
        return opened.hash

    def after(self, days_: float) -> int:
        """Sweep as many days after `NOW`; how many records were looked at."""
        self.now = NOW + int(days_ * DAY_S)
        self.parts.store.erase_overdue(self.now)
        looked = trimming.sweep(self.parts)
        assert self.parts.store.leave_no_trace()
        return looked

    def kept(self, exchange: bytes) -> set[str]:
        stored = self.parts.store.incoming.get(exchange)
        return set(stored.opened.values) if stored and stored.opened else set()

    def disk(self) -> bytes:
        return b"".join(file.read_bytes() for file in sorted(self.folder.glob("node.db*")))

    def ciphertext(self, exchange: bytes) -> bytes:
        with sqlite3.connect(f"file:{self.folder / 'node.db'}?mode=ro", uri=True) as own:
            (found,) = own.execute("SELECT content FROM incoming WHERE exchange = ?", (exchange,)).fetchone()
        own.close()
        return bytes(found)

    def under(self, **units: int) -> None:
        """Another policy is in force from now on."""
        table = {**BUNDLE.retention, (PURPOSE, "insurer"): Period(PERIOD.default, {**PERIOD.units, **units})}
        self.parts = replace(self.parts, retention=Retention(replace(BUNDLE, retention=table), "insurer"))


def settings_of(folder: Path) -> NodeConfig:
    address = "127.0.0.1:1"
    return NodeConfig(folder, "insurer", "示例", address, address, formats.ORIGIN, formats.Log().verifier, {})


def keeper_of(folder: Path, role: Role) -> Keeper:
    keystore = FileKeystore.draw(folder / "keys")
    node = Node(settings_of(folder), keystore, Store(folder / "node.db", keystore), role, frozenset())
    found = Keeper(node._parts, folder)
    found.parts = replace(node._parts, clock_ms=Clock(lambda: found.now * 1000))
    return found


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    found = keeper_of(tmp_path, Insurer(product.load("full")))
    yield found
    found.parts.store.close()


def opened(exchange: Exchange) -> Opened:
    return receive(exchange.send().deliver(), recipient(INSURER), NOW)


def left_after(days_: float, came: Sequence[str]) -> set[str]:
    return {unit for unit in came if unit == "encounter" or PERIOD.days(unit) > days_}


def pieces(ciphertext: bytes) -> list[bytes]:
    """Parts of it that no page's edge cuts: a page that still holds one holds what was erased."""
    return [ciphertext[at : at + 24] for at in range(0, len(ciphertext) - 24, 24)]


def test_each_unit_goes_when_its_days_are_over_and_its_bytes_with_it(keeper: Keeper) -> None:
    exchange = keeper.take(opened(claim()))
    came = keeper.kept(exchange)
    assert {"address", "birth-date", "encounter", "stay"} <= came
    ends = sorted({PERIOD.days(unit) for unit in came - {"encounter"}})
    assert len(ends) >= 3, "the packaged policy tells units apart"
    for end in ends[:-1]:
        before = keeper.ciphertext(exchange)
        assert keeper.after(end - 0.01) == 0, "nothing goes early"
        assert pieces(before)[0] in keeper.disk()
        assert keeper.after(end) == 1
        assert keeper.kept(exchange) == left_after(end, sorted(came))
        disk = keeper.disk()
        assert [piece for piece in pieces(before) if piece in disk] == []
    before = keeper.ciphertext(exchange)
    keeper.after(ends[-1] + 0.01)
    disk = keeper.disk()
    assert [piece for piece in pieces(before) if piece in disk] == []
    assert keeper.kept(exchange) == set(), "what names the exchange goes with the last of the others"
    assert keeper.parts.store.incoming.acknowledgement(exchange) == b"said"


def test_the_grant_only_makes_it_shorter(keeper: Keeper) -> None:
    early = opened(claim())
    assert early.grant is not None
    early = replace(early, grant=replace(early.grant, data_erase_at=NOW + 10 * DAY_S))
    exchange = keeper.take(early)
    keeper.after(9)
    assert keeper.kept(exchange)
    keeper.after(10.01)
    assert keeper.kept(exchange) == set()


def test_a_shorter_policy_takes_effect_at_once_and_a_longer_one_for_what_comes(keeper: Keeper) -> None:
    exchange = keeper.take(opened(claim()))
    longest = PERIOD.days("address")
    keeper.under(address=longest * 4, sex=5)
    keeper.after(5)
    assert "sex" not in keeper.kept(exchange)
    assert "address" in keeper.kept(exchange)
    keeper.after(longest)
    assert "address" not in keeper.kept(exchange), "the patient agreed under the shorter time"


def test_what_a_reviewer_has_before_him_is_kept_whole_until_he_decided(keeper: Keeper) -> None:
    one, store = opened(claim()), keeper.parts.store
    exchange = keeper.take(one)
    came = keeper.kept(exchange)
    with store.transaction():
        store.jobs.put(Job("claim", one.presentation.workflow, "complete", cbor.encode([exchange, bytes(32)]), NOW))
        review.queue_bare(store, exchange, "P1", (), NOW + DAY_S, NOW)
    assert keeper.after(100) == 1
    assert keeper.kept(exchange) == came
    assert keeper.after(100.5) == 0, "it is looked at again a day later"
    with store.transaction():
        (item,) = review.find(store, review.OPEN)
        review.put(store, replace(item, state=review.ANSWERED), NOW)
    assert keeper.after(101.1) == 1
    assert keeper.kept(exchange) == left_after(101.1, sorted(came))


def test_an_open_review_does_not_outlast_the_patients_own_time(keeper: Keeper) -> None:
    one, store = opened(claim()), keeper.parts.store
    exchange = keeper.take(one)
    with store.transaction():
        store.jobs.put(Job("claim", one.presentation.workflow, "complete", cbor.encode([exchange, bytes(32)]), NOW))
        review.queue_bare(store, exchange, "P1", (), NOW + DAY_S, NOW)
    keeper.after(GRANTED_S / DAY_S)
    assert keeper.kept(exchange)
    keeper.after(GRANTED_S / DAY_S + 0.01)
    assert keeper.kept(exchange) == set()


def test_what_a_proposal_is_made_from_goes_with_its_record(keeper: Keeper) -> None:
    """Its time is over, or its patient revoked: what the arithmetic was shown of it is not kept beside it."""
    store, facts = (
        keeper.parts.store,
        Facts.of(Claim(Split(5, 0, 0, 0, 5), True), Policy("P1", ""), product.load("full")),
    )
    both = [opened(claim()), opened(fresh(claim()))]
    exchanges = [keeper.take(one) for one in both]
    with store.transaction():
        for one, exchange in zip(both, exchanges, strict=True):
            parts = cbor.encode([exchange, bytes(32)])
            store.jobs.put(Job("claim", one.presentation.workflow, "complete", parts, NOW))
            review.queue(store, exchange, bytes(32), facts, (), NOW + DAY_S, NOW)
        assert keeper.parts.role.keeps(both[0], keeper.parts.transaction()) == ""
    assert [review.get(store, one).facts for one in exchanges] == [None, facts]
    assert review.forget_erased(store, NOW) == 0, "it waits for a person, and is kept whole"
    keeper.after(GRANTED_S / DAY_S + 0.01)
    assert review.forget_erased(store, NOW) == 2
    assert [(review.get(store, one).facts, review.get(store, one).proposed) for one in exchanges] == [(None, 5)] * 2


def test_a_legal_hold_wins_until_it_is_released(keeper: Keeper) -> None:
    held, other = (keeper.take(opened(one)) for one in (claim(), fresh(claim())))
    store, came = keeper.parts.store, keeper.kept(held)
    with pytest.raises(Refused, match=r"exchange\.unknown"):
        holding.place(store, bytes(32), "case-1", NOW)
    with pytest.raises(Malformed):
        holding.place(store, held, "", NOW)
    holding.place(store, held, "case-1", NOW * 1000)
    keeper.after(100)
    assert keeper.kept(held) == came
    assert keeper.kept(other) == left_after(100, list(came))
    keeper.after(GRANTED_S / DAY_S + 1)
    assert (keeper.kept(held), keeper.kept(other)) == (came, set())
    with pytest.raises(Refused, match=r"exchange\.state"):
        holding.release(store, other, "case-1", NOW)
    holding.release(store, held, "case-1 closed", NOW * 1000 + 1)
    assert [(one.target, one.state, one.basis) for one in holding.every(store)] == [(held, "released", "case-1 closed")]
    keeper.after(GRANTED_S / DAY_S + 2)
    assert keeper.kept(held) == set()


def revoke(keeper: Keeper, exchange: bytes) -> None:
    """The node reads in the log that the grant of its claim was revoked."""
    signed = claim().grant_envelope
    assert signed is not None
    said = Detail(grant=consent.hash_of(signed.payload))
    entry = receipt.entry(7, NOW * 1000, Meta("grant.revoked").to_bytes(), said.to_bytes())
    with keeper.parts.store.transaction():
        deletion._obey(keeper.parts, exchange, entry)


def test_a_revocation_does_not_erase_what_a_hold_stands_on(keeper: Keeper) -> None:
    exchange, store = keeper.take(opened(claim())), keeper.parts.store
    holding.place(store, exchange, "case-1", NOW * 1000)
    revoke(keeper, exchange)
    (job,) = store.jobs.find("deletion", "signed")
    word = parse_deletion(envelope.from_bytes(envelope.DELETION, job.payload).payload)
    assert (word.outcome, word.reason) == (DELETION_OUTCOME_KEPT, holding.REASON)
    assert deletion.resume(keeper.parts) == 0
    assert keeper.kept(exchange)
    holding.release(store, exchange, "", NOW * 1000)
    assert deletion.resume(keeper.parts) == 1
    assert keeper.kept(exchange) == set()


def test_what_was_paid_stays_when_a_hold_on_it_is_released(keeper: Keeper) -> None:
    """She revoked, and was told that it is kept with its payment: a hold that came and went changes nothing."""
    one, store = opened(claim()), keeper.parts.store
    exchange, came = keeper.take(one), keeper.kept(one.hash)
    with store.transaction():
        store.jobs.put(Job("claim", one.presentation.workflow, "complete", cbor.encode([exchange, bytes(32)]), NOW))
        ledger = Ledger(store)
        ledger.reserve(ledger.account("policy-year", "P1"), Holding(exchange, "reserved", {"pay": 1}, NOW + 60), NOW)
        ledger.step(exchange, "confirm", NOW)
    holding.place(store, exchange, "case-1", NOW * 1000)
    revoke(keeper, exchange)
    holding.release(store, exchange, "", NOW * 1000)
    deletion.resume(keeper.parts)
    assert keeper.kept(exchange) == came


def test_a_parcel_that_was_taken_back_goes_when_the_hold_on_it_is_released(keeper: Keeper) -> None:
    store, one = keeper.parts.store, kept_parcel(keeper)
    keeper.parts = replace(keeper.parts, role=Insurer(product.load("full"), folder=keeper.folder))
    holding.place(store, one.hash, "case-1", NOW * 1000)
    said = Detail(exchange=one.hash)
    entry = receipt.entry(7, NOW * 1000, Meta("parcel.withdrawn").to_bytes(), said.to_bytes())
    with store.transaction():
        deletion._obey(keeper.parts, one.hash, entry)
    assert parcel_jobs.chunk_path(keeper.folder, one.hash, 0).exists()
    holding.release(store, one.hash, "", NOW * 1000)
    assert [deletion.resume(keeper.parts) for _ in range(2)] == [1, 0]
    found = parcel_jobs.get(store, one.hash)
    assert found is not None
    assert (found.state, found.secret) == (parcel_jobs.ERASED, b"")
    assert not parcel_jobs.chunk_path(keeper.folder, one.hash, 0).exists()


def test_what_a_hospital_sent_is_held_with_its_key(keeper: Keeper) -> None:
    store, sent = keeper.parts.store, claim().send()
    mandate = Mandate.by_statute(
        bytes(32), sent.shown.recipient, sent.shown.ceilings, purpose=sent.shown.purpose,
        encounter=sent.shown.encounter, workflow=sent.shown.workflow,
    )  # fmt: skip
    with store.transaction():
        record = store.records.put(formats.bill(), NOW, NOW + DAY_S)
        exchange = store.outgoing.put(sent.shown, sent.capsule, mandate, NOW + DAY_S, None)
    holding.place(store, exchange, "case-1", NOW * 1000)
    assert store.erase_overdue(NOW + 2 * DAY_S) == 0
    assert store.records.get(record) is not None
    holding.release(store, exchange, "", NOW * 1000)
    assert store.erase_overdue(NOW + 2 * DAY_S) == 1
    assert store.records.get(record) is None


def kept_parcel(keeper: Keeper) -> Kept:
    """One that was taken, with its chunk; it is to be erased a day after `NOW`."""
    store, kem, subject = keeper.parts.store, formats.INSURER.kem, formats.subject_key()
    packed = parcel.pack(
        b"a document", key=kem.public, subject=participant_id(bytes(subject.verify_key)), aud=formats.ORIGIN,
        recipient=INSURER.id, claim=b"", kind="report", erase_at=NOW + DAY_S, now=NOW,
    )  # fmt: skip
    signed = envelope.seal_one(parcel.PARCEL, packed.parcel.to_bytes(), subject)
    one = Kept(
        parcel.hash_of(signed.payload), parcel_jobs.TAKEN, signed.to_bytes(), bytes(subject.verify_key), bytes(32)
    )
    with store.transaction():
        parcel_jobs.put(store, one, NOW * 1000)
    for place, chunk in enumerate(packed.chunks):
        parcel_jobs.keep_chunk(keeper.folder, one, place, chunk)
    return one


@pytest.mark.parametrize("held", [False, True])
def test_a_parcel_goes_at_the_end_that_its_patient_signed(keeper: Keeper, held: bool) -> None:
    store, one = keeper.parts.store, kept_parcel(keeper)
    if held:
        holding.place(store, one.hash, "case-1", NOW * 1000)
    assert parcel_jobs.lapse(keeper.folder, store, (NOW + DAY_S - 1) * 1000) == 0
    assert parcel_jobs.lapse(keeper.folder, store, (NOW + DAY_S) * 1000) == int(not held)
    found = parcel_jobs.get(store, one.hash)
    assert found is not None
    assert (found.state, found.secret) == ((parcel_jobs.TAKEN, bytes(32)) if held else (parcel_jobs.ERASED, b""))
    assert parcel_jobs.chunk_path(keeper.folder, one.hash, 0).exists() == held


def test_the_commands_of_a_hold(keeper: Keeper, tmp_path: Path) -> None:
    exchange = keeper.take(opened(claim()))
    config.write(settings_of(tmp_path))
    placed = run("node", "hold", tmp_path, exchange.hex(), "--basis", "case-1", "--json").ok().json["holds"]
    assert placed[0] | {"since_ms": 0} == {
        "target": exchange.hex(), "state": "placed", "basis": "case-1", "since_ms": 0,
    }  # fmt: skip
    assert run("node", "release", tmp_path, exchange.hex(), "--json").ok().json["holds"][0]["state"] == "released"
    assert run("node", "hold", tmp_path, "--json").ok().json["holds"][0]["target"] == exchange.hex()
    assert run("node", "hold", tmp_path, "00" * 32, "--basis", "x").code == 1


def test_what_was_paid_is_kept_with_its_payment(keeper: Keeper) -> None:
    one, store = opened(claim()), keeper.parts.store
    exchange = keeper.take(one)
    came = keeper.kept(exchange)
    with store.transaction():
        store.jobs.put(Job("claim", one.presentation.workflow, "complete", cbor.encode([exchange, bytes(32)]), NOW))
        Ledger(store).reserve(bytes(32), Holding(exchange, "committed", {"pay": 1}, NOW, NOW), NOW)
    assert keeper.after(100) == 1
    assert keeper.kept(exchange) == came


def test_the_report_counts_and_says_when(keeper: Keeper, tmp_path: Path) -> None:
    keeper.take(opened(claim()))
    found = {one.unit: one for one in trimming.report(keeper.parts.store, keeper.parts.retention, NOW)}
    end = NOW + PERIOD.days("address") * DAY_S
    assert found["address"] == Due(PURPOSE, "inpatient-claim", "address", 1, end, end, 0)
    assert found["encounter"] == Due(PURPOSE, "inpatient-claim", "encounter", 1, None, None, 0)
    late = trimming.report(keeper.parts.store, keeper.parts.retention, end)
    assert {one.unit for one in late if one.overdue} >= {"address"}
    keeper.after(PERIOD.days("address"))
    assert "address" not in {one.unit for one in trimming.report(keeper.parts.store, keeper.parts.retention, end)}


def test_what_an_older_store_kept_gets_its_days(keeper: Keeper) -> None:
    """Opened anew, a store of the version before has columns for them, and the sweep fills them in."""
    exchange = keeper.take(opened(claim()))
    store, own = keeper.parts.store, sqlite3.connect(keeper.folder / "node.db")
    own.executescript(
        "DROP INDEX outgoing_due; DROP INDEX incoming_erase; DROP INDEX record_kept; DROP INDEX incoming_kept;"
        "ALTER TABLE incoming DROP COLUMN purpose; ALTER TABLE incoming DROP COLUMN schema;"
        "ALTER TABLE incoming DROP COLUMN periods; ALTER TABLE incoming DROP COLUMN look_at; PRAGMA user_version=3;"
    )
    own.close()
    store.close()
    store = Store(keeper.folder / "node.db", keeper.parts.keystore)
    keeper.parts = replace(keeper.parts, store=store)
    came = keeper.kept(exchange)
    keeper.after(PERIOD.days("address"))
    assert keeper.kept(exchange) == left_after(PERIOD.days("address"), sorted(came))


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    await found.start()
    yield found
    await found.stop()


async def test_a_node_keeps_what_its_inbox_opened_by_the_policy(peer: Peer, tmp_path: Path) -> None:
    """From the frame on the stream to the housekeeping and the command that shows it."""
    hospital, payer = peer.enrol(tmp_path, "hospital", "public-payer")
    start, ahead = now(), [0]
    node = node_of(payer, Recorder(), lambda: (start + ahead[0]) * 1000)
    sender = Sender(peer, hospital)
    node.directory.update(peer.directory().entries, now())
    taken = sender.present(payer)
    Inbox(node._parts).take(peer.deliveries(Stream(), taken))
    said = run("node", "retention", payer.config.directory, "--json").ok().json["kept"]
    assert {(one["purpose"], one["unit"], one["count"]) for one in said} >= {("public-settlement", "name", 1)}
    assert "测试患者甲" not in json.dumps(said, ensure_ascii=False)
    assert "birth-date" in run("node", "retention", payer.config.directory).ok().out

    async def names_after(days_: int) -> set[str]:
        ahead[0] = days_ * DAY_S
        await node.keep_house()
        stored = node.store.incoming.get(taken[0].hash)
        return set(stored.opened.values) if stored and stored.opened else set()

    kept = {unit: days(BUNDLE, "public-settlement", "public-payer", unit) for unit in ("name", "birth-date")}
    assert kept["birth-date"] == 90
    assert {"name", "birth-date"} <= await names_after(89)
    assert "birth-date" not in await names_after(91)
    assert "name" in await names_after(364), "what rests on statute is kept as long as the policy says"
    assert await names_after(366) == set()
    sender.node.close()
    node.close()


async def test_nothing_is_erased_by_a_clock_that_was_set_since_it_was_compared(peer: Peer, tmp_path: Path) -> None:
    hospital, payer = peer.enrol(tmp_path, "hospital", "public-payer")
    start, ahead = now(), [0]
    running = Running(peer, payer, lambda: (start + ahead[0]) * 1000)
    stream, sender = await running.attach(), Sender(peer, hospital)
    node = running.node
    await node.attached()
    (taken,) = sender.present(payer)
    stream.send(deliveries=peer.deliveries(stream, [taken]))
    await stream.expect("acknowledgements")
    ahead[0] = 366 * DAY_S
    with pytest.raises(Refused, match=r"unavailable\.clock"):
        await node.keep_house()
    assert node.store.incoming.get(taken.hash).opened is not None  # type: ignore[union-attr]
    ahead[0] = 60
    await node.keep_house()
    sender.node.close()
    await running.close()


def test_a_hospital_holds_nothing(keeper: Keeper) -> None:
    assert Hospital().holds(opened(claim()), keeper.parts.store) == ""
