"""FHIR in and out at the hospital's edge: exact or refused by path, and nothing that no unit names gets through."""

from __future__ import annotations

import copy
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from clients.hospital import intake, national, record
from clients.hospital.fhir import bundle, claim, document
from clients.hospital.fhir.bundle import CLAIM, COVERAGE, PATIENT
from clients.hospital.fhir.resources import Resources
from clients.hospital.openbill import Head, OpenBill, OpenLine, of_bill
from clients.hospital.sample import sample_bill
from clients.record.cli import app
from tests.mutate_json import mutated
from zhifu import bill as bills
from zhifu import cbor, ladder, sealed
from zhifu.errors import Error, Malformed

runner = CliRunner()


def written(bill: OpenBill) -> bytes:
    return document.dumps(bundle.bundle(bill)).encode()


def read(content: bytes) -> OpenBill:
    resources = Resources.of_json(content)
    (held,) = resources.claims()
    return claim.read(held, resources)[0]


SAMPLE: Final = bills.parse(sample_bill(3))
BUNDLE: Final[dict[str, Any]] = json.loads(written(of_bill(SAMPLE)))


def parts(document_: dict[str, Any]) -> dict[str, Any]:
    """The resources of a Bundle by "Type/id"."""
    return {f"{one['resource']['resourceType']}/{one['resource']['id']}": one["resource"] for one in document_["entry"]}


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    made = copy.deepcopy(BUNDLE)
    change(parts(made))
    return json.dumps(made).encode()


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outpatient", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_national_bill_survives_fhir_to_the_last_fen(seed: int, outpatient: bool) -> None:
    given_ = bills.parse(sample_bill(seed, canaries=seed == 2 and not outpatient, outpatient=outpatient))
    back = bills.parse(intake.national_file(written(of_bill(given_))))
    assert (back.setlinfo, back.diagnoses, back.procedures, back.split) == (
        given_.setlinfo, given_.diagnoses, given_.procedures, given_.split,
    )  # fmt: skip
    assert back.lines == given_.lines
    assert record.claim(back, bytes(32)) == record.claim(given_, bytes(32))


def test_what_is_open_stays_open_and_is_still_sealed() -> None:
    bill = OpenBill(Head(psn_name="测试"), (OpenLine(med_list_codg="X-1", amt=1250),), currency="USD", total=1250)
    with pytest.raises(Malformed, match="created"):
        bundle.bundle(bill)
    values = record.claim(bill, bytes(32))
    assert {name for name, value in values.items() if value is not None} == {"encounter", "name", "item-codes"}
    kind = record.schema_of(bill)
    sealed.seal(kind, values, bytes(32), 0)
    with pytest.raises(Malformed, match="not in yuan"):
        national.encode(bill)


def test_a_bill_without_a_visit_number_invents_none() -> None:
    made = bundle.bundle(OpenBill(Head(), created=SAMPLE.setlinfo.enddate))
    assert sorted(one.partition("/")[0] for one in parts(made)) == ["Claim", "Coverage", "Organization", "Patient"]
    assert "type" not in parts(made)["Coverage/public"]


# --- default deny -----------------------------------------------------------------------------------------------------


def salted(value: Any, canaries: Iterator[str]) -> Any:
    """The document with everything that no unit names put everywhere: extensions, narratives, displays, contained."""
    if isinstance(value, list):
        return [salted(one, canaries) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: salted(one, canaries) for name, one in value.items()}
    canary = next(canaries)
    found["extension"] = [{"url": "http://example.org/x", "valueString": canary}]
    if "reference" in found:
        found["display"] = next(canaries)
    if "resourceType" in found and found["resourceType"] != "Bundle":
        found["text"] = {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{next(canaries)}</div>',
        }
        found["contained"] = [{"resourceType": "Basic", "id": "c", "code": {"text": next(canaries)}}]
        found["meta"] = {"source": next(canaries), "tag": [{"display": next(canaries)}]}
    if found.get("resourceType") == "Patient":
        found["photo"] = [{"title": next(canaries), "url": f"http://example.org/{next(canaries)}"}]
        found["contact"] = [{"name": {"text": next(canaries)}}]
        found["telecom"].append({"system": "email", "value": next(canaries)})
        found["generalPractitioner"] = [{"display": next(canaries)}]
    if found.get("resourceType") == "Claim":
        found["supportingInfo"].append(
            {
                "sequence": 99,
                "category": {"coding": [{"code": "attachment"}], "text": next(canaries)},
                "valueAttachment": {"title": next(canaries), "data": "Q0FOQVJZ"},
            }
        )
        found["item"][0]["note"] = next(canaries)
    return found


