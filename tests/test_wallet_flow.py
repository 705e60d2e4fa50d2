"""The whole token flow by real processes: asked, narrowed, agreed, a code at the desk, seen, stopped, deleted."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.consent import Consent as FhirConsent
from nacl.signing import SigningKey

from broker import __main__ as operator
from clients import desk
from clients.hospital.sample import sample_bill
from clients.keystore import FileKeystore
from clients.patient import claims, consent, requests, stop, wallet
from clients.patient import code as codes
from clients.patient.wallet import Pair
from tests.house import House, Patient, further, open_house, run, until
from zhifu import cbor, envelope, ticket
from zhifu import consent as consents
from zhifu.errors import Error, Malformed

BILL = sample_bill(1)


@dataclass(slots=True)
class Scene:
    house: House
    patient: Patient


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    path = tmp_path_factory.mktemp("flow")
    with open_house(path) as house:
        yield Scene(house, house.enrol(BILL))


def code_of(scene: Scene, *more: object) -> Any:
    card = scene.house.cast.cards["hospital"]
    return run("wallet", "code", scene.patient.wallet, "--hospital", card, "--json", *more).ok().json


def redeem(scene: Scene, code: str, bill: bytes = b"", *more: object) -> Any:
    file = scene.house.file("bill.json", bill or further(BILL))
    return run("hospital", "redeem", scene.house.path / "hospital", code, "--bill", file, "--json", *more)


def history(scene: Scene) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run("wallet", "history", scene.patient.wallet, "--json").ok().json
    return found


def agreed(scene: Scene, *more: object, cap: int = 2_000_000, grant: tuple[object, ...] = ()) -> str:
    """A direct-pay grant that lies at the hospital's desk; its hash."""
    house = scene.house
    request = house.ask(scene.patient, BILL, "--direct-pay", "--cap", cap, *more)
    kept = house.file("consent.json")
    words = ("wallet", "grant", scene.patient.wallet, request, "-o", kept, "--json", *grant)
    given = run(*words).ok().json
    assert run("hospital", "keep-consent", house.path / "hospital", kept).ok().out.strip() == given["grant"]
    return str(given["grant"])


def test_from_the_request_to_the_deletion(scene: Scene) -> None:
    house, folder = scene.house, scene.patient.wallet
    request = house.file("request.json")
    file, to = house.file("bill.json", BILL), house.cast.ids["insurer"].hex()
    asked = run(
        "hospital", "request-consent", house.path / "hospital", scene.patient.key, "--bill", file, "--recipient", to,
        "-o", request, "--direct-pay", "--cap", 2_000_000, "--json",
    ).ok().json  # fmt: skip
    (row,) = run("wallet", "requests", folder, request, "--json").ok().json
    assert (row["state"], row["short_code"]) == ("open", asked["short_code"]), "both screens show one code"

    shown = run("wallet", "review", folder, asked["short_code"], "--json", "--lang", "en").ok().json
    assert shown["hospital"]["name"] == "示例市第一人民医院"
    assert shown["mode"] == "direct_pay"
    by_unit = {one["unit"]: one for one in shown["units"]}
    assert by_unit["birth-date"]["value"]
    assert by_unit["birth-date"]["days"] == 90, "the policy has it erased before the grant does"
    assert (by_unit["totals"]["days"], by_unit["encounter"]["days"]) == (None, None), "these the grant ends"
    assert [one["required"] for one in shown["units"] if one["required"]]
    assert shown["statutory"][0]["units"]
    assert all(shown[name] for name in ("refusing", "withdrawing", "lasting", "not_shared", "short_code"))

    kept = house.file("consent.json")
    coarser = by_unit["birth-date"]["choices"][-1]["level"]
    given = run(
        "wallet", "grant", folder, asked["short_code"], "-o", kept, "--json", "--cap", "10000.00",
        "--narrow", f"inpatient-claim.birth-date={coarser}",
    ).ok().json  # fmt: skip
    assert given["cap_fen"] == 1_000_000
    run("hospital", "keep-consent", house.path / "hospital", kept).ok()
    (row,) = run("wallet", "requests", folder, "--json").ok().json
    assert row["state"] == "granted"

    code = code_of(scene)
    stranger = redeem(scene, code["code"], sample_bill(2))
    assert (stranger.code, "consent.subject_mismatch" in stranger.err) == (4, True), (
        "a photographed code is worth nothing"
    )
    settled = redeem(scene, code["code"]).ok().json
    assert settled["state"] == "confirmed"
    assert (settled["total_fen"], settled["public_fen"], settled["commercial_fen"]) == (2_000_000, 1_200_000, 800_000)
    claim = next(one for one in settled["exchanges"] if one["step"] == "claim")
    assert claim["released"]["birth-date"] == claim["sealed"]["birth-date"] + 2
    again = redeem(scene, code["code"])
    assert (again.code, "ticket.used" in again.err) == (4, True)

    seen = history(scene)
    assert {"inpatient-claim", "coordination"} <= {one["schema"] for one in seen}
    assert any(row["value"] for one in seen for row in one["shown"]), "released values are shown, made on her side"

    before = time.monotonic()
    stopped = run("wallet", "revoke", folder, given["grant"], "--json").ok().json
    assert time.monotonic() - before < 30
    assert stopped["delivered_before"] >= 2
    words = until(lambda: _words(scene), "the insurer answers what it did with the data")
    assert set(words) == {"kept: payment.committed"}, "a claim that was paid is kept, and says so"
    assert run("audit", "verify", house.path, "--json").ok().json["verified"]
    _check_receipts(scene, given["grant"])


