"""Several brokers on one PostgreSQL: nodes attach to any, one log, and nothing is lost when one of them dies."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broker.audit import Sequence as Sequenced
from broker.store import tables, versions
from broker.store.interface import Transaction
from broker.store.postgres import PostgresStore, connect
from clients.demo import cast as casting
from clients.demo.stage import Stage
from clients.hospital.sample import sample_bill
from tests.broker_rig import present, rig
from tests.house import NODES, House, built, command, operate, run, until
from tests.postgres import Server
from zhifu.errors import Refused
from zhifu.receipt import Detail, Meta

BROKERS = ("broker", "broker-2")
FIGURES = ("confirmed", 1_200_000, 800_000)
STANDS_STILL = """
import signal, threading
from pathlib import Path
from broker.store import postgres
from broker.store.postgres import PostgresStore
postgres._SETTINGS = postgres._SETTINGS.replace("session_timeout=10s", "session_timeout=2s")
armed, commit = Path("{armed}"), PostgresStore.commit
def stand_still(self):
    if armed.exists():
        armed.unlink()
        # To this thread: one that the process gets may be taken by another, and this one goes on meanwhile.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    commit(self)
PostgresStore.commit = stand_still
"""
TWO_DAYS_AHEAD = """
import time
real = time.time_ns
time.time_ns = lambda: real() + 2 * 86_400 * 10**9
"""
CUT_OFF = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'zhifu-%'"""


@dataclass(slots=True)
class Brokers(House):
    """A house with two brokers on one database; their folders are copies, their ports their own."""

    address: str = ""

    def build(self) -> None:
        operators = [word for path in casting.operator_files(self.stage) for word in ("--operator", path)]
        operate("init", self.path / "broker", "--origin", casting.ORIGIN, "--store", self.address, *operators)
        shutil.copytree(self.path / "broker", self.path / "broker-2")
        # Drawn while they serve, so that both must see the same folder.
        (self.path / "broker" / "pseudonym").mkdir(mode=0o700, exist_ok=True)
        (self.path / "broker-2" / "pseudonym").symlink_to(self.path / "broker" / "pseudonym")
        for name in BROKERS:
            self.restart(name)
        (self.path / "desk").mkdir(mode=0o700)
        invitations = {role: self.path / "desk" / f"{role}.invitation" for role in NODES}
        for role, path in invitations.items():
            named = ("--role", role, "--name", casting.NAMES[role], "-o", path)
            operate("invite", self.path / "broker-2", *named, *self.addresses(role))
        operate("contact", self.path / "broker", "-o", self.contact, *self.addresses("wallet"))
        self.cast = casting.join(self.stage, invitations)
        for role in NODES:
            self.start(role)
        for role in NODES:
            self.ready(role)

    def addresses(self, role: str) -> Iterator[str]:
        """All know both brokers, by name; the hospital begins with one of them, the payers with the other."""
        order = BROKERS if role == "hospital" else BROKERS[::-1]
        for port in ("node", "public"):
            yield f"--{port}-address"
            yield ",".join(f"localhost:{self.said(name)[f'{port}_port']}" for name in order)

    def start(self, role: str, *more: str, code: str = "") -> None:
        if role not in BROKERS:
            # Slots make the class anew, and leave a bare super() with the old one.
            House.start(self, role, *more, code=code)
            return
        ports = self.said(role) if role in self.running else {"node_port": 0, "public_port": 0}
        words = ["serve", str(self.path / role)]
        words += ["--node-port", str(ports["node_port"]), "--public-port", str(ports["public_port"])]
        self.running[role] = self.stage.start(role, *command("broker", *words, *more, code=code))

    def broker_rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.address) as connection:
            return connection.execute(query.replace("?", "%s").encode(), values).fetchall()

    def patient_bill(self, number: int) -> tuple[bytes, Any]:
        bill = sample_bill(number)
        patient = self.enrol(bill, f"patient-{number}")
        return bill, self.consent(patient, bill)


