"""``zhifu demo`` and ``zhifu audit verify`` as other programs run them: the contract, word by word."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from clients.hospital.sample import sample_bill
from tests.house import PATIENCE_S, Ran, python, run, until
from zhifu import bill as bills
from zhifu import schema
from zhifu.errors import Malformed

# product -> what public payer, insurer and patient pay, in fen (SETTLEMENT 4A).
FIGURES: Final[Mapping[str, tuple[int, int, int]]] = {
    "full": (1_200_000, 800_000, 0),
    "deductible-10000": (1_200_000, 0, 800_000),
    "in-catalog": (1_200_000, 550_000, 250_000),
    "no-insurance-60": (0, 1_200_000, 800_000),
    "no-insurance-60-deductible": (0, 600_000, 1_400_000),
}
ROLES: Final = {"hospital", "public-payer", "insurer", "patient", "auditor"}
PURPOSES: Final = {"public-settlement", "commercial-settlement", "statement"}
RUN: Final = ("full", "no-insurance-60")
"""Each route, the second with a patient who pays a part. `make soak` runs the others, whose figures
`tests.test_product` has.
"""
KEPT: Final = "full"
OTHER_BILL: Final = "no-insurance-60"
LIMIT_S: Final = 60.0
"""It is to take under 10 s on an idle computer; here others compete for it, so this only finds one that hangs. Where
more programs want to run than there are cores, it may take longer by as much.
"""


@dataclass(frozen=True, slots=True)
class Demos:
    """A run of the demo for each of `RUN`, and one that tells the story. ``kept`` was kept from the run of `KEPT`: that
    was a program of its own, the others ran here.
    """

    ran: Mapping[str, Ran]
    took_s: Mapping[str, float]
    kept: Path
    crowd: float

    @property
    def story(self) -> str:
        return self.ran["story"].ok().out

    def document(self, product: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ran[product].ok().json
        return found


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demos:
    kept, file = tmp_path_factory.mktemp("demo") / "kept", tmp_path_factory.mktemp("bill") / "bill.json"
    file.write_bytes(sample_bill(90))
    more = {KEPT: ("--keep", str(kept)), OTHER_BILL: ("--bill", str(file))}

    def one(name: str, demo: Callable[..., Ran]) -> tuple[str, Ran, float]:
        begun = time.monotonic()
        chosen = ("--json", "--product", name) if name in RUN else ()
        return name, demo("demo", *chosen, *more.get(name, ())), time.monotonic() - begun

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as beside:
        typed = beside.submit(one, KEPT, program)
        done = [one(name, run) for name in (*RUN, "story") if name != KEPT]
        done.append(typed.result())
    signal.signal(signal.SIGTERM, before)
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return Demos({name: ran for name, ran, _ in done}, {name: took for name, _, took in done}, kept, crowd)


def program(*words: str) -> Ran:
    """``zhifu`` as other programs run it, in a Python of its own."""
    ran = subprocess.run(python(*words), capture_output=True, text=True, timeout=4 * LIMIT_S)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture(params=RUN)
def document(request: pytest.FixtureRequest, demos: Demos) -> dict[str, Any]:
    return demos.document(request.param)


# --- the document -----------------------------------------------------------------------------------------------------


def test_nothing_but_one_document_is_on_stdout(demos: Demos) -> None:
    for product in RUN:
        ran = demos.ran[product].ok()
        assert ran.out == ran.out.strip() + "\n"
        json.loads(ran.out)
        assert ran.err == ""


@pytest.mark.parametrize("product", RUN)
def test_figures_to_the_fen(demos: Demos, product: str) -> None:
    to_the_fen(demos.document(product), product)


@pytest.mark.soak
@pytest.mark.parametrize("product", sorted(set(FIGURES) - set(RUN)))
def test_figures_of_the_other_products(product: str) -> None:
    to_the_fen(program("demo", "--json", "--product", product).ok().json, product)


def to_the_fen(found: Mapping[str, Any], product: str) -> None:
    assert found["total_fen"] == 2_000_000
    assert (found["public_fen"], found["commercial_fen"], found["patient_fen"]) == FIGURES[product]
    assert found["total_fen"] == found["public_fen"] + found["commercial_fen"] + found["patient_fen"]


def test_keys_and_types(document: dict[str, Any]) -> None:
    assert set(document) == {
        "total_fen", "public_fen", "commercial_fen", "patient_fen", "exchanges", "audit", "processes", "settlement_ms",
        "data_dir",
    }  # fmt: skip
    for name in ("total_fen", "public_fen", "commercial_fen", "patient_fen", "settlement_ms"):
        assert type(document[name]) is int
    assert document["settlement_ms"] > 0
    for one in document["exchanges"]:
        assert set(one) == {"id", "purpose", "sender", "recipient", "state", "sealed", "ceiling", "released"}
        assert len(bytes.fromhex(one["id"])) == 32
        assert one["purpose"] in PURPOSES
        assert {one["sender"], one["recipient"]} <= ROLES
        assert one["state"] in ("delivered", "answered")
        for levels in (one["sealed"], one["ceiling"], one["released"]):
            assert all(type(name) is str for name in levels)
            assert all(level is None or (type(level) is int and level >= 0) for level in levels.values())
    assert len({one["id"] for one in document["exchanges"]}) == len(document["exchanges"])


def test_audit_and_processes(document: dict[str, Any]) -> None:
    audit, processes = document["audit"], document["processes"]
    assert set(audit) == {"origin", "size", "root", "verified"}
    assert type(audit["origin"]) is str
    assert audit["origin"]
    assert type(audit["size"]) is int
    assert audit["size"] > len(document["exchanges"])
    assert len(bytes.fromhex(audit["root"])) == 32
    assert audit["verified"] is True
    assert all(set(one) == {"role", "pid"} and type(one["pid"]) is int for one in processes)
    assert {one["role"] for one in processes} == {*ROLES, "broker"}
    assert len({one["pid"] for one in processes}) == len(processes)


def test_exchanges_of_every_kind(demos: Demos) -> None:
    def kinds(product: str) -> set[tuple[str, str, str]]:
        return {(one["purpose"], one["sender"], one["recipient"]) for one in demos.document(product)["exchanges"]}

    commercial = {
        ("commercial-settlement", "hospital", "insurer"),
        ("commercial-settlement", "insurer", "hospital"),
        ("statement", "hospital", "patient"),
    }
    public = {
        ("public-settlement", "hospital", "public-payer"),
        ("public-settlement", "public-payer", "hospital"),
    }
    assert kinds("full") == commercial | public
    assert kinds("no-insurance-60") == commercial


def test_released_is_never_finer_than_the_ceiling_nor_that_than_what_was_sealed(document: dict[str, Any]) -> None:
    absent = 1_000
    for one in document["exchanges"]:
        sealed, ceiling, released = one["sealed"], one["ceiling"], one["released"]
        assert set(sealed) == set(ceiling) == set(released)
        for unit, finest in sealed.items():
            ranks = [absent if level is None else level for level in (finest, ceiling[unit], released[unit])]
            assert ranks == sorted(ranks), (one["purpose"], unit)


def test_who_sees_what(document: dict[str, Any]) -> None:
    """The claim is one record: the insurer never gets who it is about; statute gives the public payer name and ID."""
    units = {unit.name for unit in schema.load("inpatient-claim").units}
    claims = {one["recipient"]: one for one in document["exchanges"] if set(one["sealed"]) == units}
    for unit in ("name", "citizen-id", "phone", "address", "insured-number", "item-names", "sensitive-diagnosis"):
        assert claims["insurer"]["ceiling"][unit] is None
        assert claims["insurer"]["released"][unit] is None
    assert claims["insurer"]["released"]["diagnosis"] == 1
    assert claims["insurer"]["released"]["birth-date"] == 2
    assert claims["insurer"]["released"]["totals"] == 0
    if "public-payer" in claims:
        assert claims["public-payer"]["released"]["name"] == claims["public-payer"]["released"]["citizen-id"] == 0
        assert claims["public-payer"]["released"]["phone"] is None
    assert all(one["sealed"] == dict.fromkeys(units, 0) for one in claims.values())


def test_it_does_not_take_long(demos: Demos) -> None:
    assert max(demos.took_s.values()) < LIMIT_S * demos.crowd


# --- the story --------------------------------------------------------------------------------------------------------


def test_the_story_is_told_in_chinese_and_english(demos: Demos) -> None:
    for words in ("经办平台 broker", "谁付多少", "Who pays what", "20,000.00", "12,000.00", "8,000.00", "审计"):
        assert words in demos.story
    assert "\x1b" not in demos.story
    assert "Traceback" not in demos.ran["story"].err


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_data_is_kept_where_it_was_asked_for_and_only_then(demos: Demos) -> None:
    assert {product: demos.document(product)["data_dir"] for product in RUN} == {
        **dict.fromkeys(RUN), KEPT: str(demos.kept)
    }  # fmt: skip
    for role in ("broker", "hospital", "public-payer", "insurer"):
        lines = (demos.kept / role / "log.jsonl").read_text("utf-8").splitlines()
        assert role == "broker" or lines
        assert all(isinstance(json.loads(line), dict) for line in lines)
    for role in ("hospital", "public-payer", "insurer"):
        assert (demos.kept / role / "node.db").stat().st_size > 0
    assert (demos.kept / "patient").is_dir()
    assert (demos.kept / "auditor").is_dir()
    assert (demos.kept / "broker" / "broker.db").stat().st_size > 0


def test_what_is_kept_is_for_its_owner_only(demos: Demos) -> None:
    open_to_others = [path for path in demos.kept.rglob("*") if path.stat().st_mode & 0o077]
    assert [path for path in open_to_others if path.is_file()] == []
    assert demos.kept.stat().st_mode & 0o077 == 0


def test_no_process_outlives_the_demo(demos: Demos) -> None:
    for product in RUN:
        for one in demos.document(product)["processes"]:
            assert not Path(f"/proc/{one['pid']}/cmdline").exists() or b"zhifu-demo" not in cmdline(one["pid"])


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_folder_with_something_in_it_is_not_written_over(demos: Demos, tmp_path: Path) -> None:
    before = sorted(demos.kept.rglob("*"))
    file = tmp_path / "file"
    file.touch()
    for place in (demos.kept, file):
        ran = run("demo", "--json", "--keep", place)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.count("\n") == 1
        assert str(place) in ran.err
    assert sorted(demos.kept.rglob("*")) == before


def children(pid: int) -> dict[int, bytes]:
    """The processes that ``pid`` started, with their command lines."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return {}
    return {int(child): cmdline(int(child)) for child in listed}


