"""What commands say when something is wrong: one clear line on stderr, nothing on stdout, the right exit code."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console
from rich.table import Table

from clients import command
from clients.auditor.report import FirstBad, Report, Violation
from clients.hospital.sample import sample_bill
from clients.patient import claim_cli
from tests.house import House, Ran, open_house, operate, run, spawn
from zhifu.errors import CATALOGUE, Exit

CLOCK_OFF: Final = """
import time, types
import grpc.aio._utils
real_time, real_ns = time.time, time.time_ns
# gRPC counts its deadlines by the real clock in C, which is not moved here.
grpc.aio._utils.time = types.SimpleNamespace(time=real_time)
time.time, time.time_ns = lambda: real_time() + {0}, lambda: real_ns() + {0} * 10**9
"""


def refused(ran: Ran, code: Exit, *words: str) -> None:
    """One line that says what is wrong, and nothing that a program behind it could take for data."""
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("zhifu")
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err


# --- bad input --------------------------------------------------------------------------------------------------------


def changed(**head: object) -> bytes:
    document = json.loads(sample_bill(8))
    document["setlinfo"] |= head
    return json.dumps(document, ensure_ascii=False).encode()


BILLS: Final = {
    "no JSON": (b"{", "bill."),
    "not text": (b"\xff\xfe\x00", "bill."),
    "empty": (b"", "bill."),
    "another document": (b'{"resourceType": "Patient"}', "bill."),
    "a total that is none": (changed(medfee_sumamt="much"), "medfee_sumamt"),
    "a sum that does not hold": (changed(medfee_sumamt="20000.01"), "identity 1"),
}


@pytest.mark.parametrize("name", BILLS)
def test_a_malformed_bill_starts_nothing(tmp_path: Path, name: str) -> None:
    content, said = BILLS[name]
    bill, kept = tmp_path / "bill.json", tmp_path / "kept"
    bill.write_bytes(content)
    refused(run("demo", "--json", "--bill", bill, "--keep", kept), Exit.USAGE, said)
    refused(
        run("record", "explain", bill, "--recipient", "insurer", "--purpose", "commercial-settlement", "--json"),
        Exit.USAGE, said,
    )  # fmt: skip
    assert not kept.exists()


def test_a_line_at_fault_is_named(tmp_path: Path) -> None:
    """As a process of its own, which is what other programs run."""
    document = json.loads(sample_bill(8))
    document["feedetail"][2]["amt"] = "0.01"
    bill = tmp_path / "bill.json"
    bill.write_text(json.dumps(document), "utf-8")
    refused(spawn("demo", "--json", "--bill", bill), Exit.USAGE, "line 3")


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--bill", "missing.json"),
        ("audit", "verify", "missing"),
        ("record", "explain", "missing.json", "--recipient", "insurer", "--purpose", "commercial-settlement"),
        ("wallet", "review", "missing", "missing.request"),
        ("wallet", "history", "missing"),
        ("node", "serve", "missing"),
        ("node", "card", "missing"),
        ("doctor", "missing"),
        ("node", "enrol", "fresh", "--invitation", "missing"),
        ("hospital", "settle", "missing", "--bill", "missing.json"),
        ("broker", "serve", "missing"),
        ("policy", "check", "missing"),
    ],
    ids=" ".join,
)
def test_a_missing_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    refused(spawn(*words) if words[0] == "broker" else run(*words), Exit.USAGE, "missing")


def test_words_that_are_none() -> None:
    for words in (("demo", "--product", "nothing"), ("nonsense",), ("demo", "--nonsense"), ("record", "explain")):
        ran = run(*words)
        assert (ran.code, ran.out) == (Exit.USAGE, "")
        assert "Traceback" not in ran.err
    refused(run("demo", "--product", "nothing"), Exit.USAGE, "in-catalog")


# --- numbers that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "broker serve missing --node-port 70000",
        "broker serve missing --log-port -1",
        f"broker pseudonym-quota missing --recipient {'00' * 32} --operator a.key -o q --allowed -5",
        "wallet serve missing --port 70000",
        "node serve missing --api-port 70000",
    ],
)
def test_a_number_that_does_not_fit(words: str) -> None:
    ran = spawn(*words.split())
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert words.split()[-2] in ran.err
    assert "Traceback" not in ran.err


def test_one_operator_is_not_two(tmp_path: Path) -> None:
    """A file that no service takes was found out when it was handed in."""
    one, broker, quota = tmp_path / "one.key", tmp_path / "broker", tmp_path / "quota"
    operate("init", broker, "--origin", "log.example/other", "--operator", one)
    asked = ("broker", "pseudonym-quota", broker, "--recipient", "01" * 32, "--allowed", "5", "-o", quota)
    refused(spawn(*asked, "--operator", one, "--operator", one), Exit.USAGE, "one operator signs twice")
    assert not quota.exists()
    spawn(*asked, "--operator", one).ok()
    refused(
        spawn("broker", "pseudonym-countersign", broker, quota, "--operator", one),
        Exit.USAGE,
        "one operator signs twice",
    )


# --- what is not there, or not now ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use(house: House, taken: int, tmp_path: Path) -> None:
    operate("init", tmp_path / "broker", "--origin", "log.example/other")
    for option in ("--node-port", "--public-port"):
        ran = spawn("broker", "serve", tmp_path / "broker", option, taken)
        refused(ran, Exit.UNAVAILABLE, "unavailable.port", str(taken))
    house.end("hospital")
    try:
        ran = spawn("node", "serve", house.path / "hospital", "--api-port", taken)
        refused(ran, Exit.UNAVAILABLE, "unavailable.port", str(taken))
    finally:
        house.restart("hospital")


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_an_hour_off(house: House, seconds: int) -> None:
    """Ahead, the broker's own clock says so; behind, what the registrar signed is not of this hour yet, or the same."""
    house.end("public-payer")
    try:
        ran = spawn("node", "serve", house.path / "public-payer", code=CLOCK_OFF.format(seconds))
        lines = [line for line in ran.err.splitlines() if not line.startswith("{")]
        refused(Ran(ran.code, ran.out, "\n".join(lines) + "\n"), Exit.UNAVAILABLE, "unavailable.clock")
    finally:
        house.restart("public-payer")


