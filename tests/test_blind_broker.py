"""The broker reads nothing: none of a patient's values is in its memory, its database or its log, in any encoding.

Every value of the bill is a canary, drawn so that it cannot be there by chance. The same search finds every one of them
in the hospital's memory: a search that finds nothing anywhere would show nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest

from clients.hospital.sample import sample_bill
from tests.collector import Collector, collecting
from tests.house import NODES, House, Patient, open_house, run, until
from tests.needles import HEAD, LINE, Needles, as_bytes, as_text, needles, search
from tests.troubles import Troubled, Verbose, trouble
from zhifu import bill as bills
from zhifu.keys import participant_id

SEED: Final = 77
PAGE: Final = 4096
OVERLAP: Final = 256
HIDDEN_FROM_INSURERS: Final = (*HEAD[:10], *LINE)


def memory(pid: int, known: set[bytes]) -> bytes:
    """What a process has in all readable mappings, but for pages that are zero or in ``known``, which grows.

    A file's mapping without a page of the process's own holds what the file holds, and is left out.
    """
    pieces: list[bytes] = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as opened:
        for begin, end in _mappings(pid):
            try:
                opened.seek(begin)
                content = opened.read(end - begin)
            except (OSError, OverflowError):
                continue  # the kernel's own pages
            for at in range(0, len(content), PAGE):
                page = content[at : at + PAGE + OVERLAP]
                if page not in known and page.strip(b"\0"):
                    known.add(page)
                    pieces.append(page)
    return b"".join(piece.ljust(PAGE + OVERLAP, b"\0") for piece in pieces)


def _mappings(pid: int) -> Iterator[tuple[int, int]]:
    begin = end = 0
    is_file = readable = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if re.fullmatch("[0-9a-f]+-[0-9a-f]+", words[0]):
            begin, end = (int(word, 16) for word in words[0].split("-"))
            readable, is_file = words[1].startswith("r"), len(words) > 5 and words[5].startswith("/")
        elif words[0] == "Anonymous:" and readable and (not is_file or int(words[1])):
            yield begin, end


# --- one settlement ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settled:
    """The house after a settlement, and what was in the memories: the broker's and the hospital's also halfway.

    Then came what is refused, fails, or is hostile: ``troubled``, whose patient is another.
    """

    house: House
    bill: bytes
    broker: bytes
    hospital: bytes
    insurer: bytes
    secrets: Needles
    troubled: Troubled
    spans: Collector

    @cached_property
    def needles(self) -> Needles:
        return {**needles(self.bill), **self.secrets}

    @cached_property
    def all_needles(self) -> Needles:
        return {**self.needles, **{f"{place}, troubled": found for place, found in self.troubled.needles.items()}}


def secrets(house: House, patient: Patient) -> dict[str, frozenset[bytes]]:
    """What only the two ends know of this patient: a broker that had it could link her, or open the record."""
    subject = participant_id(bytes.fromhex(patient.key))
    with house.store("hospital") as store:
        called = store.pseudonyms.given(house.cast.ids["insurer"], subject)
        (encounter,) = store.jobs.find("encounter")
    (pseudonym,) = called.values()
    return {"pseudonym": as_bytes(pseudonym), "encounter": as_bytes(encounter.payload)}


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settled]:
    bill = sample_bill(SEED, canaries=True)
    path = tmp_path_factory.mktemp("house")
    with collecting() as spans, pytest.MonkeyPatch.context() as patch, open_house(path, kind=Verbose) as house:
        patch.setenv("TMPDIR", str(path / "tmp"))
        patient = house.enrol(bill)
        consent, _ = house.agree(patient, house.ask(patient, bill))
        # The processes are forks of one that never sees a record: what it holds says nothing, and need not be searched.
        blank: set[bytes] = set()
        memory(parent(house.pid("broker")), blank)
        pages = set(blank)
        with house.frozen("insurer"):
            settlement = house.begin(bill, consent)
            until(lambda: claimed(house.look(settlement)), "the insurer's claim is accepted")
            hospital, broker = memory(house.pid("hospital"), set(blank)), memory(house.pid("broker"), pages)
        assert house.finish(settlement)["state"] == "confirmed"
        # It goes behind everything that has somebody waiting at a desk.
        until(
            lambda: len(run("wallet", "statement", patient.wallet, "--json").ok().json) == 1, "the statement is there"
        )
        broker += memory(house.pid("broker"), pages)
        insurer, known = memory(house.pid("insurer"), blank), secrets(house, patient)
        yield Settled(house, bill, broker, hospital, insurer, known, trouble(house), spans)


def parent(pid: int) -> int:
    (found,) = re.findall(r"(?m)^PPid:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text())
    return int(found)


def claimed(found: Mapping[str, Any]) -> bool:
    states = {one["step"]: one["state"] for one in found["exchanges"]}
    return states.get("claim") == states.get("coordination") == "accepted"


def test_the_search_finds_every_value_in_the_hospitals_memory(settled: Settled) -> None:
    columns = {place for place in settled.needles if "column" in place}
    assert set(settled.needles) - columns - search(settled.needles, settled.hospital) == set()


def test_the_brokers_memory(settled: Settled) -> None:
    assert len(settled.broker) > 10_000_000
    own = {"its own origin": as_text("demo.zhifu.example/log")}
    assert search({**settled.needles, **own}, settled.broker) == set(own)


def test_the_search_finds_each_encoding_wherever_it_lies(settled: Settled) -> None:
    begin = settled.broker[:PAGE]
    for number, (place, encodings) in enumerate(settled.needles.items()):
        for one in encodings:
            assert place in search({place: frozenset({one})}, begin + b"." * (number % 8) + one + begin)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_brokers_files(settled: Settled) -> None:
    found = files(settled.house.path / "broker")
    assert {"broker.db", "broker.db-wal", "broker.db-shm", "log.jsonl"} <= {path.name for path in found}
    nothing_in(settled, found)


def nothing_in(settled: Settled, found: list[Path]) -> None:
    """No value and no secret, but for a secret's own file."""
    places = {path: str(path.relative_to(settled.house.path)) for path in found}
    said = {place: search(settled.all_needles, path.read_bytes()) for path, place in places.items()}
    assert {place: names - {f"{place}, troubled"} for place, names in said.items()} == {place: set() for place in said}


