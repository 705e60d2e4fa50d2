"""A hospital that lies, through a real broker; and the pseudonym service under another operator than the broker's.

Its process seals what it is told to instead of what the bill says. What it may get away with is a value that fits its
level's grammar, until an auditor has the record opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.store import tables
from broker.store.sqlite import open_read_only
from clients.auditor import source, spot
from clients.hospital.sample import sample_bill
from clients.insurer import book as books
from clients.insurer import cli as insurer
from tests.house import House, open_house, operate, run, spawn
from zhifu import bill as bills
from zhifu import cbor, receipt

LIES = {"milder": ("diagnosis", 1, ["J06"]), "finer": ("birth-date", 2, 1957)}
"""Unit, rank and what is sealed there: a code that fits the level, and a year where only a decade may stand."""

LIAR = """
import json, pathlib
from zhifu import sealed
honest = sealed.ladders
def ladders(schema, values):
    lie = json.loads(pathlib.Path({path!r}).read_text())
    for (unit, rank), value in zip(schema.leaves, honest(schema, values)):
        told = lie and schema.name == "inpatient-claim" and [schema.units[unit].name, rank] == lie[:2]
        yield lie[2] if told else value
sealed.ladders = ladders
"""
BILLS = {lie: sample_bill(seed) for seed, lie in enumerate(("honest", *LIES), start=1)}
ELSEWHERE = "pseudonyms.example/log"


@dataclass(slots=True)
class Elsewhere(House):
    """Pseudonyms come from a service of its own; the hospital lies when it is told to."""

    def prepare(self) -> None:
        """By the commands that operators, hospital and insurer type; each operator has its own key only."""
        self.lie(None)
        service, own = self.path / "pseudonyms", ("hospital", "insurer")
        first, second = (self.path / f"service-{name}.key" for name in "ab")
        operate("pseudonym-init", service, "--origin", ELSEWHERE, "--operator", first, "--operator", second)
        cards = [self.cast.cards[role] for role in own]
        operate("pseudonym-admit", service, *cards, "--authority", self.path / "broker" / "ca.crt")
        self.running["pseudonyms"] = self.stage.start("pseudonyms", "broker", "pseudonym", "serve", str(service))
        self.ready("pseudonyms")
        contact, quota = self.file("pseudonyms.json"), self.file("quota.json")
        operate("pseudonym-contact", service, "-o", contact)
        for role in own:
            run("node", "pin", self.path / role, "--pseudonym-service", contact).ok()
        limits = ("--recipient", self.cast.ids["insurer"].hex(), "--allowed", len(BILLS))
        operate("pseudonym-quota", service, *limits, "--operator", first, "-o", quota)
        assert len(insurer.read_quota(quota)) == 1
        spawn("pseudonym", "countersign", service, quota, "--operator", second).ok()
        built = run("insurer", "book", "build", self.path / "insurer", self.persons(), "--quota", quota, "--json").ok()
        assert built.json == {"persons": 3, "evaluated": 3, "struck": 0, "epochs": [1]}

    def persons(self) -> Path:
        """The insurer's list."""
        heads = [bills.parse(content).setlinfo for content in BILLS.values()]
        lines = [",".join(books.COLUMNS[: books.LEAST_COLUMNS])]
        lines += [f"01,{head.certno},P-{head.mdtrt_id},,," for head in heads]
        return self.file("persons.csv", "\n".join([*lines, ""]).encode())

    def lie(self, name: str | None) -> None:
        (self.path / "lie.json").write_text(json.dumps(LIES[name] if name else None))

    def start(self, role: str, *more: str, code: str = "") -> None:
        liar = LIAR.format(path=str(self.path / "lie.json"))
        # `super()` needs the class that slots replaced.
        House.start(self, role, *more, code=liar if role == "hospital" else code)

    def insure(self, bill: bytes) -> None:
        """Everybody is in the book already."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    with open_house(tmp_path_factory.mktemp("house"), kind=Elsewhere) as found:
        assert isinstance(found, Elsewhere)
        yield found


@pytest.fixture(scope="module")
def told(house: Elsewhere) -> dict[str, dict[str, Any]]:
    """One settlement for each lie, and an honest one."""
    found = {}
    for lie, content in BILLS.items():
        consent = house.consent(house.enrol(content, lie), content)
        house.lie(lie if lie in LIES else None)
        ran = house.settle(content, consent)
        found[lie] = json.loads(ran.out) | {"code": ran.code, "err": ran.err}
    return found


@pytest.fixture(scope="module")
def officer(house: Elsewhere, told: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the compliance officer's verification says afterwards."""
    found: dict[str, Any] = run("audit", "verify", house.path, "--json").ok().json
    return found


