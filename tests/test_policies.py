"""What may go to whom, how fine, and that a policy which is not wholly valid is not loaded at all.

Long, since most of it is tables of what must be refused.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import analyse
from policies import decide as deciding
from policies.bundle import BASES, ROLES, STATUSES
from policies.decide import Deny, Permit, Release, Request, Row, days, decide, explain_rows, finest, release, released
from policies.load import Bundle, load, policy_hash
from zhifu import schema
from zhifu.errors import CATALOGUE, Malformed, Refused
from zhifu.presentation import PURPOSES
from zhifu.schema import ABSENT, Schema, within

PACKAGED: Final = load()
CLAIM: Final = schema.load("inpatient-claim")
CLAIMS: Final = ("inpatient-claim", "outpatient-claim", "eligibility")
SCHEMAS: Final = schema.names()
VECTORS: Final = Path(__file__).parent / "vectors" / "policies.json"

Case = tuple[str, str, str, str, str, str | None, str | None]
"""sender role, recipient role, purpose, basis, schema, purpose and schema of what is answered"""

PUBLIC: Final = "public-settlement"
COMMERCIAL: Final = "commercial-settlement"
PERMITTED: dict[Case, str] = {
    ("hospital", "public-payer", PUBLIC, "statute", "inpatient-claim", None, None): "public-claim",
    ("public-payer", "hospital", PUBLIC, "answer", "decision", PUBLIC, "inpatient-claim"): "public-decision",
    ("hospital", "insurer", COMMERCIAL, "grant", "inpatient-claim", None, None): "commercial-claim",
    ("hospital", "insurer", COMMERCIAL, "grant", "coordination", None, None): "commercial-claim",
    ("insurer", "hospital", COMMERCIAL, "answer", "decision", COMMERCIAL, "inpatient-claim"): "commercial-decision",
    ("hospital", "public-payer", PUBLIC, "answer", "settlement-notice", PUBLIC, "decision"): "public-notice",
    ("public-payer", "hospital", PUBLIC, "answer", "decision", PUBLIC, "settlement-notice"): "public-decision",
    ("hospital", "insurer", COMMERCIAL, "answer", "settlement-notice", COMMERCIAL, "decision"): "commercial-notice",
    ("insurer", "hospital", COMMERCIAL, "answer", "decision", COMMERCIAL, "settlement-notice"): "commercial-decision",
    ("hospital", "patient", "statement", "answer", "statement", COMMERCIAL, "inpatient-claim"): "statement-to-patient",
}
for _other in ("outpatient-claim", "eligibility"):
    PERMITTED |= {
        ("hospital", "public-payer", PUBLIC, "statute", _other, None, None): "public-claim",
        ("public-payer", "hospital", PUBLIC, "answer", "decision", PUBLIC, _other): "public-decision",
        ("hospital", "insurer", COMMERCIAL, "grant", _other, None, None): "commercial-claim",
        ("insurer", "hospital", COMMERCIAL, "answer", "decision", COMMERCIAL, _other): "commercial-decision",
    }
PERMITTED[("hospital", "patient", "statement", "answer", "statement", COMMERCIAL, "outpatient-claim")] = (
    "statement-to-patient"
)
for _claim in ("inpatient-claim", "outpatient-claim"):
    PERMITTED[("insurer", "patient", "statement", "answer", "claim-progress", COMMERCIAL, _claim)] = (
        "progress-to-patient"
    )
PERMITTED[("hospital", "patient", "statement", "statute", "claim-offer", None, None)] = "offer-to-patient"
PERMITTED[("insurer", "patient", "statement", "statute", "claim-progress", None, None)] = "own-claim-to-patient"
"""Every exchange of a settlement, and the policy that permits it; nothing else is permitted."""

CLAIM_CASE: Final[Case] = ("hospital", "insurer", COMMERCIAL, "grant", "inpatient-claim", None, None)


def request(case: Case, **other: str | bool) -> Request:
    sender, recipient, purpose, basis, name, asked_purpose, asked_schema = case
    plain = Request(
        sender_role=sender,
        sender_status="active",
        recipient_role=recipient,
        recipient_status="active",
        same_participant=False,
        purpose=purpose,
        basis=basis,
        schema=name,
        asked_purpose=asked_purpose,
        asked_schema=asked_schema,
    )
    return replace(plain, **other)  # type: ignore[arg-type]


def asked(basis: str) -> list[tuple[str | None, str | None]]:
    """What an answer may name; a request on another basis names nothing."""
    return [(None, None), *itertools.product(PURPOSES, SCHEMAS)] if basis == "answer" else [(None, None)]


def every_case() -> Iterator[Case]:
    for sender, recipient, purpose, basis, name in itertools.product(ROLES, ROLES, PURPOSES, BASES, SCHEMAS):
        for asked_purpose, asked_schema in asked(basis):
            yield sender, recipient, purpose, basis, name, asked_purpose, asked_schema


# --- who may disclose to whom -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "policy"), PERMITTED.items(), ids=lambda value: str(value))
def test_every_exchange_of_a_settlement_is_permitted(case: Case, policy: str) -> None:
    assert decide(PACKAGED, request(case)) == Permit((policy,), PACKAGED.hash)


@pytest.mark.parametrize(
    ("changed", "reason", "policy"),
    [
        ({"sender_status": "suspended"}, "participant.suspended", "suspended-party"),
        ({"recipient_status": "suspended"}, "participant.suspended", "suspended-party"),
        ({"recipient_role": "hospital", "same_participant": True}, "policy.denied", "sender-is-recipient"),
        ({"sender_role": "patient"}, "policy.denied", "patient-as-sender"),
        ({"recipient_role": "auditor"}, "policy.denied", "office-as-party"),
        ({"sender_role": "registrar"}, "policy.denied", "office-as-party"),
        ({"sender_role": "insurer"}, "policy.denied", "insurer-to-insurer"),
        ({"recipient_role": "hospital"}, "policy.denied", "hospital-to-hospital"),
        ({"recipient_role": "public-payer"}, "policy.denied", "public-and-commercial-apart"),
        ({"purpose": PUBLIC}, "policy.denied", "public-and-commercial-apart"),
        ({"sender_role": "insurer", "recipient_role": "public-payer"}, "policy.denied", "public-and-commercial-apart"),
        ({"sender_role": "public-payer"}, "policy.denied", "public-and-commercial-apart"),
        ({"recipient_role": "patient"}, "policy.denied", "patient-receives-statements-only"),
        ({"purpose": "statement"}, "policy.denied", "statement-for-the-patient-only"),
        ({"schema": "statement"}, "policy.denied", "statement-for-the-patient-only"),
        ({"schema": "decision"}, "policy.denied", "only-payers-decide"),
        ({"basis": "statute"}, "consent.missing", "commercial-without-grant"),
        ({"basis": "answer"}, "consent.missing", "commercial-without-grant"),
    ],
)
def test_a_claim_to_an_insurer_that_must_never_be(changed: dict[str, str | bool], reason: str, policy: str) -> None:
    answer = decide(PACKAGED, request(CLAIM_CASE, **changed))
    assert isinstance(answer, Deny)
    assert (answer.reason, answer.policy_ids[0]) == (reason, policy)


@pytest.mark.parametrize(
    ("case", "policy"),
    [
        (("hospital", "public-payer", PUBLIC, "grant", "inpatient-claim", None, None), "grant-beyond-commercial"),
        (("hospital", "public-payer", PUBLIC, "statute", "coordination", None, None), "statute-beyond-public-claim"),
        (("hospital", "public-payer", PUBLIC, "answer", "settlement-notice", None, None), "answer-outside-its-matter"),
        (
            ("hospital", "public-payer", PUBLIC, "answer", "settlement-notice", COMMERCIAL, "decision"),
            "answer-outside-its-matter",
        ),
        (
            ("public-payer", "hospital", COMMERCIAL, "answer", "decision", COMMERCIAL, "inpatient-claim"),
            "public-and-commercial-apart",
        ),
        (("insurer", "hospital", COMMERCIAL, "grant", "coordination", None, None), "only-payers-decide"),
        (("hospital", "patient", "statement", "statute", "statement", None, None), "statute-beyond-public-claim"),
        (("hospital", "patient", "statement", "grant", "statement", None, None), "grant-beyond-commercial"),
        (
            ("insurer", "patient", "statement", "answer", "statement", COMMERCIAL, "inpatient-claim"),
            "only-payers-decide",
        ),
    ],
)
def test_another_exchange_that_must_never_be(case: Case, policy: str) -> None:
    answer = decide(PACKAGED, request(case))
    assert isinstance(answer, Deny)
    assert (answer.reason, answer.policy_ids[0]) == ("policy.denied", policy)


def test_what_no_policy_speaks_of_is_denied_by_none() -> None:
    case = ("hospital", "public-payer", PUBLIC, "answer", "inpatient-claim", PUBLIC, "decision")
    assert decide(PACKAGED, request(case)) == Deny("policy.denied", ())


def test_nothing_else_is_permitted_that_could_be_asked() -> None:
    assert set(analyse.permitted(PACKAGED)) == {request(case) for case in PERMITTED}


@pytest.mark.soak
def test_nothing_else_is_permitted() -> None:
    """All active, distinct parties with all purposes, bases, schemas and answers: about 18,000 requests."""
    permitted: set[Case] = set()
    spoke: set[str] = set()
    for case in every_case():
        answer = decide(PACKAGED, request(case))
        spoke.update(answer.policy_ids)
        if isinstance(answer, Permit):
            permitted.add(case)
    assert permitted == set(PERMITTED)
    assert spoke == PACKAGED.access.rules.keys() - {"suspended-party", "sender-is-recipient"}  # no rule is dead


@given(
    case=st.sampled_from(list(PERMITTED)) | st.sampled_from(list(every_case())),
    statuses=st.tuples(st.sampled_from(STATUSES), st.sampled_from(STATUSES)),
    same=st.booleans(),
)
def test_suspended_parties_and_the_same_participant_get_nothing(
    case: Case, statuses: tuple[str, str], same: bool
) -> None:
    answer = decide(
        PACKAGED, request(case, sender_status=statuses[0], recipient_status=statuses[1], same_participant=same)
    )
    expected = case in PERMITTED and statuses == ("active", "active") and not same
    assert isinstance(answer, Permit) == expected


_WORDS = [name for name in Request.__slots__ if name != "same_participant"]


@pytest.mark.parametrize("name", _WORDS)
@pytest.mark.parametrize("word", ["", "Hospital", "clinic", 'insurer"', "insurer\0", "\ud800"])
def test_an_unknown_word_is_denied_by_default(name: str, word: str) -> None:
    case = ("insurer", "hospital", COMMERCIAL, "answer", "decision", COMMERCIAL, "inpatient-claim")
    assert decide(PACKAGED, request(case, **{name: word})) == Deny("policy.denied", ())


def test_every_reason_of_a_rule_is_in_the_catalogue_and_has_a_sentence_in_both_languages() -> None:
    for rule in PACKAGED.access.rules.values():
        assert rule.reason in CATALOGUE
        assert {rule.title("zh"), rule.title("en")} & {"", rule.id} == set()
        assert rule.title("fr") == rule.id


# --- how fine ---------------------------------------------------------------------------------------------------


def named(bundle: Bundle, purpose: str, role: str, name: str) -> dict[str, str]:
    rows = explain_rows(bundle, purpose, role, schema.load(name))
    return {row.unit: row.level for row in rows if row.level != "absent"}


def test_an_insurer_gets_the_least_that_decides() -> None:
    assert named(PACKAGED, COMMERCIAL, "insurer", "inpatient-claim") == {
        "encounter": "full",
        "birth-date": "ten-years",
        "sex": "full",
        "hospital": "full",
        "insurance": "full",
        "admission": "month",
        "discharge": "month",
        "stay": "full",
        "diagnosis": "category",
        "item-charges": "by-type",
        "totals": "full",
    }


def test_the_public_payer_gets_what_the_settlement_list_needs() -> None:
    every = {unit.name: "full" for unit in CLAIM.units}
    for withheld in (
        "phone", "bank-account", "invoice-number", "policy-number", "item-intervals", "item-doctors", "notes",
    ):  # fmt: skip
        del every[withheld]
    assert named(PACKAGED, PUBLIC, "public-payer", "inpatient-claim") == every | {"address": "city"}


@pytest.mark.parametrize("case", [case for case in PERMITTED if case[4] not in CLAIMS], ids=str)
def test_answers_notices_and_statements_go_whole(case: Case) -> None:
    one = schema.load(case[4])
    assert finest(PACKAGED, case[2], case[1], one) == one.finest


def test_tables_are_there_for_what_is_permitted_and_for_nothing_else() -> None:
    assert PACKAGED.tables.keys() == {
        (case[2], case[1], one.hash) for case in PERMITTED for one in schema.versions(case[4])
    }


@pytest.mark.parametrize("key", [("statement", "insurer"), (PUBLIC, "insurer"), (COMMERCIAL, "auditor"), ("", "")])
def test_what_no_table_names_is_absent(key: tuple[str, str]) -> None:
    assert finest(PACKAGED, *key, CLAIM) == bytes([ABSENT]) * len(CLAIM.units)


@st.composite
def schemas_and_ceilings(draw: st.DrawFn) -> tuple[Schema, bytes]:
    one = schema.load(draw(st.sampled_from(SCHEMAS)))
    return one, bytes(draw(st.sampled_from([*range(len(unit.levels)), ABSENT])) for unit in one.units)


@given(st.sampled_from(PURPOSES), st.sampled_from(ROLES), schemas_and_ceilings())
def test_released_is_never_finer_than_ceilings_or_table(
    purpose: str, role: str, presented: tuple[Schema, bytes]
) -> None:
    one, ceilings = presented
    table = finest(PACKAGED, purpose, role, one)
    for _ in ("made", "kept"):
        levels = released(PACKAGED, purpose, role, one, ceilings)
        assert within(levels, ceilings)
        assert within(levels, table)
        assert all(level in (c, t) for level, c, t in zip(levels, ceilings, table, strict=True))
        one.check_levels(levels)


@pytest.mark.parametrize("ceilings", [b"", CLAIM.finest[1:], CLAIM.finest + b"\0", b"\x01" + CLAIM.finest[1:]])
def test_ceilings_of_another_schema_are_malformed(ceilings: bytes) -> None:
    with pytest.raises(Malformed, match=r"malformed\.field"):
        released(PACKAGED, COMMERCIAL, "insurer", CLAIM, ceilings)


@pytest.mark.parametrize("units", [{}, {"encounter": 0}, {"encounter": 0, "name": 0, "item-codes": 0}])
def test_a_bill_of_which_nothing_would_go_is_denied(units: dict[str, int]) -> None:
    assert release(PACKAGED, request(CLAIM_CASE), CLAIM, CLAIM.levels(units)) == Deny("policy.nothing_released")


@given(schemas_and_ceilings())
def test_a_release_is_denied_exactly_if_nothing_but_the_encounter_would_go(presented: tuple[Schema, bytes]) -> None:
    one, ceilings = presented
    for case in PERMITTED:
        if case[4] == one.name:
            answer = release(PACKAGED, request(case), one, ceilings)
            levels = released(PACKAGED, case[2], case[1], one, ceilings)
            going = {unit.name for unit in one.units if levels[unit.index] != ABSENT}
            assert isinstance(answer, Deny) == (going <= {"encounter"})


def test_a_release_has_the_permit_and_the_levels() -> None:
    ceilings = CLAIM.levels({"encounter": 0, "totals": 0, "diagnosis": 0})
    expected = CLAIM.levels({"encounter": 0, "totals": 0, "diagnosis": 1})
    permit = Permit(("commercial-claim",), PACKAGED.hash)
    assert release(PACKAGED, request(CLAIM_CASE), CLAIM, ceilings) == Release(permit, expected)
    denied = release(PACKAGED, request(CLAIM_CASE, sender_status="suspended"), CLAIM, ceilings)
    assert isinstance(denied, Deny)
    assert denied.reason == "participant.suspended"


def test_rows_explain_the_table() -> None:
    rows = explain_rows(PACKAGED, COMMERCIAL, "insurer", CLAIM, "zh")
    assert [row.unit for row in rows] == [unit.name for unit in CLAIM.units]
    assert rows[1] == Row("name", "姓名", ABSENT, "absent")
    assert Row("diagnosis", "诊断", 1, "category") in rows


# --- loading ----------------------------------------------------------------------------------------------------

Copy = Callable[..., Path]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy of the packaged policy with one file changed: ``old`` becomes ``new``, or ``new`` is all of it."""

    def make(name: str = "", new: str = "", old: str = "") -> Path:
        with resources.as_file(resources.files("policies")) as packaged:
            for folder in ("access", "disclosure", "retention"):
                shutil.copytree(packaged / folder, tmp_path / folder, dirs_exist_ok=True)
        if name:
            text = (tmp_path / name).read_text("utf-8") if old else ""
            assert old in text
            (tmp_path / name).write_text(text.replace(old, new, 1) if old else new, "utf-8")
        return tmp_path

    return make


