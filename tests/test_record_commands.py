"""``zhifu record seal | gate | open | risk | explain`` on files: what they write, what they refuse, what they count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clients.hospital.sample import sample_bill
from clients.record import files
from clients.record.cli import app

runner = CliRunner()


def run(*arguments: object) -> tuple[int, str, str]:
    result = runner.invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout, result.stderr


def run_json(*arguments: object) -> dict[str, Any]:
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    path = tmp_path / "bill.json"
    path.write_bytes(sample_bill(3))
    return path


def through(bill: Path, *options: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Seal, gate and open: (the gated file, what sealing and what opening said)."""
    out, gated = bill.with_name("r.sealed"), bill.with_name("r.gated")
    made = run_json("seal", bill, "-o", out, *options)
    run_json("gate", out, "-o", gated)
    return gated, made, run_json("open", gated, "--secret", bill.with_name("r.sealed.recipient"))


def test_a_record_goes_through_three_hands(bill: Path) -> None:
    gated, made, opened = through(bill)
    assert opened["values"]["birth-date"] % 10 == 0
    assert "name" not in opened["values"]
    assert opened["released"] == made["ceiling"]
    assert set(made["sealed"].values()) == {0}
    # What was dropped is not in the file any more.
    assert gated.stat().st_size < bill.with_name("r.sealed").stat().st_size
    for path in bill.parent.glob("r.*"):
        assert path.stat().st_mode & 0o077 == 0


def test_explain_says_what_opening_shows(bill: Path) -> None:
    _, _, opened = through(bill)
    explained = run_json("explain", bill, "--recipient", "insurer", "--purpose", "commercial-settlement")
    for row in explained["units"]:
        assert opened["released"][row["unit"]] == row["released"]
        if row["unit"] != "encounter":
            assert opened["values"].get(row["unit"]) == row["value"]


def test_the_gate_alone_opens_nothing_and_one_flipped_bit_is_found(bill: Path) -> None:
    gated, _, _ = through(bill)
    code, _, err = run("open", gated, "--secret", bill.with_name("r.sealed.gate"))
    assert code == 2
    assert "broker's secret" in err
    sealed = bill.with_name("r.sealed")
    whole = sealed.read_bytes()
    # The first leaf is the encounter secret's, which is always released.
    at = whole.index(files.read_sealed(sealed).leaves)
    sealed.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    code, _, err = run("gate", sealed, "-o", gated)
    assert code == 5
    assert err == "zhifu: leaf.digest: unit encounter, level 0\n"


def test_a_denied_exchange_is_not_sealed(bill: Path) -> None:
    options = ("--recipient", "auditor", "--purpose", "statement")
    code, _, err = run("seal", bill, "-o", bill.with_name("x"), *options)
    assert code == 3
    assert err.startswith("zhifu: policy.denied")
    assert not bill.with_name("x").exists()


@pytest.mark.parametrize("command", ["seal", "explain"])
def test_a_missing_bill_is_one_line(command: str, tmp_path: Path) -> None:
    more = ("-o", tmp_path / "x") if command == "seal" else ("--recipient", "insurer", "--purpose", "statement")
    code, _, err = run(command, tmp_path / "none.json", *more)
    assert code == 2
    assert err.count("\n") == 1


def test_risk_counts_who_stands_alone(tmp_path: Path) -> None:
    for seed in range(30):
        (tmp_path / f"{seed}.json").write_bytes(sample_bill(seed))
    (tmp_path / "30.json").write_bytes(sample_bill(0))
    found = run_json("risk", tmp_path, "--k", "3")
    assert found["before"]["records"] == 31
    # All but the two copies of one bill differ in birth date or address; after the release a decade and a sex remain.
    assert found["before"]["unique"] == pytest.approx(29 / 31)
    assert found["after"]["unique"] < 0.5
    assert found["after"]["under_k"] >= found["after"]["unique"]
    assert found["direct_identifiers"] == []
    assert sum(found["broker_sees"].values()) == 31
    by_unit = {one["units"][0]: one for one in found["by_unit"]}
    assert by_unit["sex"]["unique"] == 0
    assert by_unit["totals"]["smallest_group"] == 31


def test_risk_names_identifiers_that_go_as_they_are(bill: Path) -> None:
    found = run_json("risk", bill, "--recipient", "public-payer", "--purpose", "public-settlement")
    assert {"name", "citizen-id", "insured-number"} <= set(found["direct_identifiers"])
    assert found["after"]["unique"] == 1