def claim(settlement: dict[str, Any]) -> str:
    """The exchange in which the insurer got the bill."""
    exchanges = settlement["exchanges"]
    return next(str(one["id"]) for one in exchanges if one["recipient"] == "insurer" and "diagnosis" in one["ceiling"])


def opened(house: Elsewhere, settlement: dict[str, Any]) -> Path:
    """What the hospital opens to the auditor."""
    file = house.file("opened")
    run("hospital", "spot-audit", house.path / "hospital", claim(settlement), "-o", file).ok()
    return file


def test_the_insurer_finds_the_insured_person_by_the_other_operators_pseudonym(
    told: dict[str, dict[str, Any]], officer: dict[str, Any]
) -> None:
    assert told["honest"]["state"] == "confirmed"
    assert told["honest"]["commercial_fen"] == 800_000
    # The broker evaluated nothing: it was not asked, and does not know how often somebody else was.
    assert officer["verified"]
    assert [event for event in officer["entries"] if event.startswith("pseudonym.")] == []


def test_the_other_operator_wrote_down_who_asked_how_often(house: Elsewhere, told: dict[str, dict[str, Any]]) -> None:
    asked = []
    for row in open_read_only(house.path / "pseudonyms" / "broker.db").scan(tables.Entry):
        meta = receipt.parse_meta(row.meta) if row.kind == 0 else None
        if meta is not None and meta.event == "pseudonym.evaluated":
            asked.append((meta.sender, cbor.array(receipt.parse_detail(row.detail).documents[0], 64, 3)[2]))
    ids = house.cast.ids
    assert asked == [(ids["insurer"], 3), *[(ids["hospital"], 1)] * 3]


def test_an_honest_record_passes_its_spot_audit(house: Elsewhere, told: dict[str, dict[str, Any]]) -> None:
    with closing(source.lines(house.path / "broker")) as lines:
        found = spot.check(opened(house, told["honest"]), lines)
    assert found.violations == ()
    assert found.levels > 30


def test_a_level_of_another_grammar_is_refused_reported_logged_and_seen_by_the_officer(
    house: Elsewhere, told: dict[str, dict[str, Any]], officer: dict[str, Any]
) -> None:
    settlement = told["finer"]
    assert (settlement["state"], settlement["reason"], settlement["code"]) == ("failed", "leaf.grammar", 5)
    with house.store("insurer") as store:
        kept = store.incoming.get(bytes.fromhex(claim(settlement)))
        assert kept is not None
        assert kept.opened is None
    assert '"leaf.grammar"' in house.log("insurer")
    parties = [house.cast.ids[role].hex() for role in ("hospital", "insurer")]
    assert [(one["sender"], one["recipient"], one["schema"], one["reason"]) for one in officer["violations"]] == [
        (*parties, "inpatient-claim", "leaf.grammar")
    ]


def test_a_lie_that_fits_its_grammar_settles_and_the_spot_audit_finds_it(
    house: Elsewhere, told: dict[str, dict[str, Any]]
) -> None:
    assert told["milder"]["state"] == "confirmed"
    found = run("audit", "spot", house.path, opened(house, told["milder"]), "--json")
    assert found.code == 5
    assert [(one["unit"], one["level"], one["reason"]) for one in found.json["violations"]] == [
        ("diagnosis", "category", "leaf.ladder")
    ]


def test_a_signal_to_the_command_stops_the_service(house: Elsewhere, told: dict[str, dict[str, Any]]) -> None:
    assert house.end("pseudonyms") == 0