def refused(directory: Path, *words: str, reason: str = "policy.invalid") -> None:
    with pytest.raises(Refused) as caught:
        load(directory)
    assert caught.value.reason == reason
    for word in words:
        assert word in caught.value.detail


def test_a_copy_is_the_same_policy(copy: Copy) -> None:
    directory = copy()
    (directory / "README.md").write_text("for people")
    (directory / "access" / ".swap").write_bytes(b"\xff")
    loaded = load(directory)
    assert loaded.hash == PACKAGED.hash
    assert loaded.tables == PACKAGED.tables
    assert loaded.access.rules == PACKAGED.access.rules


TABLE: Final = "disclosure/commercial-settlement.toml"
RULES: Final = "access/never.cedar"
WORDS: Final = "access/zhifu.cedarschema"
EXTRA: Final = "access/extra.cedar"
SAID: Final = '@zh("一") @en("one")'
SCOPE: Final = 'principal, action == Action::"disclose", resource'


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('purpose = "commercial-settlement"', 'purpose = "public-settlement"', "purpose"),
        ('purpose = "commercial-settlement"', "", "purpose"),
        ('purpose = "commercial-settlement"', 'purpose = ["commercial-settlement"]', "purpose"),
        ("[insurer.coordination]", "[insuror.coordination]", "insuror"),
        ("[insurer.coordination]", "[insurer.co-ordination]", "co-ordination"),
        ("[insurer.coordination]", "insurer.coordination = 1\n[hospital.coordination]", "insurer"),
        ("[insurer.coordination]", "[auditor]\ncoordination = true\n[insurer.coordination]", "auditor.coordination"),
        ('phone = "absent"', 'phones = "absent"', "phones"),
        ('phone = "absent"', 'phone = "none"', "none"),
        ('phone = "absent"', "phone = 0", "phone"),
        ('phone = "absent"', 'phone = ["full"]', "phone"),
        ('phone = "absent"', 'phone = "year"', "year"),
        ('phone = "absent"', 'name = "full"', ""),  # named twice
        ('encounter = "full"', 'encounter = "absent"', "insurer.inpatient-claim"),
        ('encounter = "full"', "", "insurer.inpatient-claim"),
        ('purpose = "commercial-settlement"', 'version = 2\npurpose = "commercial-settlement"', "version"),
        ("[insurer.coordination]", "[insurer.coordination", ""),
    ],
)
def test_a_table_with_an_unknown_word_is_refused(copy: Copy, old: str, new: str, word: str) -> None:
    refused(copy(TABLE, new, old), TABLE, word)