def _words(scene: Scene) -> list[str] | None:
    found = [one["deletion"] for one in history(scene) if one["deletion"]]
    return found if found and "due" not in found else None


def _check_receipts(scene: Scene, grant: str) -> None:
    record = run("wallet", "receipt", scene.patient.wallet, grant, "--lang", "en").ok().json
    assert [one["event_state"] for one in record["events"]] == ["given", "withdrawn"]
    assert record["pii_processing"]["purposes"][0]["amount_cap_fen"] == 1_000_000
    assert record["receipt"]["log_proof"]
    assert record["receipt"]["withdrawal_proof"]
    fhir = run("wallet", "receipt", scene.patient.wallet, grant, "--fhir").ok().json
    found = FhirConsent.model_validate(fhir)
    assert found.status == "inactive"
    assert found.provision is not None
    assert found.provision.type == "permit"


def _forget_keys(scene: Scene) -> None:
    """As if the wallet had not been opened while its organisations' former keys were in force."""
    wallet = scene.patient.wallet / "wallet.json"
    document = json.loads(wallet.read_bytes())
    assert document["their_keys"]
    wallet.write_text(json.dumps(document | {"their_keys": []}), "utf-8")


def test_what_was_signed_before_a_key_was_replaced_is_read_as_before(scene: Scene) -> None:
    house, hospital = scene.house, scene.house.cast.ids["hospital"]

    def stated() -> bytes:
        return bytes(house.broker_rows("SELECT envelope FROM statement WHERE participant = ?", hospital)[0][0])

    def waiting() -> set[str]:
        return {one["exchange"] for one in history(scene) if (one["schema"], one["state"]) == ("statement", "accepted")}

    run("wallet", "statement", scene.patient.wallet).ok()
    agreed(scene)
    redeem(scene, code_of(scene)["code"]).ok()
    until(waiting, "the statement waits")
    unread, before, first = waiting(), history(scene), stated()
    run("node", "rotate", house.path / "hospital", "signing").ok()
    until(lambda: stated() != first, "the new key is stated")
    assert history(scene)[: len(before)] == before
    _forget_keys(scene)
    assert history(scene)[: len(before)] == before
    _forget_keys(scene)
    read = run("wallet", "statement", scene.patient.wallet, "--json").ok().json
    assert unread <= {one["exchange"] for one in read}
    agreed(scene)
    redeem(scene, code_of(scene)["code"]).ok()
    assert len(history(scene)) > len(before)
    run("wallet", "statement", scene.patient.wallet).ok()