@pytest.mark.parametrize("role", ["hospital", "public-payer", "insurer"])
def test_the_nodes_files(settled: Settled, role: str) -> None:
    """Neither a log line nor a row of a node tells a thief of the disk anything: values lie wrapped."""
    found = files(settled.house.path / role)
    assert {"node.db", "node.db-wal", "log.jsonl"} <= {path.name for path in found}
    nothing_in(settled, found)


def test_what_is_left_in_the_folder_for_temporary_files(settled: Settled) -> None:
    nothing_in(settled, files(settled.house.path / "tmp"))


def test_logs_say_what_libraries_say_without_its_text(settled: Settled) -> None:
    """At their most verbose, and all of it JSON."""
    for role in ("broker", *NODES):
        lines = [json.loads(line) for line in settled.house.log(role).splitlines()]
        assert "library" in {line["event"] for line in lines}


def test_what_is_refused_is_refused_without_its_values(settled: Settled) -> None:
    assert search(settled.all_needles, settled.troubled.said) == set()


def test_figures_and_spans(settled: Settled) -> None:
    house = settled.house
    assert isinstance(house, Verbose)
    told = b"".join(house.told(role) for role in ("broker", *NODES))
    until(lambda: len(settled.spans.spans) > 50, "the broker sends its spans")
    assert search(settled.all_needles, told + b"".join(settled.spans.bodies)) == set()


def test_the_insurers_memory(settled: Settled) -> None:
    """Its node never gets what was not released: not even for a moment."""
    hidden = {
        place: found for place, found in settled.needles.items() if place.partition("[")[0] in HIDDEN_FROM_INSURERS
    }
    assert len(hidden) == 10 + 4 * len(bills.parse(settled.bill).lines)
    assert search(hidden, settled.insurer) == set()