def test_nothing_that_no_unit_names_reaches_a_record_or_a_file() -> None:
    names = (f"CANARY{number:05d}" for number in iter(range(10**5)))
    made = json.dumps(salted(copy.deepcopy(BUNDLE), names), ensure_ascii=False).encode()
    assert made.count(b"CANARY") > 100
    resources = Resources.of_json(made)
    (held,) = resources.claims()
    bill, reading = claim.read(held, resources)
    values = record.claim(bill, bytes(32))
    assert values | {"notes": None} == record.claim(SAMPLE, bytes(32)) | {"notes": None}
    assert values == record.claim(of_bill(SAMPLE), bytes(32))
    for level in sealed.ladders(record.schema_of(bill), values):
        assert b"CANARY" not in cbor.encode(level)
    assert b"CANARY" not in written(bill) + national.encode(bill)
    assert "CANARY" not in json.dumps([reading.dropped(), [str(note) for note in reading.notes]])
    assert reading.dropped()["Patient.photo"] == 2


@pytest.mark.parametrize("target", ["Claim/claim", "Patient/patient", "Coverage/public", "Encounter/visit"])
@pytest.mark.parametrize("name", ["modifierExtension", "implicitRules"])
def test_what_changes_the_meaning_is_not_passed_over(target: str, name: str) -> None:
    content = changed(lambda found: found[target].update({name: [{"url": "x"}] if name[0] == "m" else "x"}))
    with pytest.raises(Malformed, match=name):
        read(content)


# --- refusals by path, without the value ------------------------------------------------------------------------------