KEPT: Final = "retention/commercial-settlement.toml"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('purpose = "commercial-settlement"', 'purpose = "public-settlement"', "purpose"),
        ('purpose = "commercial-settlement"', "", "purpose"),
        ('purpose = "commercial-settlement"', 'version = 2\npurpose = "commercial-settlement"', "version"),
        ("[insurer]", "[insuror]", "insuror"),
        ("[insurer]", "[patient]", "patient"),
        ("[hospital]\ndefault", "[hospital]\ndefaults", "default"),
        ("birth-date = 90", "birth-day = 90", "birth-day"),
        ("birth-date = 90", "encounter = 90", "encounter"),
        ("birth-date = 90", "birth-date = 0", "birth-date"),
        ("birth-date = 90", "birth-date = 36501", "birth-date"),
        ("birth-date = 90", "birth-date = true", "birth-date"),
        ("birth-date = 90", "birth-date = 90.0", "birth-date"),
        ("birth-date = 90", 'birth-date = "90"', "birth-date"),
        ("birth-date = 90", "sex = 90", ""),  # named twice
    ],
)
def test_a_retention_table_with_an_unknown_word_is_refused(copy: Copy, old: str, new: str, word: str) -> None:
    refused(copy(KEPT, new, old), KEPT, word)


def test_another_number_of_days_is_another_policy(copy: Copy) -> None:
    changed = load(copy(KEPT, "birth-date = 91", "birth-date = 90"))
    assert changed.hash != PACKAGED.hash
    asked = ("commercial-settlement", "insurer")
    assert (days(changed, *asked, "birth-date"), days(PACKAGED, *asked, "birth-date")) == (91, 90)
    assert (days(changed, *asked, "totals"), days(changed, *asked, "encounter")) == (180, None)
    assert days(changed, "statement", "patient", "totals") is None


