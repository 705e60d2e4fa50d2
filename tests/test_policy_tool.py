"""``zhifu policy``: dead rules, forgotten units and widened levels are found; the packaged policy passes its cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clients.policy.cli import app
from policies import analyse, load

PACKAGED = Path(load.__file__).parent
CASES = Path(__file__).parent / "data" / "policy_cases.toml"
runner = CliRunner()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A policy of our own to change."""
    for half in ("access", "disclosure", "retention"):
        shutil.copytree(PACKAGED / half, tmp_path / half)
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_packaged_policy_is_whole_and_passes_its_cases() -> None:
    found = analyse.check(load.load(), None)
    assert (found.dead, found.unnamed, found.silent, found.unreachable, found.unbounded) == ((), (), (), (), ())
    assert len(found.permitted) == 23
    outcomes = analyse.run_cases(load.load(), CASES.read_bytes())
    assert len(outcomes) > 20
    assert [one for one in outcomes if not one.passed] == []


def test_a_rule_that_no_request_meets_is_found(copy: Path) -> None:
    (copy / "access" / "extra.cedar").write_text(
        '@id("never-met")\n@en("A hospital sends itself nothing.")\n@zh("无")\n'
        'permit (principal, action == Action::"disclose", resource)\n'
        'when { principal.role == Role::"hospital" && principal.role == Role::"insurer" };\n'
    )
    result = runner.invoke(app, ["check", str(copy), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["dead_rules"] == ["never-met"]


@pytest.mark.soak
def test_a_recipient_that_is_told_no_days_is_found(copy: Path) -> None:
    (copy / "retention" / "public-settlement.toml").unlink()
    result = runner.invoke(app, ["check", str(copy), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["without_retention"] == [
        ["public-settlement", "hospital"], ["public-settlement", "public-payer"],
    ]  # fmt: skip


@pytest.mark.soak
def test_a_unit_that_a_table_forgets_is_found(copy: Path) -> None:
    """It stays absent, but an officer has to say so."""
    change(copy / "disclosure" / "commercial-settlement.toml", 'phone = "absent"\n', "")
    result = runner.invoke(app, ["check", str(copy), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["unnamed_units"] == [
        {"place": ["commercial-settlement", "insurer", "inpatient-claim"], "unit": "phone"}
    ]


def test_who_would_see_more_is_shown(copy: Path) -> None:
    change(copy / "disclosure" / "commercial-settlement.toml", 'birth-date = "ten-years"', 'birth-date = "full"')
    change(copy / "disclosure" / "commercial-settlement.toml", 'sex = "full"', 'sex = "absent"')
    arguments = ["explain", "--recipient", "insurer", "--purpose", "commercial-settlement", "--policies", str(copy)]
    result = runner.invoke(app, [*arguments, "--against", str(PACKAGED), "--json"])
    assert result.exit_code == 0
    changes = json.loads(result.stdout)["changes"]
    assert [(one["unit"], one["before"], one["after"], one["more"]) for one in changes] == [
        ("birth-date", "ten-years", "full", True),
        ("sex", "full", "absent", False),
    ]


@pytest.mark.soak
def test_a_newly_permitted_exchange_is_shown(copy: Path) -> None:
    bundle = load.load()
    removed = (copy / "access" / "statement.cedar").read_text()
    (copy / "access" / "statement.cedar").write_text("// nothing is permitted here any more\n")
    older = load.load(copy)
    (copy / "access" / "statement.cedar").write_text(removed)
    newly = analyse.opened(older, analyse.permitted(bundle))
    assert sorted((one.sender_role, one.recipient_role, one.schema) for one in newly) == [
        ("hospital", "patient", "claim-offer"),
        *[("hospital", "patient", "statement")] * 2,
        *[("insurer", "patient", "claim-progress")] * 3,
    ]


def test_a_failing_case_is_named_and_ends_with_1(copy: Path, tmp_path: Path) -> None:
    change(copy / "disclosure" / "commercial-settlement.toml", 'name = "absent"', 'name = "full"')
    result = runner.invoke(app, ["test", str(CASES), "--policies", str(copy)])
    assert result.exit_code == 1
    assert "an insurer gets the least that decides, under a grant: name: expected absent, found full" in result.stdout


def test_nothing_goes_where_no_rule_leads() -> None:
    result = runner.invoke(app, ["explain", "--recipient", "auditor", "--purpose", "statement", "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["records"] == []