def test_a_code_agreed_to_at_admission_pays_the_bill(scene: Scene) -> None:
    """Before there is a bill: a cap, what is known of her, and the number of the visit that binds it."""
    house, bill = scene.house, sample_bill(7)
    known = {"mdtrt_id", "psn_name", "psn_cert_type", "certno", "gend", "brdy", "med_type"}
    head = {name: value for name, value in json.loads(bill)["setlinfo"].items() if name in known}
    admission = house.file("admission.json", json.dumps({"setlinfo": head}).encode())
    patient = house.enrol(bill, "admitted", admission=admission)
    request, to = house.file("request.json"), house.cast.ids["insurer"].hex()
    words = ("hospital", "request-consent", house.path / "hospital", patient.key, "--recipient", to, "-o", request)
    without = run(*words, "--admission", admission)
    assert (without.code, "has a cap" in without.err) == (2, True)
    assert run(*words, "--cap", 1).code == 2, "neither a bill nor an admission"
    run(*words, "--admission", admission, "--direct-pay", "--cap", 2_000_000).ok()
    shown = run("wallet", "review", patient.wallet, request, "--json", "--lang", "en").ok().json
    values = {one["unit"]: one["value"] for one in shown["units"]}
    assert values["birth-date"]
    assert values["diagnosis"] == "", "what nobody knows yet is not made up"
    kept, _ = house.agree(patient, request)
    run("hospital", "keep-consent", house.path / "hospital", kept).ok()
    card = house.cast.cards["hospital"]
    code = run("wallet", "code", patient.wallet, "--hospital", card, "--json").ok().json["code"]
    settled = redeem(scene, code, bill).ok().json
    assert (settled["state"], settled["commercial_fen"]) == ("confirmed", 800_000)
    nameless = house.file("admission.json", json.dumps({"setlinfo": head | {"mdtrt_id": ""}}).encode())
    refused = run(*words, "--admission", nameless, "--direct-pay", "--cap", 1)
    assert (refused.code, "mdtrt_id" in refused.err) == (2, True)


def test_eighteen_digits_read_aloud(scene: Scene) -> None:
    agreed(scene)
    shown = code_of(scene, "--online")
    assert redeem(scene, shown["digits"]).ok().json["state"] == "confirmed"
    body = "12345678901234567"
    wrong = redeem(scene, body + ticket.luhn(body))
    assert (wrong.code, "ticket.unknown" in wrong.err) == (4, True)
    slip = redeem(scene, "1" * 18)
    assert (slip.code, "malformed.field" in slip.err) == (2, True)


def test_of_two_grants_of_one_second_a_code_has_the_last(scene: Scene) -> None:
    first, last = agreed(scene), agreed(scene)
    hospital = scene.house.cast.ids["hospital"]
    found = [
        one.grant_hash.hex() for one in codes.usable(wallet.load(scene.patient.wallet), hospital, int(time.time()))
    ]
    assert last in found
    assert first not in found


def test_a_grant_is_good_for_a_code_at_once_though_the_clock_was_set_back(scene: Scene) -> None:
    grant = agreed(scene)
    opened = wallet.load(scene.patient.wallet)
    pair, given = opened.find_grant(bytes.fromhex(grant))
    begun = consents.verify_grant(consent.grant_of(given), pair.public).not_before
    opened.clock_offset_ms = -1
    drawn = asyncio.run(codes.draw(opened, bytes.fromhex(pair.hospital), begun))
    assert bytes.fromhex(grant) in [found for found, _ in drawn.signed]


def test_above_the_cap_she_confirms_hospital_and_amount(scene: Scene) -> None:
    house = scene.house
    grant = agreed(scene, grant=("--cap", "5000.00"))
    other = [one for one in _active(scene) if one != grant]
    for one in other:
        run("wallet", "revoke", scene.patient.wallet, one).ok()
    refused = redeem(scene, code_of(scene)["code"])
    assert (refused.code, "consent.confirm" in refused.err) == (4, True)
    request = house.ask(scene.patient, BILL, "--confirm", "--cap", 800_000)
    shown = run("wallet", "review", scene.patient.wallet, request, "--json").ok().json
    assert "示例市第一人民医院" in shown["notice"]
    assert "8,000.00" in shown["notice"]
    kept, _ = house.agree(scene.patient, request)
    assert house.settle(further(BILL), kept).ok().json["state"] == "confirmed"


def test_for_another_stay_she_is_asked_again(scene: Scene) -> None:
    """The code is hers, and the stay is not the one that she agreed to."""
    agreed(scene)
    other = json.loads(BILL)
    other["setlinfo"]["mdtrt_id"] += "2"
    refused = redeem(scene, code_of(scene)["code"], json.dumps(other).encode())
    assert (refused.code, "consent.confirm" in refused.err, "not for this stay" in refused.err) == (4, True, True)


def _active(scene: Scene) -> list[str]:
    rows = run("wallet", "grants", scene.patient.wallet, "--json").ok().json
    return [one["grant"] for one in rows if one["state"] == "active" and one["mode"] == "direct_pay"]