@pytest.mark.parametrize("name", ["research.toml", "Statement.toml"])
def test_a_table_of_an_unknown_purpose_is_refused(copy: Copy, name: str) -> None:
    purpose = name.removesuffix(".toml")
    refused(copy(f"disclosure/{name}", f'purpose = "{purpose}"\n'), name, "purpose")


@pytest.mark.parametrize(
    ("name", "old", "new", "word"),
    [
        (RULES, "forbid (principal", "forbid principal", ""),
        (RULES, 'Role::"insurer" && resource', 'Role::"insuror" && resource', "insuror"),
        (RULES, "principal.status", "principal.state", "state"),
        (RULES, "context has answers &&", "", "answers"),
        (RULES, 'Action::"disclose"', 'Action::"disclosed"', "disclosed"),
        (RULES, '@reason("consent.missing")', '@reason("consent.mising")', "commercial-without-grant"),
        (RULES, '@reason("consent.missing")', "@reason", "commercial-without-grant"),
        (RULES, '@reason("consent.missing")', '@resaon("consent.missing")', "@resaon"),
        (RULES, '@id("patient-as-sender")\n', "", "@id"),
        (RULES, '@id("patient-as-sender")', "@id", "@id"),
        (RULES, '@id("patient-as-sender")', '@id("Patient as sender")', "@id"),
        (RULES, '@id("patient-as-sender")', '@id("office-as-party")', "office-as-party"),
        (RULES, '@id("patient-as-sender")', '@id("public-claim")', "public-claim"),
        (RULES, '@en("A patient consents; she sends no record.")\n', "", "patient-as-sender"),
        (RULES, '@zh("患者只作授权，不发送记录。")', "@zh", "patient-as-sender"),
        (EXTRA, "", f'@id("one") {SAID} @reason("policy.denied") permit ({SCOPE});', "@reason"),
        (EXTRA, "", f'@id("one") {SAID} permit (principal == ?principal, action, resource);', "template"),
        (WORDS, '"suspended"', '"retired"', "participants"),
        (WORDS, '"registrar"', '"notary"', "office-as-party"),
        (WORDS, 'Basis enum ["grant", ', 'Basis enum ["consent", ', 'Basis::"grant"'),
        (WORDS, '"coordination", ', "", "coordination"),
        (WORDS, "basis: Basis,", "basis: Basis, weather: String,", "weather"),
        (WORDS, "entity Role", "entity", ""),
    ],
)
def test_an_access_file_that_does_not_fit_is_refused(copy: Copy, name: str, old: str, new: str, word: str) -> None:
    refused(copy(name, new, old), "access/", word)