def test_a_broker_that_cannot_be_reached(house: House) -> None:
    bill = sample_bill(801)
    patient = house.enrol(bill)
    request = house.ask(patient, bill)
    invitation = house.file("invitation", (house.path / "desk" / "insurer.invitation").read_bytes())
    house.end("broker")
    try:
        for words in (
            ("wallet", "history", patient.wallet),
            ("wallet", "statement", patient.wallet),
            ("wallet", "grant", patient.wallet, request, "-o", house.file("consent")),
            ("node", "enrol", house.path / "fresh", "--invitation", invitation),
        ):
            refused(run(*words), Exit.UNAVAILABLE, "unavailable.broker")
        # What is settled waits for the broker, and the command for the settlement no longer than it was told.
        ran = house.settle(bill, None, "--timeout", "1")
        refused(ran, Exit.UNAVAILABLE)
    finally:
        house.restart("broker")


def test_a_node_that_does_not_run(house: House) -> None:
    house.end("hospital")
    try:
        refused(house.settle(sample_bill(802), None), Exit.UNAVAILABLE)
        # Its port is somebody else's by now, who gets neither its token nor the bill nor the cashier.
        port = int((house.path / "hospital" / "api.port").read_text())
        with socket.create_server(("127.0.0.1", port)) as stranger:
            stranger.setblocking(False)
            refused(house.settle(sample_bill(802), None), Exit.UNAVAILABLE, "not running")
            refused(run("hospital", "cashier", house.path / "hospital"), Exit.UNAVAILABLE, "not running")
            with pytest.raises(BlockingIOError):
                stranger.accept()
    finally:
        house.restart("hospital")