def test_whoever_ends_the_demo_ends_its_processes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    demo = subprocess.Popen(
        python("demo", "--json", "--keep", str(kept)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: (kept / "broker" / "ports.json").exists(), "the broker serves")
        started = [pid for pid, words in children(demo.pid).items() if b"serve" in words]
        assert started
        demo.send_signal(signal.SIGTERM)
        out, err = demo.communicate(timeout=PATIENCE_S)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 128 + signal.SIGTERM
    assert out == ""
    assert "Traceback" not in err
    assert [pid for pid in started if str(kept).encode() in cmdline(pid)] == []


# --- the audit of what is kept ----------------------------------------------------------------------------------------


@pytest.fixture
def copied(demos: Demos, tmp_path: Path) -> Path:
    """What the auditor needs of the kept folder, to be tampered with."""
    for role in ("broker", "auditor"):
        shutil.copytree(demos.kept / role, tmp_path / role)
    return tmp_path


def test_the_kept_log_verifies(demos: Demos, copied: Path) -> None:
    ran = program("audit", "verify", str(copied), "--json").ok()
    found = demos.document(KEPT)["audit"]
    assert {name: ran.json[name] for name in found} == found
    assert run("audit", "verify", copied).ok().out


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ('UPDATE entry SET time_ms = time_ms + 1 WHERE "index" = 9', ()),
        ('UPDATE tree_node SET hash = zeroblob(32) WHERE level = 0 AND "index" = 9', ("--json",)),
        pytest.param(
            'UPDATE entry SET detail = zeroblob(length(detail)) WHERE "index" = 9', (), marks=pytest.mark.soak
        ),
        pytest.param('DELETE FROM entry WHERE "index" = 9', ("--json",), marks=pytest.mark.soak),
    ],
)
def test_a_tampered_log_does_not(copied: Path, change: str, more: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(copied / "broker" / "broker.db")) as opened:
        assert opened.execute(change).rowcount == 1
        opened.commit()
    ran = run("audit", "verify", copied, *more)
    assert ran.code == 5
    assert "entry 9" in ran.err
    assert ran.err.count("\n") == 1
    assert not more or ran.json["verified"] is False


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    ran = run("audit", "verify", tmp_path / "nowhere", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1


def test_the_bill_of_the_other_file_was_settled(demos: Demos) -> None:
    """The same figures, another person: the audit cannot tell, so the file is made to matter here."""
    broken = json.loads(sample_bill(90))
    broken["setlinfo"]["medfee_sumamt"] = "20000.01"
    with pytest.raises(Malformed, match="identity 1"):
        bills.parse(json.dumps(broken).encode())
    assert demos.document(OTHER_BILL)["total_fen"] == 2_000_000