@pytest.fixture(scope="module")
def house(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with built(Brokers(Stage(tmp_path_factory.mktemp("brokers")), address=server.database())) as opened:
        yield opened
        # Whatever happened before: one log, whole, by the words of either broker.
        verified = run("audit", "verify", opened.path, "--json").ok().json
        assert verified["verified"] is True
        assert verified["entries"]["exchange.accepted"] == opened.broker_rows("SELECT count(*) FROM exchange")[0][0]


def settled(house: Brokers, settlement: str) -> tuple[str, int, int]:
    found = house.finish(settlement)
    return found["state"], found["public_fen"], found["commercial_fen"]


def test_nodes_on_different_brokers_settle(house: Brokers) -> None:
    bill, consent = house.patient_bill(1)
    assert settled(house, house.begin(bill, consent)) == FIGURES


@pytest.mark.parametrize("killed", BROKERS)
def test_a_broker_dies_during_a_settlement_and_the_other_goes_on(house: Brokers, killed: str) -> None:
    bill, consent = house.patient_bill(10 + BROKERS.index(killed))
    with house.frozen("insurer"):
        settlement = house.begin(bill, consent)
        waiting = house.cast.ids["insurer"]
        until(lambda: house.broker_rows("SELECT 1 FROM delivery WHERE recipient = ?", waiting), "the claim waits")
        house.kill(killed)
    assert settled(house, settlement) == FIGURES
    house.restart(killed)


@pytest.mark.parametrize("killed", BROKERS)
def test_with_one_broker_dead_a_patient_enrols_and_settles(house: Brokers, killed: str) -> None:
    """The wallet's calls, attestations, pseudonyms: whatever is no stream finds the broker that is alive."""
    house.kill(killed)
    bill, consent = house.patient_bill(50 + BROKERS.index(killed))
    assert settled(house, house.begin(bill, consent)) == FIGURES
    house.restart(killed)


def test_a_rolling_restart_fails_no_settlement(house: Brokers) -> None:
    made = [house.patient_bill(number) for number in (20, 21, 22)]
    settlements = []
    for (bill, consent), name in zip(made, (*BROKERS, ""), strict=True):
        settlements.append(house.begin(bill, consent))
        if name:
            assert house.end(name) == 0
            house.restart(name)
    assert Counter(settled(house, one) for one in settlements) == {FIGURES: 3}


def test_a_suspension_reaches_a_node_on_the_other_broker_and_what_waits_is_kept(house: Brokers) -> None:
    bill, consent = house.patient_bill(25)
    insurer = house.cast.ids["insurer"]
    operator, _ = casting.operator_files(house.stage)
    words = (insurer.hex(), "--reason", "contract ended", "--operator", operator)
    # The insurer is attached to the second broker; the word is said to the first.
    with house.frozen("insurer"):
        settlement = house.begin(bill, consent)
        until(lambda: house.broker_rows("SELECT 1 FROM delivery WHERE recipient = ?", insurer), "the claim waits")
        operate("suspend", house.path / "broker", *words)
    until(lambda: "participant.suspended" in house.log("insurer"), "the insurer was cut off")
    assert house.look(settlement)["state"] not in ("confirmed", "failed")
    assert house.broker_rows("SELECT 1 FROM delivery WHERE recipient = ?", insurer)
    operate("resume", house.path / "broker", *words)
    assert settled(house, settlement) == FIGURES


def test_the_database_restarts_and_nothing_is_lost(house: Brokers, server: Server) -> None:
    bill, consent = house.patient_bill(30)
    with house.frozen("public-payer"):
        settlement = house.begin(bill, consent)
        until(lambda: house.broker_rows("SELECT 1 FROM delivery"), "the claim waits")
        server.stop("immediate")
    server.start()
    assert settled(house, settlement) == FIGURES


def test_a_broker_that_hangs_while_it_writes_does_not_stop_the_other(house: Brokers) -> None:
    bill, consent = house.patient_bill(40)
    with psycopg.connect(house.address) as hanging:
        # What a frozen broker leaves behind: an open transaction that holds the lock.
        hanging.execute("SET idle_in_transaction_session_timeout = '3s'")
        hanging.execute("SELECT pg_advisory_xact_lock(8820414001)")
        settlement = house.begin(bill, consent)
        assert settled(house, settlement) == FIGURES
        hanging.close()


def backends(house: Brokers, which: str) -> set[int]:
    """PostgreSQL's processes that serve these brokers."""
    named = f"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {which}"
    with psycopg.connect(house.address) as opened:
        return {pid for (pid,) in opened.execute(named.encode()).fetchall()}


def test_a_broker_that_stands_still_before_its_commit_writes_nothing_when_it_goes_on(house: Brokers) -> None:
    """Its transaction and its turn were taken from it, another broker wrote meanwhile."""
    armed = house.file("armed")
    house.end("broker-2")
    house.restart("broker-2", code=STANDS_STILL.format(armed=str(armed)))
    made, further, seen = house.patient_bill(60), house.patient_bill(61), len(house.log("broker-2"))
    armed.touch()
    settlement = house.begin(*made)
    status = Path(f"/proc/{house.pid('broker-2')}/status")
    until(lambda: "State:\tT" in status.read_text(), "it stands still, in its transaction")
    until(lambda: not backends(house, "state = 'idle in transaction'"), "that is taken from it")
    assert settled(house, settlement) == FIGURES
    head = house.broker_rows("SELECT size FROM head")
    house.thaw()
    until(lambda: '"commit failed"' in house.log("broker-2")[seen:], "its commit is none")
    assert house.broker_rows("SELECT size FROM head") >= head
    assert settled(house, house.begin(*further)) == FIGURES


def test_brokers_go_by_the_clock_of_their_database(house: Brokers) -> None:
    """One that is a day ahead ends nothing that waits, and dates nothing so that the log would look written anew."""
    made = house.patient_bill(65)
    house.end("broker-2")
    with house.frozen("insurer"):
        settlement, insurer = house.begin(*made), house.cast.ids["insurer"]
        until(lambda: house.broker_rows("SELECT 1 FROM delivery WHERE recipient = ?", insurer), "the claim waits")
        house.restart("broker-2", code=TWO_DAYS_AHEAD)
        house.kill("broker")
    assert settled(house, settlement) == FIGURES
    ((ahead,),) = house.broker_rows("SELECT max(time_ms) / 1000 - extract(epoch FROM clock_timestamp()) FROM entry")
    assert ahead < 1
    assert house.broker_rows("SELECT count(*) FROM exchange WHERE state = 'expired'") == [(0,)]
    for name in BROKERS:
        house.end(name)
        house.restart(name)


def noticed(house: Brokers, name: str, since: int) -> bool:
    return '"readiness"' in house.log(name)[since:]


def test_a_broker_of_another_version_that_was_away_meanwhile_writes_nothing(house: Brokers) -> None:
    made = house.patient_bill(70)
    with psycopg.connect(house.address, autocommit=True) as opened:
        opened.execute("UPDATE alembic_version SET version_num = '0099'")
        try:
            opened.execute(CUT_OFF.encode())
            seen = {name: len(house.log(name)) for name in BROKERS}
            for name in BROKERS:
                until(partial(noticed, house, name, seen[name]), f"{name} is not ready")
            ((size,),) = house.broker_rows("SELECT size FROM head")
            settlement = house.begin(*made)
            assert house.broker_rows("SELECT size FROM head") == [(size,)]
        finally:
            opened.execute("UPDATE alembic_version SET version_num = %s", (versions.NEEDED,))
    assert settled(house, settlement) == FIGURES


def test_a_bell_that_rings_no_more_is_noticed(house: Brokers) -> None:
    listening = "application_name = 'zhifu-bell' AND query LIKE 'LISTEN%'"
    until(lambda: len(backends(house, listening)) == len(BROKERS), "both listen")
    deaf = backends(house, listening)
    for pid in deaf:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: len(backends(house, listening) - deaf) == len(BROKERS), "both listen anew")
    finally:
        for pid in deaf:
            os.kill(pid, signal.SIGCONT)
    assert settled(house, house.begin(*house.patient_bill(75))) == FIGURES


