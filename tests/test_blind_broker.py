"""The broker reads nothing: none of a patient's values is in its memory, its database or its log, in any encoding.

Every value of the bill is a canary, drawn so that it cannot be there by chance. The same search finds every one of them
in the hospital's memory: a search that finds nothing anywhere would show nothing.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

from clients.hospital.sample import sample_bill
from tests.house import House, Patient, open_house, run, until
from zhifu import bill as bills
from zhifu import money
from zhifu.keys import participant_id

SEED: Final = 77
PAGE: Final = 4096
OVERLAP: Final = 256
TEXTS: Final = ("utf-8", "utf-16-le", "gb18030")
# Dates, sex, ICD-10 codes and the interface's own code values cannot be told from chance (clients.hospital.sample).
HEAD: Final = ("psn_name", "certno", "tel", "addr", "psn_no", "bankacct", "mdtrt_id", "medcasno", "setl_id", "invono",
               "fixmedins_code", "fixmedins_name")  # fmt: skip
LINE: Final = ("med_list_codg", "medins_list_name", "bilg_dr_name", "bilg_dept_name")
HIDDEN_FROM_INSURERS: Final = (*HEAD[:10], *LINE)

Needles = Mapping[str, frozenset[bytes]]
"""What is looked for: the encodings of each value by its place in the bill."""


# --- what is looked for -----------------------------------------------------------------------------------------------


def as_text(value: str) -> frozenset[bytes]:
    """A text in every character set, and its UTF-8 in base64 (at each of the three places in a group) and in hex."""
    plain = value.encode()
    coded = [base64.b64encode(b"\0" * shift + plain) for shift in range(3)]
    # The first and the last group hold bits of the neighbours.
    inner = [text[4 * (shift > 0) : -4] for shift, text in enumerate(coded)]
    encoded = {value.encode(name) for name in TEXTS} | {plain.hex().encode(), plain.hex().upper().encode(), *inner}
    return frozenset(one for one in encoded if len(one) >= 7)


def as_bytes(value: bytes) -> frozenset[bytes]:
    return frozenset({value}) | as_text(value.hex()) | as_text(base64.b64encode(value).decode())


def as_amount(value: int, *written: str) -> frozenset[bytes]:
    """A number as text, in CBOR, and as Python holds it. Eight bytes alone could be there by chance."""
    python = [struct.pack("<qI", size, value) for size in (1, 8)]  # one digit: CPython 3.11, and from 3.12 on
    texts = [
        name for text in (*written, str(value)) if len(text) >= 6 for name in (text.encode(), text.encode(TEXTS[1]))
    ]
    return frozenset({b"\x1a" + struct.pack(">I", value), *python, *texts})


def as_column(values: Sequence[int]) -> frozenset[bytes]:
    """Four neighbours in a column, as CBOR and as arrays of machine integers of either order and width."""
    fours = [values[at : at + 4] for at in range(len(values) - 3)]
    packed = {struct.pack(form, *four) for four in fours for form in ("<4i", ">4i", "<4q", ">4q")}
    return frozenset(packed | {b"".join(b"\x1a" + struct.pack(">I", one) for one in four) for four in fours})


def needles(content: bytes) -> dict[str, frozenset[bytes]]:
    document, bill = json.loads(content), bills.parse(content)
    found = {name: as_text(document["setlinfo"][name]) for name in HEAD}
    for number, (row, line) in enumerate(zip(document["feedetail"], bill.lines, strict=True)):
        found |= {f"{name}[{number}]": as_text(row[name]) for name in LINE}
        found[f"pric[{number}]"] = as_amount(line.pric, row["pric"])
        found[f"amt[{number}]"] = as_amount(line.amt, row["amt"])
    for number, row in enumerate(document["diseinfo"]):
        found[f"diag_name[{number}]"] = as_text(row["diag_name"])
    for name in ("total", "own", "over", "pre", "inscp"):
        amount = getattr(bill.split, name)
        found[name] = as_amount(amount, money.yuan(amount))
    for name in ("pric", "amt", "cnt"):
        found[f"{name} as a column"] = as_column([getattr(line, name) for line in bill.lines])
    return found


# --- the search -------------------------------------------------------------------------------------------------------


def search(wanted: Needles, where: bytes) -> set[str]:
    """The places of the bill of which some encoding occurs in ``where``."""
    every = {one for encodings in wanted.values() for one in encodings}
    short = {one for one in every if len(one) < 15}
    present = _long(every - short, where) | _short(short, where)
    return {place for place, encodings in wanted.items() if encodings & present}


def _long(wanted: set[bytes], where: bytes) -> set[bytes]:
    """Of 15 bytes, eight begin at a multiple of eight, wherever they lie: so memory is read once, by such words."""
    by_word: dict[int, set[bytes]] = {}
    for one in wanted:
        for shift in range(8):
            by_word.setdefault(struct.unpack_from("=Q", one, shift)[0], set()).add(one)
    words = memoryview(where)[: len(where) // 8 * 8].cast("Q")
    candidates = {one for word in by_word.keys() & set(by_word.keys()).intersection(words) for one in by_word[word]}
    return {one for one in candidates if one in where}


def _short(wanted: set[bytes], where: bytes) -> set[bytes]:
    found: set[bytes] = set()
    for _, alike in groupby(sorted(wanted), key=lambda one: one[:1]):
        # The longest first, or a shorter one that it begins with would hide it.
        words = sorted(alike, key=len, reverse=True)
        found |= set(re.findall(b"|".join(map(re.escape, words)), where, re.DOTALL))
    return found | {one for one in wanted if any(one in other for other in found)}


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
    """The house after a settlement, and what was in the memories: the broker's and the hospital's also halfway."""

    house: House
    bill: bytes
    broker: bytes
    hospital: bytes
    insurer: bytes
    secrets: Needles

    @cached_property
    def needles(self) -> Needles:
        return {**needles(self.bill), **self.secrets}


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
    with open_house(tmp_path_factory.mktemp("house")) as house:
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
        yield Settled(house, bill, broker, hospital, memory(house.pid("insurer"), blank), secrets(house, patient))


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
    assert {path.name: search(settled.needles, path.read_bytes()) for path in found} == {
        path.name: set() for path in found
    }


@pytest.mark.parametrize("role", ["hospital", "public-payer", "insurer"])
def test_the_nodes_files(settled: Settled, role: str) -> None:
    """Neither a log line nor a row of a node tells a thief of the disk anything: values lie wrapped."""
    found = files(settled.house.path / role)
    assert {"node.db", "node.db-wal", "log.jsonl"} <= {path.name for path in found}
    for path in found:
        assert search(settled.needles, path.read_bytes()) == set(), path.name


def test_the_insurers_memory(settled: Settled) -> None:
    """Its node never gets what was not released: not even for a moment."""
    hidden = {
        place: found for place, found in settled.needles.items() if place.partition("[")[0] in HIDDEN_FROM_INSURERS
    }
    assert len(hidden) == 10 + 4 * len(bills.parse(settled.bill).lines)
    assert search(hidden, settled.insurer) == set()