@pytest.mark.parametrize("name", ["access/notes.txt", "disclosure/statement.toml.bak", "disclosure/a.cedar", "a.cedar"])
def test_a_file_that_nobody_would_read_is_refused(copy: Copy, name: str) -> None:
    refused(copy(name, "x"), name)


@pytest.mark.parametrize("name", [TABLE, RULES, WORDS])
def test_a_file_that_is_not_text_is_refused(copy: Copy, name: str) -> None:
    directory = copy()
    (directory / name).write_bytes(b"\xff\xfe")
    refused(directory, name)


def test_a_directory_for_a_file_is_refused(copy: Copy) -> None:
    directory = copy()
    (directory / "access" / "more.cedar").mkdir()
    refused(directory, "access/more.cedar")


def test_what_is_missing_is_named(copy: Copy, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", reason="usage.file")
    directory = copy()
    (directory / WORDS).unlink()
    refused(directory, WORDS)
    shutil.rmtree(directory / "disclosure")
    refused(directory, "disclosure")


def test_an_error_while_evaluating_permits_nothing(copy: Copy) -> None:
    """Cedar alone would skip the forbid that overflows, and permit."""
    overflow = 'principal.role == Role::"insurer" && 9223372036854775807 + 1 > 0'
    policies = f'@id("all") {SAID} permit ({SCOPE});\n@id("some") {SAID} forbid ({SCOPE}) when {{ {overflow} }};\n'
    directory = copy(EXTRA, policies)
    for file in (directory / "access").glob("*.cedar"):
        if file.name != "extra.cedar":
            file.unlink()
    bundle = load(directory)
    assert decide(bundle, request(CLAIM_CASE)) == Permit(("all",), bundle.hash)
    assert decide(bundle, request(CLAIM_CASE, sender_role="insurer")) == Deny("policy.denied", ())
    for name in _WORDS[:4]:
        assert decide(bundle, request(CLAIM_CASE, **{name: "clinic"})) == Deny("policy.denied", ())


def test_a_policy_that_always_fails_is_refused(copy: Copy) -> None:
    overflow = f'@id("some") {SAID} forbid ({SCOPE}) when {{ 9223372036854775807 + 1 > 0 }};'
    refused(copy(EXTRA, overflow), "overflow")


def test_a_file_joined_to_the_next_stays_apart(copy: Copy) -> None:
    """A comment at a file's end, without a line's end, must not swallow the next file's first line."""
    copy("access/x.cedar", "// ends here")
    bundle = load(copy("access/y.cedar", f'@id("no") {SAID} forbid ({SCOPE});'))
    assert decide(bundle, request(CLAIM_CASE)) == Deny("policy.denied", ("no",))


# --- the policy's name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text("utf-8"))["hashes"])
def test_hash_is_the_one_written_down(vector: dict[str, object]) -> None:
    files = vector["files"]
    assert isinstance(files, dict)
    assert policy_hash({path: bytes.fromhex(source) for path, source in files.items()}).hex() == vector["sha256"]


_FILES = st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=16), min_size=1, max_size=4)