REFUSED: Final[dict[str, tuple[Callable[[dict[str, Any]], object], str]]] = {
    "draft": (lambda p: p[CLAIM].update(status="draft"), "entry[0].resource.status: must be active"),
    "preauthorization": (lambda p: p[CLAIM].update(use="preauthorization"), "entry[0].resource.use: must be claim"),
    "patient by display": (
        lambda p: p[CLAIM].update(patient={"display": "SECRET"}), "entry[0].resource.patient: names no resource",
    ),
    "dangling patient": (
        lambda p: p[CLAIM].update(patient={"reference": "Patient/SECRET"}),
        "entry[0].resource.patient.reference: names no resource",
    ),
    "another type": (
        lambda p: p[CLAIM].update(patient={"reference": "Coverage/public"}), "patient.reference: names no Patient",
    ),
    "wrong check digit": (
        lambda p: p[PATIENT]["identifier"][0].update(value="11010519491231002X"[:-1] + "1"),
        "identifier[0].value: has a wrong check digit",
    ),
    "replaced patient": (
        lambda p: p[PATIENT].update(link=[{"type": "replaced-by", "other": {"reference": "Patient/x"}}]),
        "link[0].type: the patient's record was replaced",
    ),
    "coverage of another": (
        lambda p: p[COVERAGE].update(beneficiary={"reference": "Organization/hospital"}), "names another person",
    ),
    "coverage entered in error": (lambda p: p[COVERAGE].update(status="entered-in-error"), "entered in error"),
    "no currency": (lambda p: p[CLAIM]["item"][2]["net"].pop("currency"), "item[2].net.currency: is missing"),
    "two currencies": (lambda p: p[CLAIM]["item"][2]["net"].update(currency="USD"), "item[2].net.currency: is not"),
    "too exact": (lambda p: p[CLAIM]["item"][0]["net"].update(value=420.001), "item[0].net.value: has more places"),
    "a text amount": (lambda p: p[CLAIM]["item"][0]["net"].update(value="SECRET"), "item[0].net.value"),
    "total": (lambda p: p[CLAIM]["total"].update(value=1), "total.value: is not the sum of the items"),
    "sequence twice": (lambda p: p[CLAIM]["item"][1].update(sequence=1), "item[1].sequence: stands there twice"),
    "no such class": (
        lambda p: p[CLAIM]["item"][0]["programCode"][0]["coding"][0].update(code="SECRET"),
        "item[0].programCode[0].coding[0].code: must be",
    ),
    "no product": (lambda p: p[CLAIM]["item"][0].pop("productOrService"), "item[0].productOrService: is missing"),
    "no FHIR": (lambda p: p[CLAIM].update(created="SECRET"), "created: is not valid in FHIR R4"),
    "period backwards": (
        lambda p: p[CLAIM]["billablePeriod"].update(start="2027-01-01"), "billablePeriod.end: is before",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_path_and_without_the_value(name: str) -> None:
    change, expected = REFUSED[name]
    with pytest.raises(Malformed) as caught:
        read(changed(change))
    assert expected in caught.value.detail
    assert caught.value.reason in ("bill.syntax", "bill.identity")
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


NEEDED: Final[dict[str, tuple[Callable[[dict[str, Any]], object], str]]] = {
    "class": (
        lambda p: p[CLAIM]["item"][4].pop("programCode"),
        "entry[0].resource.item[4].programCode: does not",
    ),
    "price": (lambda p: p[CLAIM]["item"][4].pop("unitPrice"), "item[4].unitPrice: does not say pric"),
    "ratio": (
        lambda p: p[CLAIM]["item"][5].pop("informationSequence"),
        "item[5].informationSequence: does not",
    ),
    "name": (lambda p: p[PATIENT].pop("name"), "patient: the patient has no psn_name"),
    "diagnosis": (lambda p: p[CLAIM].pop("diagnosis"), "entry[0].resource.diagnosis: no ICD-10"),
    "a sum that is none": (lambda p: p[CLAIM]["item"][3]["quantity"].update(value=8), "feedetail[3]"),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_national_bill_is_whole_or_not_written(name: str) -> None:
    change, expected = NEEDED[name]
    content = changed(change)
    bundle.bundle(read(content))
    with pytest.raises(Malformed) as caught:
        intake.national_file(content)
    assert expected in caught.value.detail or (name.startswith("a sum") and caught.value.reason == "bill.identity")


def test_two_claims_are_not_one_bill() -> None:
    made = copy.deepcopy(BUNDLE)
    made["entry"].append({"resource": made["entry"][0]["resource"] | {"id": "other"}})
    with pytest.raises(Malformed, match="second Claim"):
        intake.national_file(json.dumps(made).encode())


def test_a_list_of_diagnoses_with_one_left_out_is_left_out() -> None:
    content = changed(lambda p: p[CLAIM]["diagnosis"][1].update(diagnosisCodeableConcept={"coding": [{"code": "x"}]}))
    assert read(content).diagnoses is None


# --- files that nobody here wrote -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(shared_data: Path) -> Path:
    return shared_data / "fhir"


def run(*words: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["convert", *words])
    return result.exit_code, result.stdout, result.stderr


def test_every_single_file_converts_or_is_refused_by_path(foreign: Path) -> None:
    paths = sorted(foreign.glob("*/*.json"))
    assert len(paths) == 20
    for path in paths:
        code, out, err = run("--from", "fhir", "--to", "fhir", str(path))
        assert code in (0, 2), err
        if code == 2:
            assert out == ""
            assert any(word in err for word in ("entry", "resourceType", "line ")), "the path of what is wrong"
        assert "Patel" not in err + out or "name" in out
        assert "SMITH" not in err


def test_the_broken_file_and_the_dangling_patient(foreign: Path) -> None:
    code, _, err = run("--from", "fhir", "--to", "fhir", str(foreign / "hcx-platform" / "communicationrequest.json"))
    assert (code, err) == (2, "zhifu: bill.syntax: line 16 column 9 is not JSON\n")
    code, _, err = run("--from", "fhir", "--to", "national", str(foreign / "hcx-platform" / "claims.json"))
    assert (code, err) == (
        2, "zhifu: bill.syntax: entry[3].resource.patient.reference: names no resource of this file\n",
    )  # fmt: skip


def test_a_bulk_export_converts_and_reads_back(foreign: Path) -> None:
    """Every sixteenth claim; ``zhifu record convert`` on the folder converts all 769 in seconds."""
    files = {path.name: path.read_bytes() for path in (foreign / "synthea-claims").glob("*.ndjson")}
    resources = Resources.of_ndjson(files)
    claims = resources.claims()
    assert len(claims) == 769
    for held in claims[::16]:
        check_foreign(held, resources)


def check_foreign(held: Any, resources: Resources) -> None:
    """Converted, read back and sealed; nothing of the file but what a unit names is in it."""
    bill, _ = claim.read(held, resources)
    content = written(bill)
    again = read(content)
    assert (again.head, again.total, again.currency) == (bill.head, bill.total, bill.currency)
    for private in (b"extension", b"Jenkins" * (bill.head.psn_name is None), b"us-core", b"email", b"race"):
        assert not private or private not in content
    values = record.claim(bill, bytes(32))
    kind = record.schema_of(bill)
    assert all(
        ladder.conforms(level.form, value)
        for (u, rank), value in zip(kind.leaves, sealed.ladders(kind, values), strict=True)
        for level in [kind.units[u].levels[rank]]
    )
    with pytest.raises(Malformed, match="in yuan"):
        national.encode(bill)


def test_a_file_of_another_kind_in_an_export(foreign: Path) -> None:
    code, _, err = run(
        "--from", "fhir", "--to", "fhir", str(foreign / "synthea-claims" / "ExplanationOfBenefit.ndjson")
    )  # fmt: skip
    assert (code, err) == (2, "zhifu: bill.syntax: entry: holds no Claim\n")


# --- the command ------------------------------------------------------------------------------------------------------


def test_convert_there_and_back(tmp_path: Path) -> None:
    bill, made = tmp_path / "bill.json", tmp_path / "fhir.json"
    bill.write_bytes(sample_bill(1))
    code, out, _ = run("--from", "national", "--to", "fhir", str(bill))
    assert code == 0
    made.write_text(out)
    code, back, err = run("--from", "fhir", "--to", "national", str(made))
    assert code == 0
    assert bills.parse(back.encode()).lines == bills.parse(sample_bill(1)).lines
    assert "left out" in err
    code, out, _ = run("--from", "fhir", "--to", "fhir", "--json", str(made))
    (one,) = json.loads(out)["converted"]
    assert (code, one["notes"]) == (0, [])
    assert one["document"]["entry"][0]["resource"]["total"] == {"value": 20000.0, "currency": "CNY"}


@pytest.mark.parametrize(
    "words", [("--from", "fhir", "--to", "hl7", "x"), ("--from", "fhir", "--to", "fhir", "nowhere")]
)
def test_what_cannot_be_asked(words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


# --- fuzz -------------------------------------------------------------------------------------------------------------


LISTED: Final = {"bill.syntax", "bill.identity", "schema.value"}


def problem(act: Callable[[], object]) -> Error | None:
    """The error of ours that it ends with, if any; anything else fails the test."""
    try:
        act()
    except Error as error:
        return error
    return None


def through(content: bytes) -> None:
    """A FHIR file all the way: read, sealed levels, written again, and as a national file."""
    resources = Resources.of_json(content)
    for held in resources.claims():
        bill, _ = claim.read(held, resources)
        list(sealed.ladders(record.schema_of(bill), record.claim(bill, bytes(32))))
        bundle.bundle(bill)
        national.encode(bill)


def through_national(content: bytes) -> None:
    bill = bills.parse(intake.national_file(content))
    list(sealed.ladders(record.schema_of(bill), record.claim(bill, bytes(32))))


@given(mutated(BUNDLE))
def test_fuzzed_fhir_is_read_or_malformed(content: bytes) -> None:
    error = problem(lambda: through(content))
    assert error is None or error.reason in LISTED
    assert "CANARY" not in str(error)


@given(mutated(json.loads(sample_bill(1))))
def test_fuzzed_national_files_are_read_or_malformed(content: bytes) -> None:
    error = problem(lambda: through_national(content))
    assert error is None or error.reason in LISTED
    assert "CANARY" not in str(error)


@given(st.binary(max_size=300))
def test_noise_is_malformed(content: bytes) -> None:
    for reader in (Resources.of_json, bills.parse, intake.national_file):
        error = problem(partial(reader, content))
        assert error is None or error.reason == "bill.syntax"


BOMBS: Final[dict[str, bytes]] = {
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": b'{"resourceType":"Claim","total":{"value":' + b"9" * 1_000_000 + b"}}",
    "a large exponent": b'{"resourceType":"Claim","total":{"value":1e999999999}}',
    "references in a circle": json.dumps(
        {"resourceType": "Claim", "id": "a", "patient": {"reference": "Claim/a"}, "status": "active", "use": "claim"}
    ).encode(),
    "many members": b'{"resourceType":"Bundle","type":"collection","entry":[' + b"{}," * 40_000 + b"{}]}",
    "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(30_000)) + b',"resourceType":"Claim"}',
    "too large": b'{"resourceType":"Claim"' + b" " * (17 << 20) + b"}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_within_a_bounded_time_and_memory(name: str) -> None:
    """CPU seconds, not the wall's: a loaded computer makes nothing slower here."""
    tracemalloc.start()
    begin = time.process_time()
    error = problem(lambda: through(BOMBS[name]))
    spent, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error is not None
    assert error.reason == "bill.syntax"
    assert spent < 20
    assert peak < 64 * len(BOMBS[name]) + (64 << 20)
