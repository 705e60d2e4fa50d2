"""Each process killed at each step of a settlement: ``python -m tests.soak.settlement``.

The table has a row for every process and every durable step: the n-th commit of its work, after which it is gone before
anybody was told. Settling and taking back both run; afterwards every fen is where the decision put it, once, on both
sides' ledgers, and the day reconciles.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from clients import daybook
from tests.house import House, open_house, run, until
from tests.test_crash import _COMMIT, _DIES, FIGURES, Discharge

STEPS: Final = 11
BACK_STEPS: Final = 4
ROLES: Final = ("broker", "hospital", "public-payer", "insurer")


@dataclass(frozen=True, slots=True)
class Kill:
    """One row: who dies, after which of its commits, while what is done."""

    role: str
    commits: int
    what: str


def table() -> list[Kill]:
    """Every process at each step; 60 rows. Refunds come last: a discharge counts on what stands committed before it."""
    settling = [Kill(role, number, "settle") for role in ROLES for number in range(1, STEPS + 1)]
    return settling + [Kill(role, number, "refund") for role in ROLES for number in range(1, BACK_STEPS + 1)]


def play(house: House, one: Kill) -> bool:
    """Play a row and check what it left; whether the process died (a settlement may have fewer commits)."""
    discharge = Discharge(house)
    if one.what == "refund":
        discharge.begin()
        assert house.finish(discharge.settlement)["state"] == "confirmed"
    with _armed(house, one) as armed:
        with suppress(httpx.TransportError):
            _start(house, discharge, one)
        died = until(lambda: _died(house, discharge, one, armed), f"{one} is over") == "died"
    discharge.begin_if_unanswered()
    if one.what == "settle":
        discharge.check()
    else:
        _check_refund(house, discharge)
    return died


def _start(house: House, discharge: Discharge, one: Kill) -> None:
    if one.what == "settle":
        discharge.begin()
    else:
        house.api("POST", f"/settlements/{discharge.settlement}/refund", {})


class _armed:
    """Within the block the process dies at its n-th commit; after it a process lives that does not."""

    def __init__(self, house: House, one: Kill) -> None:
        self._house, self._one = house, one
        self._file = house.file("armed")

    def __enter__(self) -> Path:
        module, name, method = _COMMIT[self._one.role]
        code = _DIES.format(module=module, name=name, method=method, armed=str(self._file))
        self._house.end(self._one.role)
        self._house.restart(self._one.role, code=code)
        self._file.write_text(str(self._one.commits))
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.unlink(missing_ok=True)
        if self._house.running[self._one.role].process.poll() is None:
            self._house.end(self._one.role)
        self._house.restart(self._one.role)


def _died(house: House, discharge: Discharge, one: Kill, armed: Path) -> str:
    if house.running[one.role].process.poll() is not None:
        assert house.running[one.role].process.poll() == -signal.SIGKILL
        return "died"
    if not discharge.settlement:
        return ""
    with suppress(httpx.TransportError):
        ended = house.look(discharge.settlement)["state"] in ("confirmed", "reversed")
        over = "reversed" if one.what == "refund" else "confirmed"
        if ended and house.look(discharge.settlement)["state"] == over:
            time.sleep(0.2)  # the statement follows
            return "died" if house.running[one.role].process.poll() is not None else "lived"
    return ""


def _check_refund(house: House, discharge: Discharge) -> None:
    """A process that died before it wrote the wish down was never told: then it is asked again, and done once."""
    if house.look(discharge.settlement)["state"] == "confirmed":
        house.api("POST", f"/settlements/{discharge.settlement}/refund", {})
    state = until(lambda: house.look(discharge.settlement)["state"] == "reversed", "the refund is done")
    assert state
    for role, amount in (("public-payer", "public_fen"), ("insurer", "commercial_fen")):
        taken = [one for one in house.holdings(role) if one.state == "reversed"]
        assert FIGURES[amount] in {one.amounts["pay"] for one in taken}


def _reconciled(house: House) -> Iterator[str]:
    """Both sides' ledgers against each other, for today."""
    day = daybook.day_of(int(time.time())).isoformat()
    statements = [house.day("payer", "public-payer", day), house.day("insurer", "insurer", day)]
    found = run("reconcile", house.path / "hospital", day, *statements, "--json")
    for row in found.json["differences"]:
        yield f"{row['what']}: here {row['here']} {row['here_fen']}, there {row['there']} {row['there_fen']}"
    for role in ("public-payer", "insurer"):
        hanging = [one for one in house.holdings(role) if one.state == "reserved"]
        yield from (f"{role}: a reservation hangs" for _ in hanging)


@dataclass(frozen=True, slots=True)
class Survived:
    """How many rows were played, in how many of them the process died, and what did not hold afterwards."""

    rows: int
    died: int
    faults: tuple[str, ...]


def run_table(say: Callable[[str], None], rows: Sequence[Kill] = ()) -> Survived:
    """Play every row, or those given, in one house, so that ledgers and the day must bear all of them together."""
    died, faults, rows = 0, [], rows or table()
    with tempfile.TemporaryDirectory(prefix="zhifu-kills-") as folder, open_house(Path(folder)) as house:
        for number, one in enumerate(rows, start=1):
            try:
                died += play(house, one)
            except AssertionError as error:
                faults.append(f"{one}: {error}")
                say(f"fault in {faults[-1]}")
            say(f"{number}/{len(rows)} {one.role} commit {one.commits} {one.what}")
        faults += list(_reconciled(house))
    return Survived(len(rows), died, tuple(faults))


def main() -> int:
    """Run the whole table; 1 where something did not hold."""
    found = run_table(lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{found.rows} cases, {found.died} processes killed, {len(found.faults)} faults", *found.faults, sep="\n")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
