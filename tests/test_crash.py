"""Processes that are killed while a settlement runs: it finishes, and nothing is counted twice.

Two ways to die. `kill -9` from outside, at a moment that another process's freezing makes certain; and from inside,
right after the n-th durable commit, before anybody is told of it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from clients.hospital.sample import sample_bill
from tests.house import House, open_house, run, until

FIGURES: Final = {"total_fen": 2_000_000, "public_fen": 1_200_000, "commercial_fen": 800_000, "patient_fen": 0}
# Claim and decision, notice and decision, for two payers; what others pay; the statement.
EXCHANGES: Final = 10
_SEEDS: Final = count(500)
_COMMIT: Final = {
    "broker": ("broker.store.sqlite", "SqliteStore", "commit"),
    "hospital": ("clients.store.database", "Database", "_tell"),
    "public-payer": ("clients.store.database", "Database", "_tell"),
    "insurer": ("clients.store.database", "Database", "_tell"),
}
# What a node keeps fresh beside its work commits when it likes: counted, it would make the n-th commit any commit.
_DIES: Final = """
import asyncio, os, signal
from contextlib import suppress
from pathlib import Path
from {module} import {name}
armed, real = Path({armed!r}), {name}.{method}
def commit(self, *given):
    found = real(self, *given)
    task = None
    with suppress(RuntimeError):  # the broker commits in a thread
        task = asyncio.current_task()
    beside = task is not None and task.get_coro().__name__ in ("_keep_keys", "_keep_house")
    if armed.exists() and not beside:
        left = int(armed.read_text()) - 1
        armed.write_text(str(left))
        if left == 0:
            armed.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    return found
{name}.{method} = commit
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened
        # Whatever was killed before: the log is whole.
        verified = run("audit", "verify", opened.path, "--json").ok().json
        assert verified["verified"] is True
        assert verified["entries"]["exchange.accepted"] == opened.broker_rows("SELECT count(*) FROM exchange")[0][0]


class Discharge:
    """One patient's bill and consent, and what settling it must leave behind, once."""

    def __init__(self, house: House) -> None:
        seed = next(_SEEDS)
        self.house = house
        self.bill = sample_bill(seed)
        patient = house.enrol(self.bill, f"patient-{seed}")
        self.consent, self.grant = house.agree(patient, house.ask(patient, self.bill))
        self._held = {role: len(house.holdings(role)) for role in ("public-payer", "insurer")}
        self._exchanges = self._count()
        self.settlement = ""

    def _count(self) -> int:
        return int(self.house.broker_rows("SELECT count(*) FROM exchange")[0][0])

    def begin(self) -> None:
        self.settlement = self.house.begin(self.bill, self.consent)

    def begin_if_unanswered(self) -> None:
        """The desk was never told: it hands the bill in again, and gets the settlement that there is, or the first."""
        if not self.settlement:
            self.begin()

    def check(self) -> None:
        """It is settled, and everything happened once."""
        found = self.house.finish(self.settlement)
        assert (found["state"], found["reason"]) == ("confirmed", "")
        assert {name: found[name] for name in FIGURES} == FIGURES
        until(lambda: self._count() - self._exchanges >= EXCHANGES, "the statement is sent")
        assert self._count() - self._exchanges == EXCHANGES
        grant = bytes.fromhex(self.grant)
        assert self.house.broker_rows('SELECT uses FROM "grant" WHERE hash = ?', grant) == [(1,)]
        assert self.house.broker_rows("SELECT count(*) FROM grant_use WHERE grant_hash = ?", grant) == [(1,)]
        for role, amount in (("public-payer", 1_200_000), ("insurer", 800_000)):
            holdings = self.house.holdings(role)
            assert len(holdings) == self._held[role] + 1
            assert {(one.state, one.amounts["pay"]) for one in holdings} == {("committed", amount)}


@pytest.fixture
def discharge(house: House) -> Discharge:
    return Discharge(house)


def queued(house: House, role: str) -> Callable[[], bool]:
    """Whether an exchange for ``role`` is accepted and durable, and not acknowledged yet."""
    return lambda: bool(house.broker_rows("SELECT 1 FROM delivery WHERE recipient = ?", house.cast.ids[role]))


# --- from outside -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [pytest.param("public-payer", marks=pytest.mark.soak), "insurer"])
def test_the_broker_is_killed_between_accept_and_answer(house: House, discharge: Discharge, waiting: str) -> None:
    with house.frozen(waiting):
        discharge.begin()
        until(queued(house, waiting), f"an exchange waits for the {waiting}")
        house.kill("broker")
    house.restart("broker")
    discharge.check()


@pytest.mark.parametrize(
    ("killed", "frozen"),
    [
        ("hospital", "insurer"),
        ("public-payer", "public-payer"),
        pytest.param("hospital", "public-payer", marks=pytest.mark.soak),
        pytest.param("insurer", "insurer", marks=pytest.mark.soak),
    ],
)
def test_a_node_is_killed_while_a_claim_waits(house: House, discharge: Discharge, killed: str, frozen: str) -> None:
    with house.frozen(frozen):
        discharge.begin()
        until(queued(house, frozen), f"a claim waits for the {frozen}")
        house.kill(killed)
    house.restart(killed)
    discharge.check()


def test_everything_is_killed_at_once(house: House, discharge: Discharge) -> None:
    with house.frozen("insurer"):
        discharge.begin()
        until(queued(house, "insurer"), "the claim waits for the insurer")
        for role in house.running:
            house.kill(role)
    for role in house.running:
        house.start(role)
    for role in house.running:
        house.ready(role)
    discharge.check()


# --- from inside ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "lives"),
    [
        ("broker", (1, 3)),
        ("insurer", (1, 2)),
        pytest.param("broker", (1, 3, 4), marks=pytest.mark.soak),
        pytest.param("hospital", (3, 4, 5, 6), marks=pytest.mark.soak),
        pytest.param("public-payer", (1, 2, 3), marks=pytest.mark.soak),
        pytest.param("insurer", (1, 2, 3), marks=pytest.mark.soak),
    ],
)
def test_a_process_dies_after_its_nth_commit(
    house: House, discharge: Discharge, tmp_path: Path, role: str, lives: tuple[int, ...]
) -> None:
    """Each life is a few commits long; the next one takes up what is on the disk."""
    module, name, method = _COMMIT[role]
    armed = tmp_path / "armed"
    code = _DIES.format(module=module, name=name, method=method, armed=str(armed))
    house.end(role)
    house.restart(role, code=code)
    for number, commits in enumerate(lives):
        armed.write_text(str(commits))
        if number:
            house.start(role, code=code)
        else:
            with suppress(httpx.TransportError):
                discharge.begin()
        if until(lambda: ended(discharge, role), f"the {role} dies after {commits} commits, or has no more") == "lived":
            armed.unlink(missing_ok=True)
            house.end(role)
            break
        assert house.running[role].process.poll() == -signal.SIGKILL
    house.restart(role)
    discharge.begin_if_unanswered()
    discharge.check()


def ended(discharge: Discharge, role: str) -> str:
    """Whether the process died; or lived through the settlement, for which commits that are grouped were enough."""
    if discharge.house.running[role].process.poll() is not None:
        return "died"
    with suppress(httpx.TransportError):
        if discharge.settlement and discharge.house.look(discharge.settlement)["state"] == "confirmed":
            return "died" if discharge.house.running[role].process.poll() is not None else "lived"
    return ""