def test_what_was_begun_on_a_lost_connection_does_not_go_on_upon_the_next(server: Server) -> None:
    """There each statement would stand by itself, and PostgreSQL says COMMIT to whoever has no transaction open."""
    store = PostgresStore(server.database())
    with closing(store):
        writing = store.begin()
        store._writer.open().close()
        for step in (partial(writing.insert, tables.Spki, [(b"n" * 32, b"p" * 32)]), store.commit):
            with pytest.raises(Refused, match=r"unavailable\.store"):
                step()
        store.rollback()
        assert store.begin().get(tables.Spki, b"n" * 32) is None
        store.commit()


def test_what_was_sent_into_nowhere_is_given_up(server: Server) -> None:
    """A database whose computer is gone acknowledges nothing, and no keepalive asks about that."""
    with closing(connect(server.database())) as opened, socket.socket(fileno=os.dup(opened.fileno())) as shown:
        assert 0 < shown.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 30_000


async def test_one_operation_that_fails_harms_no_other_of_its_commit(server: Server, tmp_path: Path) -> None:
    """PostgreSQL ends a transaction at the first error, so that all is applied again."""

    def enrolled(texts: Sequence[str], state: Transaction, sequence: Sequenced, now_ms: int) -> list[int]:
        entries = [sequence.record(Meta("subject.enrolled"), Detail(), now_ms).index for _ in texts]
        state.insert(tables.Spki, [(text.encode(), b"participant") for text in texts])
        return entries

    async with rig(tmp_path, address=server.database()) as broker:
        committer = broker.core.committer
        answers = await asyncio.gather(
            *(committer.join(enrolled, text) for text in ("a", "b", "a")), broker.submit(present(broker.statute())),
            return_exceptions=True,
        )  # fmt: skip
        assert [getattr(one, "reason", "") for one in answers] == ["", "", "unavailable.store", ""]
        assert sorted(row.hash for row in broker.rows(tables.Spki) if row.participant == b"participant") == [b"a", b"b"]
        events = Counter(meta.event for _, meta, _ in broker.entries())
        assert (events["subject.enrolled"], events["exchange.accepted"]) == (2, 1)