def test_the_hospital_narrows_one_claim_without_asking_again(scene: Scene) -> None:
    kept = scene.house.consent(scene.patient, BILL)
    settled = scene.house.settle(further(BILL), kept, "--narrow", "inpatient-claim.name=absent").ok().json
    claim = next(one for one in settled["exchanges"] if one["step"] == "claim")
    assert claim["ceiling"]["name"] is None


def test_refusing_weighs_the_same(scene: Scene) -> None:
    request = scene.house.ask(scene.patient, BILL)
    said = run("wallet", "refuse", scene.patient.wallet, request, "--json").ok().json
    record = run("wallet", "receipt", scene.patient.wallet, said["request"]).ok().json
    assert [one["event_state"] for one in record["events"]] == ["refused"]


def test_phishing_by_whom_nobody_knows(scene: Scene, tmp_path: Path) -> None:
    """A stranger's request, and the hospital's own with another requester in its name."""
    house = scene.house
    honest = desk.read_request(house.ask(scene.patient, BILL))
    stranger = FileKeystore.draw(tmp_path / "stranger")
    keys = FileKeystore.load(house.cast.settings["insurer"].keys)
    from clients.keystore import state_keys

    opened = wallet.load(scene.patient.wallet)
    now = int(time.time())
    asked = consent.review(opened, honest, now).request
    for signer, statement, reason in (
        (stranger.signing, state_keys(stranger, 1, now), "key.not_pinned"),
        (stranger.signing, honest.key_statement, "key.unknown"),
        (keys.signing, state_keys(keys, 9, now), "presentation.sender"),
    ):
        shown = desk.Request(asked.sign(signer), statement, honest.preview)
        path = house.file("request.json")
        desk.write_request(path, shown)
        ran = run("wallet", "review", scene.patient.wallet, path)
        assert reason in ran.err


def test_a_hospitals_words_hide_nothing_of_the_screen(scene: Scene) -> None:
    """Its notice is free text: what would conceal or colour what stands below it is spelled out."""
    house = scene.house
    honest = desk.read_request(house.ask(scene.patient, BILL))
    asked = consent.review(wallet.load(scene.patient.wallet), honest, int(time.time())).request
    version, cap, language, _ = cbor.array(asked.terms, 4096, 4)
    hostile = replace(asked, terms=cbor.encode([version, cap, language, "\x1b[8m[conceal]\u202e[/red]"]))
    hospital = FileKeystore.load(house.cast.settings["hospital"].keys)
    path = house.file("request.json")
    desk.write_request(path, desk.Request(hostile.sign(hospital.signing), honest.key_statement, honest.preview))
    shown = run("wallet", "review", scene.patient.wallet, path).ok().out
    assert r"\x1b[8m[conceal]\u202e[/red]" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


PREVIEWS = [
    {"inpatient-claim": 5},
    {"inpatient-claim": {"totals": 5}},
    {"inpatient-claim": {"diagnosis": [[1, 2, 3]]}},
    {"inpatient-claim": {"no-such-unit": 1}},
    {"statement": {"remainder": 1}},
]


@pytest.mark.parametrize("preview", PREVIEWS)
def test_a_preview_that_is_none_of_the_record_asked_for_is_refused(scene: Scene, preview: Any) -> None:
    """It is drawn on every page: one that cannot be would close the wallet for all hospitals."""
    path, folder = scene.house.ask(scene.patient, BILL), scene.patient.wallet / "requests"
    document = json.loads(path.read_text("utf-8"))
    assert consent.review(wallet.load(scene.patient.wallet), desk.read_request(path), int(time.time()))
    path.write_text(json.dumps(document | {"preview": preview}), "utf-8")
    ran = run("wallet", "review", scene.patient.wallet, path)
    assert (ran.code, "malformed.field" in ran.err) == (2, True)
    # One that an earlier version kept is told as such, beside the others.
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"{os.urandom(32).hex()}.json"
    desk.write_request(kept, desk.read_request(path))
    (row,) = [
        one
        for one in requests.listed(wallet.load(scene.patient.wallet), int(time.time()))
        if one.request_hash.hex() == kept.stem
    ]
    assert (row.state, row.reason) == ("not valid", "malformed.field")
    kept.unlink()


@pytest.mark.parametrize("rows", [5, [[1]], [[[1], 2]], [["totals", b"octets"]]])
def test_a_preview_in_an_offer_is_values_by_unit(rows: Any) -> None:
    with pytest.raises(Malformed):
        claims._preview(cbor.encode(["inpatient-claim", rows]))