def test_every_reason_has_an_exit_code_of_the_contract() -> None:
    assert {int(one.exit) for one in CATALOGUE.values()} <= {int(code) for code in Exit} == set(range(7))


# --- somebody else's words --------------------------------------------------------------------------------------------


def test_what_a_log_says_is_shown_in_a_report_and_not_understood() -> None:
    bad, screen = FirstBad(3, "log.corrupt", "[/] [green]verified"), io.StringIO()
    told = Violation(1, 2, "a" * 64, "b" * 64, "inpatient-claim", "[/] [green]verified")
    Report("log.example", 4, "", False, {}, 0, 0, (told,), bad).show(Console(file=screen, width=200))
    assert screen.getvalue().count("[/] [green]verified") == 2


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command_ = [sys.executable, "-P", "-m", "clients", "hospital", "sample-bill"]
        done = subprocess.run(command_, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == Exit.USAGE, done.stderr
    assert done.stderr.count("\n") == 1


def test_words_in_a_table_are_shown_and_not_understood() -> None:
    table, out = Table("who", "what"), io.StringIO()
    command.row(table, "[red]示例医院[/red]", "one\x1b[2Jline\nand\u202eanother", style="bold")
    Console(file=out, width=80, force_terminal=True).print(table)
    assert "[red]示例医院[/red]" in out.getvalue()
    assert "one\\x1b[2Jline" in out.getvalue()
    assert "and\\u202eanother" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert "\u202e" not in out.getvalue()


def test_what_is_wider_than_its_column_is_whole() -> None:
    table, out = Table("claim", "state"), io.StringIO()
    command.row(table, "review.not_settled_publicly", "等待您补充材料，时限暂停")
    Console(file=out, width=24).print(table)
    assert "…" not in out.getvalue()


def test_what_an_insurer_asks_for_is_shown_and_not_understood(capsys: pytest.CaptureFixture[str]) -> None:
    named = {"hospital": "示例医院", "insurer": "示例保险", "state_words": "待补件"}
    row: dict[str, Any] = {"claim": "00" * 16, **named, "paid": {}, "pay_fen": None, "words": ["[red]send\x1b[2Jit"]}
    claim_cli.show([row], "en", as_json=False)
    said = capsys.readouterr()
    assert "[red]send\\x1b[2Jit" in said.err
    assert "\x1b[2J" not in said.err + said.out


def test_what_runs_is_not_started_twice(house: House, tmp_path: Path) -> None:
    """And what runs goes on being found: the second process wrote its own ports over the first one's."""
    hospital, broker = house.path / "hospital", house.path / "broker"
    before = [(hospital / "api.port").read_text(), (broker / "ports.json").read_text()]
    refused(spawn("node", "serve", hospital), Exit.USAGE, "another process runs the node", "hospital")
    refused(spawn("broker", "serve", broker), Exit.USAGE, "another process serves", "broker")
    assert [(hospital / "api.port").read_text(), (broker / "ports.json").read_text()] == before
    assert isinstance(run("hospital", "claims", hospital, "--json").ok().json, list)


def test_a_file_that_cannot_be_written(house: House, tmp_path: Path) -> None:
    for words in (("invite", "--role", "hospital", "--name", "x"), ("contact",)):
        ran = spawn("broker", words[0], house.path / "broker", *words[1:], "-o", tmp_path / "nowhere" / "out.json")
        refused(ran, Exit.USAGE, "nowhere", "No such file")


def test_a_list_with_nothing_in_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    empty, table = Table("claim"), Table("claim")
    command.show(empty, "no claims")
    assert capsys.readouterr() == ("", "no claims\n")
    command.row(table, "ab")
    command.show(table, "no claims")
    shown = capsys.readouterr()
    assert "ab" in shown.out
    assert shown.err == ""