@given(_FILES, _FILES)
def test_hash_tells_policies_apart(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (policy_hash(one) == policy_hash(other)) == (one == other)
    assert policy_hash(one) == policy_hash(dict(reversed(one.items())))


@given(_FILES, st.data())
def test_hash_changes_with_any_bit(files: dict[str, bytes], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(files)))
    flipped = bytearray(files[path] + b"\0")
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert policy_hash(files | {path: bytes(flipped)}) != policy_hash(files)


def test_hash_of_a_loaded_policy_changes_with_a_comment_and_with_a_name(copy: Copy) -> None:
    hashes = {PACKAGED.hash}
    for name in (TABLE, RULES, WORDS):
        directory = copy()
        with (directory / name).open("a") as file:
            file.write("\n")
        hashes.add(load(directory).hash)
    directory = copy()
    (directory / RULES).rename(directory / "access" / "forbidden.cedar")
    hashes.add(load(directory).hash)
    assert len(hashes) == 5


# --- what is kept -----------------------------------------------------------------------------------------------


def test_answers_belong_to_one_policy(copy: Copy) -> None:
    other = load(copy("access/commercial-settlement.cedar", "// nothing is permitted here any more"))
    assert isinstance(decide(PACKAGED, request(CLAIM_CASE)), Permit)
    assert decide(other, request(CLAIM_CASE)) == Deny("policy.denied", ())
    assert isinstance(decide(PACKAGED, request(CLAIM_CASE)), Permit)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "CACHED", 8)
    bundle = load()
    for number in range(50):
        decide(bundle, request(CLAIM_CASE, schema=f"schema-{number}"))
        released(
            bundle,
            COMMERCIAL,
            "insurer",
            CLAIM,
            bytes([ABSENT]) * (len(CLAIM.units) - 1) + bytes([ABSENT * (number % 2)]),
        )
        released(bundle, f"purpose-{number}", "insurer", CLAIM, CLAIM.finest)
        assert len(bundle.decisions) <= 8
        assert len(bundle.releases) <= 8
    assert isinstance(decide(bundle, request(CLAIM_CASE)), Permit)


def _fastest(action: Callable[[], object], times: int) -> float:
    """Seconds of one call: the best of several runs, because a loaded computer only ever makes it slower."""
    best = float("inf")
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(times):
            action()
        best = min(best, (time.perf_counter() - begin) / times)
    return best


def test_a_kept_answer_costs_a_fraction() -> None:
    bundle, one = load(), request(CLAIM_CASE)

    def cold() -> None:
        bundle.decisions.clear()
        decide(bundle, one)

    assert _fastest(lambda: decide(bundle, one), 500) * 20 < _fastest(cold, 20)