def test_what_is_nested_without_an_end_is_no_file_of_ours(scene: Scene) -> None:
    path = scene.house.file("nested.json", b"[" * 100_000)
    ran = run("wallet", "review", scene.patient.wallet, path)
    assert (ran.code, "usage.file" in ran.err) == (2, True)


def test_recovery_code_and_hotline_stop_everything(scene: Scene, tmp_path: Path) -> None:
    house = scene.house
    grant = agreed(scene)
    cards = ("--hospital", house.cast.cards["hospital"], "--recipient", house.cast.cards["insurer"])
    code = scene.patient.wallet / "recovery.code"
    lost = tmp_path / "new phone"
    found = run(
        "wallet", "recover", lost, *cards, "--contact", house.contact, "--recovery", code,
        "--stop", "--json",
    ).ok().json  # fmt: skip
    assert grant in found["grants"]
    late = redeem(scene, code_of(scene)["code"])
    assert (late.code, "consent.revoked" in late.err) == (4, True)
    pending = run("wallet", "recover", lost, scene.patient.key, *cards, "--recovery", code, "--json").ok().json
    assert pending["active_ms"] > 1000 * (time.time() + 80_000)
    told = run("wallet", "grants", scene.patient.wallet).ok()
    assert pending["key"][:16] in "".join(told.err.split()), "the other devices are told at once"
    run("wallet", "key", "strike", scene.patient.wallet, pending["key"], *cards).ok()


def test_a_wallet_whose_key_lies_elsewhere_signs_the_same_way(scene: Scene, tmp_path: Path) -> None:
    """What a browser does: the wallet holds no seed, and gets one signature for each thing that it signs."""
    opened = wallet.load(scene.patient.wallet)
    (pair,) = opened.pairs
    key, signed = SigningKey(bytes.fromhex(pair.seed)), []
    pair.seed = ""

    async def in_the_browser(asked: Pair, kind: envelope.Kind, payload: bytes) -> bytes:
        signed.append(payload)
        assert asked is pair
        return bytes(key.sign(envelope.to_sign(kind, payload)).signature)

    opened.signer = in_the_browser
    opened.path = tmp_path
    now = int(time.time())
    seen = consent.review(opened, desk.read_request(scene.house.ask(scene.patient, BILL)), now)
    given = asyncio.run(consent.give(opened, seen, consent.Choice.as_asked(seen), now))
    done = asyncio.run(stop.one(opened, given.grant_hash, now))
    assert done.grants == (given.grant_hash,)
    assert len(signed) == 2

    async def another(_: Pair, kind: envelope.Kind, payload: bytes) -> bytes:
        return bytes(SigningKey.generate().sign(envelope.to_sign(kind, payload)).signature)

    opened.signer = another
    with pytest.raises(Error) as caught:
        asyncio.run(consent.give(opened, seen, consent.Choice.as_asked(seen), now))
    assert caught.value.reason == "signature.invalid"


def test_the_desk_obeys_the_wallet_directly(scene: Scene) -> None:
    house = scene.house
    request = house.ask(scene.patient, BILL)
    kept, grant = house.agree(scene.patient, request)
    opened = wallet.load(scene.patient.wallet)
    pair, _ = opened.find_grant(bytes.fromhex(grant))
    signed = consents.Revocation(opened.contact.origin, bytes.fromhex(grant), int(time.time())).sign(pair.key)
    word = house.file("revocation.json")
    desk.write_revocation(word, signed)
    run("hospital", "stop", house.path / "hospital", word, "--consent", kept).ok()
    late = house.settle(further(BILL), kept)
    assert (late.code, "consent.revoked" in late.err) == (4, True)


def test_the_hotline_is_logged_with_its_reason(tmp_path: Path) -> None:
    """The operator's keys stand in the broker's folder; nobody else's word counts (`test_subject_keys`)."""
    key = tmp_path / "operator.key"
    key.write_text(SigningKey.generate().encode().hex())
    key.chmod(0o600)
    folder = tmp_path / "broker"
    assert operator.main(["init", str(folder), "--origin", "x.example/log", "--hotline", str(key)]) == 0
    assert json.loads(json.dumps((folder / "broker.toml").read_text())).count("hotline") == 1
    words = ["stop", str(folder), "--operator", str(key), "--grant", "00" * 32, "--reason", "lost phone"]
    assert operator.main(words) == 6, "the broker is not running"
