"""The eight checks of a recipient: the honest way through, and one lie at a time, each refused with its own reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.formats import (
    CLAIM,
    DAY,
    HOSPITAL,
    INSURER,
    NOW,
    PATIENT,
    PAYER,
    RIVAL,
    Exchange,
    Log,
    Sent,
    answer,
    asked_of,
    bill,
    claim,
    grant_for,
    known,
    lying,
    recipient,
    refused,
    seed,
    subject_key,
    terms,
    wallet,
    with_leaf,
)
from tests.vectors import second
from zhifu import capsule, leaf, presentation, receipt, schema, sealed
from zhifu.capsule import Terms
from zhifu.envelope import seal_frame
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import participant_id
from zhifu.receipt import Detail, Entry
from zhifu.receive import Opened, Received, Recipient, receive
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE

POLICY = seed("policy")


def to_insurer(received: Received, now: int = NOW, **changed: Any) -> Opened:
    return receive(received, recipient(INSURER, **changed), now)


def claimed(**changed: Any) -> Exchange:
    return replace(claim(), **changed)


def granted(**changed: Any) -> Exchange:
    """A claim on another grant: its subject signs it, and the presentation names it."""
    one = claim()
    assert one.grant
    return replace(one, grant=replace(one.grant, **changed))


def by_statute(**changed: Any) -> Exchange:
    """The claim to the public payer: the law is its basis, not consent."""
    return replace(
        claim(PAYER), grant=None, subject=None, basis_kind=BASIS_KIND_STATUTE, basis=POLICY,
        purpose="public-settlement", terms=None, attestations=(), **changed,
    )  # fmt: skip


# --- the honest way ---------------------------------------------------------------------------------------------------


def test_a_claim_on_a_grant_opens() -> None:
    sent = claim().send()
    received = sent.deliver()
    opened = to_insurer(received)
    assert opened.hash == sent.hash == presentation.hash_of(received.presentation.payload)
    assert opened.presentation == sent.shown
    assert opened.grant == claim().grant
    assert opened.entry == received.entry
    assert opened.values == {
        "encounter": PATIENT["encounter"], "birth-date": 1980, "sex": 2, "address": "测试省", "stay": 7,
        "diagnosis": (4, 9), "item-charges": (("09", 12_400), ("11", -100)), "totals": (("total", 12_300),),
    }  # fmt: skip
    assert opened.capsule.pseudonym == seed("pseudonym insurer")
    assert {one: opened.values.get(one) for one in ("name", "citizen-id", "phone")} == dict.fromkeys(
        ("name", "citizen-id", "phone")
    )


def test_a_claim_by_statute_opens() -> None:
    opened = receive(by_statute().send().deliver(), recipient(PAYER, policy_hashes=frozenset({POLICY})), NOW)
    assert opened.grant is None
    assert opened.values["totals"] == (("total", 12_300),)


def test_a_member_of_a_frame_opens() -> None:
    """Several presentations, one signature: each is opened with its own path."""
    sent = claim().send()
    payloads = [b"another", sent.shown.to_bytes(), b"a third"]
    _, members = seal_frame(sent.envelope.kind, payloads, HOSPITAL.signing)
    assert to_insurer(replace(sent.deliver(), presentation=members[1])).hash == sent.hash
    refused("signature.invalid", to_insurer, replace(sent.deliver(), presentation=replace(members[1], index=2)))


def test_an_answer_opens_and_a_statement_reaches_the_patient() -> None:
    sent = claim().send()
    decided = answer(sent, {"outcome": "reserved", "amounts": [["commercial", 9_000]]}).send()
    opened = receive(decided.deliver(), recipient(HOSPITAL, asked=asked_of(sent)), NOW)
    assert opened.values["amounts"] == (("commercial", 9_000),)
    notice = answer(decided, {"action": "confirm"}, "settlement-notice").send()
    at_insurer = recipient(INSURER, asked=asked_of(decided))
    assert receive(notice.deliver(), at_insurer, NOW).values["action"] == "confirm"
    statement = statement_to_patient(sent).send()
    at_wallet = recipient(wallet(), asked=asked_of(sent), parties=(INSURER.id,))
    assert receive(statement.deliver(), at_wallet, NOW).values["remainder"] == 300


def statement_to_patient(sent: Sent, **changed: Any) -> Exchange:
    one = answer(sent, {"remainder": 300}, "statement")
    record = sealed.seal(one.schema, {"encounter": PATIENT["encounter"], "remainder": 300}, HOSPITAL.id, NOW * 1000)
    return replace(one, sender=HOSPITAL, recipient=wallet(), record=record, purpose="statement", **changed)


def test_an_absent_value_is_not_an_absent_unit() -> None:
    """The bill has no phone: released, it is None; not released, it is not there."""
    levels = {"encounter": 0, "phone": 0}
    assert to_insurer(claim(ceilings=levels, policy=levels).send().deliver()).values == {
        "encounter": PATIENT["encounter"],
        "phone": None,
    }


# --- one lie at a time ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lie:
    """What arrives, at whom, when; and the reason it must be refused with."""

    reason: str
    received: Callable[[], Received]
    at: Callable[[], Recipient] = lambda: recipient(INSURER)
    now: int = NOW


def delivered(exchange: Exchange, **tampered: Any) -> Callable[[], Received]:
    return lambda: replace(exchange.send().deliver(), **tampered)


def tampered(change: Callable[[Received], dict[str, Any]], exchange: Exchange | None = None) -> Callable[[], Received]:
    def make() -> Received:
        received = (exchange or claim()).send().deliver()
        return replace(received, **change(received))

    return make


def flipped(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


STRANGER = SigningKey(seed("stranger"))
STEP_1 = {
    "signed by nobody known": Lie("key.unknown", delivered(claimed(signer=STRANGER))),
    "signed by another participant": Lie("presentation.sender", delivered(claimed(signer=PAYER.signing))),
    "signed by the identity key": Lie("key.unknown", delivered(claimed(signer=HOSPITAL.identity))),
    "signed by the cosigning key": Lie("key.unknown", delivered(claimed(signer=HOSPITAL.cosigning))),
    "sender not pinned": Lie("key.unknown", delivered(claim()), lambda: recipient(INSURER, statements=known(PAYER))),
    "statement expired": Lie(
        "key.expired", delivered(claimed(issued_at=NOW + 7 * DAY, not_after=NOW + 7 * DAY + 60)), now=NOW + 7 * DAY
    ),
    "payload edited": Lie(
        "signature.invalid",
        tampered(lambda r: {"presentation": replace(r.presentation, payload=flipped(r.presentation.payload))}),
    ),
    "signature edited": Lie(
        "signature.invalid",
        tampered(lambda r: {"presentation": replace(r.presentation, signature=flipped(r.presentation.signature))}),
    ),
}
STEP_2 = {
    "another log": Lie("presentation.audience", delivered(claimed(aud="other.example/log"))),
    "misrouted": Lie("presentation.recipient", delivered(claim()), lambda: recipient(RIVAL)),
    "expired": Lie("presentation.expired", delivered(claim()), now=NOW + 3601),
    "from the future": Lie("presentation.future", delivered(claim()), now=NOW - presentation.SKEW_S - 1),
    "too long a life": Lie(
        "presentation.lifetime", delivered(claimed(not_after=NOW + presentation.MAX_LIFETIME_S + 1))
    ),
    "another manifest": Lie("manifest.hash", tampered(lambda r: {"manifest": flipped(r.manifest)})),
    "another record's manifest": Lie(
        "manifest.hash", delivered(claim(), manifest=sealed.seal(CLAIM, {}, HOSPITAL.id, 1).encoded_manifest)
    ),
}
STEP_3 = {
    "no grant": Lie("consent.missing", delivered(claim(), grant=None)),
    "another grant": Lie("consent.missing", delivered(claim(), grant=granted(max_uses=1).grant_envelope)),
    "grant forged": Lie("consent.signature", delivered(claimed(subject=STRANGER))),
    "grant not yet valid": Lie("consent.not_yet", delivered(granted(not_before=NOW + 10))),
    "grant expired": Lie("consent.expired", delivered(granted(not_before=NOW - 100, expiry=NOW - 1))),
    "grant for another log": Lie("consent.wrong_audience", delivered(granted(aud="other.example/log"))),
    "grant for another sender": Lie("consent.wrong_sender", delivered(granted(sender=PAYER.id))),
    "grant held by another": Lie("consent.wrong_sender", delivered(granted(cnf=PAYER.id))),
    "grant for another recipient": Lie("consent.wrong_recipient", delivered(granted(recipient=RIVAL.id))),
    "grant for another purpose": Lie("consent.wrong_purpose", delivered(granted(purpose="statement"))),
    "grant for another encounter": Lie("consent.wrong_encounter", delivered(granted(encounter=bytes(16)))),
    "grant narrower than the ceilings": Lie(
        "consent.exceeded", delivered(granted(scopes=((CLAIM.hash, CLAIM.levels({"encounter": 0})),)))
    ),
    "grant for another schema": Lie(
        "consent.exceeded", delivered(granted(scopes=((schema.load("decision").hash, b"\0" * 6),)))
    ),
    "grant with an unknown schema": Lie("schema.unknown", delivered(granted(scopes=((bytes(32), b"\0"),)))),
    "statute not in our bundle": Lie("policy.denied", delivered(by_statute()), lambda: recipient(PAYER)),
    "statute of another bundle": Lie(
        "policy.denied", delivered(by_statute()), lambda: recipient(PAYER, policy_hashes=frozenset({seed("other")}))
    ),
    "statute instead of consent": Lie(
        "policy.denied",
        delivered(claimed(grant=None, basis_kind=BASIS_KIND_STATUTE, basis=POLICY)),
    ),
}
STEP_4 = {
    "sealed by another": Lie("manifest.sealer", delivered(claimed(record=sealed.seal(CLAIM, PATIENT, PAYER.id, 1)))),
    "ceilings of another shape": Lie(
        "malformed.field",
        delivered(by_statute(ceilings=claim(PAYER).ceilings[:-1], said=claim(PAYER).contents())),
        lambda: recipient(PAYER, policy_hashes=frozenset({POLICY})),
    ),
}


def edited(document: bytes) -> bytes:
    """An envelope with a bit of its signature turned."""
    at = document.index(PAYER.statement().signing_key_id) + 32 + 10
    return flipped(document, at)


def the(entry: Entry | None) -> Entry:
    assert entry is not None
    return entry


def own(ceilings: bytes) -> capsule.Capsule:
    """Honest contents, but for other ceilings."""
    return claimed(ceilings=ceilings).contents()


FINER, COARSER = CLAIM.finest, CLAIM.levels({"encounter": 0})
SUBJECT = bytes(subject_key().verify_key)
SUBJECT_ID = participant_id(SUBJECT)
STEP_5 = {
    "capsule swapped": Lie("capsule.hash", lambda: replace(claim().send().deliver(), capsule=claim().send().capsule)),
    "capsule edited": Lie("capsule.hash", tampered(lambda r: {"capsule": flipped(r.capsule)})),
    "capsule to another's key": Lie("key.unknown", delivered(claimed(capsule_key=RIVAL.kem.public))),
    "capsule to a key we no longer have": Lie(
        "key.unknown", delivered(claim()), lambda: recipient(INSURER, kem_keys={})
    ),
    "capsule under another key of ours": Lie(
        "capsule.open", delivered(claim()), lambda: recipient(INSURER, kem_keys={INSURER.kem.public.id: RIVAL.kem})
    ),
    "capsule with finer shares than presented": Lie("capsule.units", delivered(claimed(said=own(FINER)))),
    "capsule with coarser shares than presented": Lie("capsule.units", delivered(claimed(said=own(COARSER)))),
    "terms changed": Lie("capsule.terms", delivered(claimed(terms=Terms(terms().salt, terms().content + b"!")))),
    "terms under another salt": Lie("capsule.terms", delivered(claimed(terms=Terms(bytes(32), terms().content)))),
    "no terms": Lie("capsule.terms", delivered(claimed(terms=None))),
    "no attestation": Lie("consent.not_attested", delivered(claimed(attestations=()))),
    "attested by the hospital alone": Lie(
        "consent.not_attested", delivered(claimed(attestations=(HOSPITAL.attests(SUBJECT),)))
    ),
    "attested by the hospital twice": Lie(
        "consent.not_attested",
        delivered(claimed(attestations=(HOSPITAL.attests(SUBJECT), HOSPITAL.attests(SUBJECT, NOW + 2 * DAY)))),
    ),
    "attested by one other": Lie("consent.not_attested", delivered(claimed(attestations=(PAYER.attests(SUBJECT),)))),
    "another subject attested": Lie(
        "consent.not_attested",
        delivered(claimed(attestations=(HOSPITAL.attests(SUBJECT), PAYER.attests(bytes(STRANGER.verify_key))))),
    ),
    "attestation expired": Lie(
        "key.expired", delivered(claimed(attestations=(HOSPITAL.attests(SUBJECT), PAYER.attests(SUBJECT, NOW - 1))))
    ),
    "attestation by one who is not pinned": Lie(
        "key.not_pinned", delivered(claim()), lambda: recipient(INSURER, statements=known(HOSPITAL, INSURER))
    ),
    "attestation by one whose statement expired": Lie(
        "key.not_pinned",
        delivered(claim()),
        lambda: recipient(INSURER, statements={**known(), PAYER.id: PAYER.statement(issued_at=NOW - 8 * DAY)}),
    ),
    "attestation that is none": Lie(
        "malformed.encoding", delivered(claimed(attestations=(HOSPITAL.attests(SUBJECT), b"x")))
    ),
    "attestation edited": Lie(
        "signature.invalid",
        delivered(claimed(attestations=(HOSPITAL.attests(SUBJECT), edited(PAYER.attests(SUBJECT))))),
    ),
}


def recorded(exchange: Exchange | None = None, **meta: Any) -> Callable[[], Received]:
    """A broker that writes something else into the log than it delivers."""

    def make() -> Received:
        sent = (exchange or claim()).send()
        return in_log(sent.deliver(), replace(sent.meta(), **meta).to_bytes(), sent.detail().to_bytes())

    return make


def in_log(received: Received, meta: bytes, detail: bytes) -> Received:
    log = Log().fill(3)
    entry = receipt.entry(3, NOW * 1000, meta, detail)
    log.leaf_hashes.append(entry.leaf_hash)
    return replace(received, entry=entry, proven=log.proven(3, 4))


def of_another_exchange() -> Received:
    log = Log()
    one = claim().send().deliver(log)
    two = claimed(nonce=bytes(16)).send().deliver(log)
    return replace(one, entry=two.entry, proven=log.proven(0, 2))


BEYOND = claim(policy={**{unit.name: 0 for unit in CLAIM.units}}).released[:3] + b"\0" + claim().released[4:]
STEP_6 = {
    "no receipt": Lie("receipt.missing", delivered(claim(), entry=None)),
    "receipt of another exchange": Lie("receipt.invalid", of_another_exchange),
    "receipt of another log": Lie(
        "receipt.invalid", lambda: claim().send().deliver(Log(origin="other.example/log").fill(2))
    ),
    "entry edited": Lie("receipt.invalid", tampered(lambda r: {"entry": replace(the(r.entry), meta=b"\xf6")})),
    "entry at another place": Lie("receipt.invalid", tampered(lambda r: {"entry": replace(the(r.entry), index=4)})),
    "entry beyond the range": Lie("receipt.invalid", tampered(lambda r: {"entry": replace(the(r.entry), index=6)})),
    "entry under another key": Lie(
        "receipt.invalid", tampered(lambda r: {"entry": replace(the(r.entry), meta_key=bytes(32))})
    ),
    "recorded as a denial": Lie("receipt.invalid", recorded(event="exchange.denied")),
    "recorded for another sender": Lie("receipt.invalid", recorded(sender=PAYER.id)),
    "recorded for another recipient": Lie("receipt.invalid", recorded(recipient=RIVAL.id)),
    "recorded for another purpose": Lie("receipt.invalid", recorded(purpose="statement")),
    "recorded with another schema": Lie("receipt.invalid", recorded(schema_hash=bytes(32))),
    "recorded with other ceilings": Lie("receipt.invalid", recorded(ceilings=COARSER)),
    "less recorded than released": Lie("receipt.invalid", recorded(released=COARSER)),
    "recorded under another presentation": Lie(
        "receipt.invalid",
        lambda: in_log(claim().send().deliver(), claim().send().meta().to_bytes(), Detail(bytes(32)).to_bytes()),
    ),
    "recorded as no entry": Lie("malformed.encoding", lambda: in_log(claim().send().deliver(), b"", b"")),
    "more released than presented": Lie("receipt.invalid", delivered(claimed(released=BEYOND))),
    "a level that does not exist": Lie(
        "malformed.field", delivered(claimed(released=claim().released[:1] + b"\x09" + claim().released[2:]))
    ),
}


def padded(unit: str, rank: int, plain: bytes) -> Exchange:
    """A hospital that seals any plaintext at a level."""
    record, u = bill(), CLAIM.unit(unit).index
    secret = leaf.secret(record.key, record.manifest.rid, u, rank)
    header = b"zhifu/v1 leaf\0" + leaf.place(record.manifest.rid, u, rank)
    keys = second.hkdf_expand(secret, header, 64)
    made = keys[32:] + second.gcm_seal(keys[:32], bytes(12), plain, header + CLAIM.hash)
    return claimed(record=with_leaf(record, unit, rank, made))


def swapped_leaves(received: Received) -> dict[str, Any]:
    """Birth decade and sex: both released, both 56 bytes, one after the other."""
    begin = CLAIM.sizes[0][0]
    return {"leaves": received.leaves[:begin] + received.leaves[begin + 56 : begin + 112]
            + received.leaves[begin : begin + 56] + received.leaves[begin + 112 :]}  # fmt: skip


BROKEN = with_leaf(bill(), "sex", 0, flipped(sealed.slices(CLAIM, 0, bill().leaves)[CLAIM.leaves.index((4, 0))]))
STEP_7 = {
    "leaf edited": Lie("leaf.digest", tampered(lambda r: {"leaves": flipped(r.leaves)})),
    "leaves swapped": Lie("leaf.digest", tampered(swapped_leaves)),
    "leaf dropped": Lie("leaf.set", tampered(lambda r: {"leaves": r.leaves[:-304]})),
    "leaf added": Lie("leaf.set", tampered(lambda r: {"leaves": r.leaves + r.leaves[-304:]})),
    "share edited": Lie("leaf.commitment", tampered(lambda r: {"shares": flipped(r.shares)})),
    "shares swapped": Lie(
        "leaf.commitment", tampered(lambda r: {"shares": r.shares[32:64] + r.shares[:32] + r.shares[64:]})
    ),
    "share dropped": Lie("leaf.set", tampered(lambda r: {"shares": r.shares[:-32]})),
    "share added": Lie("leaf.set", tampered(lambda r: {"shares": r.shares + bytes(32)})),
    "shares of another presentation": Lie(
        "leaf.commitment", delivered(claim(), shares=claimed(nonce=bytes(16)).send().deliver().shares)
    ),
    "key that does not open": Lie("leaf.open", delivered(claimed(record=BROKEN))),
    "leaf under another record's key": Lie(
        "leaf.commitment",
        delivered(claimed(record=with_leaf(bill(), "sex", 0, leaf.seal(2, 8, seed("x"), bytes(16), 4, 0, CLAIM.hash)))),
    ),
    "padding without a mark": Lie("leaf.padding", delivered(padded("sex", 0, b"\x02" + bytes(7)))),
    "padding that is not zeros": Lie("leaf.padding", delivered(padded("sex", 0, b"\x02\x80" + b"\x01" * 6))),
    "not strict CBOR": Lie("malformed.encoding", delivered(padded("sex", 0, b"\x18\x02\x80" + bytes(5)))),
    "year in the decade's slot": Lie("leaf.grammar", delivered(claimed(record=lying(bill(), "birth-date", 2, 1984)))),
    "address in the province's slot": Lie(
        "leaf.grammar", delivered(claimed(record=lying(bill(), "address", 2, PATIENT["address"])))
    ),
    "charges by line in the slot of sums": Lie(
        "leaf.grammar", delivered(claimed(record=lying(bill(), "item-charges", 1, [["09", 1], ["09", 2]])))
    ),
    "codes in the slot of chapters": Lie(
        "leaf.grammar", delivered(claimed(record=lying(bill(), "diagnosis", 2, ["I21", "E11"])))
    ),
    "no encounter": Lie("leaf.grammar", delivered(claim(ceilings={"sex": 0}, policy={"sex": 0}))),
    "another encounter": Lie(
        "answer.mismatch", delivered(claimed(record=lying(bill(), "encounter", 0, seed("another encounter"))))
    ),
    "a handle that all recipients share": Lie("answer.mismatch", lambda: with_handle_of(HOSPITAL.id)),
}


def with_handle_of(participant: bytes) -> Received:
    handle = sealed.encounter_handle(PATIENT["encounter"], participant)
    one = claim()
    assert one.subject
    changed = grant_for(INSURER.id, one.ceilings, handle, one.subject)
    return replace(one, grant=changed, encounter=handle).send().deliver()


STEP_8 = {
    "another pseudonym": Lie(
        "pseudonym.changed",
        delivered(claimed(pseudonym=seed("another"))),
        lambda: recipient(INSURER, pseudonyms={(HOSPITAL.id, SUBJECT_ID): seed("pseudonym insurer")}),
    ),
}
ASKED = claim().send()


def answered(schema_name: str = "decision", values: dict[str, Any] | None = None, **changed: Any) -> Lie:
    """An answer to the hospital, with one thing wrong."""
    made = replace(answer(ASKED, values or {}, schema_name), **changed)
    return Lie("answer.mismatch", delivered(made), lambda: recipient(HOSPITAL, asked=asked_of(ASKED)))


def at_wallet(received: Callable[[], Received]) -> Lie:
    return Lie("answer.mismatch", received, lambda: recipient(wallet(), asked=asked_of(ASKED), parties=(INSURER.id,)))


ANSWERS = {
    "to nothing": Lie("exchange.unknown", delivered(answer(ASKED, {})), lambda: recipient(HOSPITAL)),
    "by another payer": answered(sender=RIVAL, record=sealed.seal(schema.load("decision"), {}, RIVAL.id, 1)),
    "in another workflow": answered(workflow=bytes(16)),
    "about another encounter": answered(encounter=bytes(16)),
    "for another purpose": answered(purpose="public-settlement"),
    "on another basis": answered(basis=bytes(32)),
    "that is a bill": answered("inpatient-claim", dict(PATIENT)),
    "that is a coordination": answered("coordination"),
    "that is a statement, to the hospital": answered("statement", {"remainder": 1}),
    "a decision, to the patient": at_wallet(
        delivered(replace(statement_to_patient(ASKED), record=sealed.seal(schema.load("decision"), {}, HOSPITAL.id, 1),
                          ceilings=bytes(6), released=bytes(6)))
    ),
    "a statement by a third party": at_wallet(
        delivered(replace(statement_to_patient(ASKED), sender=RIVAL))
    ),
    "a statement to another patient": Lie(
        "answer.mismatch",
        delivered(statement_to_patient(ASKED)),
        lambda: recipient(wallet(), asked={ASKED.hash: replace(asked_of(ASKED)[ASKED.hash], subject=bytes(32))}),
    ),
    "a statement where no patient was named": Lie(
        "answer.mismatch",
        delivered(statement_to_patient(ASKED)),
        lambda: recipient(wallet(), asked={ASKED.hash: replace(asked_of(ASKED)[ASKED.hash], subject=None)}),
    ),
}  # fmt: skip
LIES = {
    f"{step}: {name}": lie
    for step, lies in (
        ("1", STEP_1), ("2", STEP_2), ("3", STEP_3), ("4", STEP_4), ("5", STEP_5), ("6", STEP_6), ("7", STEP_7),
        ("8", STEP_8), ("answer", ANSWERS),
    )
    for name, lie in lies.items()
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_with_its_own_reason(name: str) -> None:
    lie = LIES[name]
    refused(lie.reason, receive, lie.received(), lie.at(), lie.now)


def test_a_presentation_is_opened_once() -> None:
    sent = claim().send()
    received = sent.deliver()
    assert to_insurer(received).hash == sent.hash
    refused("presentation.replayed", to_insurer, received, seen=(sent.hash,))


def test_the_steps_run_in_order() -> None:
    """Everything is wrong at once; mended one by one, each step's own reason comes up in the order of DESIGN 4.3."""
    good = claim().send().deliver()
    digest = presentation.hash_of(good.presentation.payload)
    bad = replace(
        good, presentation=replace(good.presentation, signature=bytes(64)), manifest=b"", grant=None, capsule=b"",
        entry=None, leaves=b"", shares=b"",
    )  # fmt: skip
    me: dict[str, Any] = {"seen": (digest,), "pseudonyms": {(HOSPITAL.id, SUBJECT_ID): seed("before")}}
    mended: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("signature.invalid", {"presentation": good.presentation}, {}),
        ("presentation.replayed", {}, {"seen": ()}),
        ("manifest.hash", {"manifest": good.manifest}, {}),
        ("consent.missing", {"grant": good.grant}, {}),
        ("capsule.hash", {"capsule": good.capsule}, {}),
        ("receipt.missing", {"entry": good.entry}, {}),
        ("leaf.set", {"leaves": good.leaves, "shares": good.shares}, {}),
        ("pseudonym.changed", {}, {"pseudonyms": {}}),
    ]
    for reason, mend, remember in mended:
        refused(reason, to_insurer, bad, **me)
        bad, me = replace(bad, **mend), me | remember
    assert to_insurer(bad, **me).hash == digest


def test_families_of_refusals() -> None:
    """Malformed, not authentic and refused are told apart: only the last can be a matter of time or consent."""
    for lie, family in (
        (STEP_1["signature edited"], NotAuthentic), (STEP_2["expired"], Refused), (STEP_3["grant expired"], Refused),
        (STEP_7["year in the decade's slot"], Malformed), (STEP_5["capsule edited"], NotAuthentic),
    ):  # fmt: skip
        assert isinstance(refused(lie.reason, receive, lie.received(), lie.at(), lie.now), family)


# --- presentations that no sender makes -------------------------------------------------------------------------------

SHOWN = ASKED.shown


@pytest.mark.parametrize(
    "changed",
    [
        {"basis_kind": 0}, {"basis_kind": 3}, {"basis_kind": 9}, {"in_reply_to": bytes(32)}, {"purpose": "marketing"},
        {"purpose": ""}, {"sender": b""}, {"recipient": bytes(31)}, {"key_id": bytes(33)}, {"basis": b""},
        {"manifest_hash": b"x"}, {"capsule_hash": b""}, {"gate_commitment": b""}, {"encounter": bytes(32)},
        {"epoch_id": b""}, {"workflow": b"x"}, {"correlation": b""}, {"nonce": bytes(12)}, {"ticket_hash": b"x"},
        {"issued_at": 0}, {"not_after": 0}, {"not_after": NOW}, {"not_after": NOW - 1}, {"issued_at": 2**40 + 1},
        {"aud": "x" * 257},
    ],
    ids=str,
)  # fmt: skip
def test_fields_of_a_presentation(changed: dict[str, Any]) -> None:
    refused("malformed.field", presentation.parse, replace(SHOWN, **changed).to_bytes())


def test_a_presentation_round_trips() -> None:
    assert presentation.parse(SHOWN.to_bytes()) == SHOWN


@pytest.mark.parametrize(
    "changed",
    [
        {"workflow": bytes(16)}, {"encounter": bytes(16)}, {"basis": bytes(32)}, {"in_reply_to": bytes(32)},
        {"sender": RIVAL.id}, {"recipient": RIVAL.id}, {"purpose": "public-settlement"},
    ],
    ids=str,
)  # fmt: skip
def test_what_ties_an_answer_to_what_it_answers(changed: dict[str, Any]) -> None:
    """The broker asks this too, which has no handle to recompute."""
    decided = answer(ASKED, {}).send().shown
    presentation.check_answers(decided, SHOWN, ASKED.hash, None)
    other = replace(decided, **changed)
    refused("answer.mismatch", presentation.check_answers, other, SHOWN, ASKED.hash, None)


def test_what_ties_a_statement_to_its_patient() -> None:
    shown = statement_to_patient(ASKED).send().shown
    subject = wallet().id
    presentation.check_answers(shown, SHOWN, ASKED.hash, subject)
    presentation.check_answers(replace(shown, sender=INSURER.id), SHOWN, ASKED.hash, subject)
    check = presentation.check_answers
    refused("answer.mismatch", check, shown, SHOWN, ASKED.hash, None)
    refused("answer.mismatch", check, shown, SHOWN, ASKED.hash, RIVAL.id)
    refused("answer.mismatch", check, replace(shown, recipient=RIVAL.id), SHOWN, ASKED.hash, subject)
    refused("answer.mismatch", check, replace(shown, sender=RIVAL.id), SHOWN, ASKED.hash, subject)
    refused("answer.mismatch", check, replace(shown, workflow=bytes(16)), SHOWN, ASKED.hash, subject)


def test_nonces_are_ordered_by_time_and_unlike() -> None:
    nonces = [presentation.new_nonce(NOW * 1000 + i // 2) for i in range(100)]
    assert len(set(nonces)) == 100
    assert [one[:6] for one in nonces] == sorted(one[:6] for one in nonces)
    assert {len(one) for one in nonces} == {16}


def test_an_honest_entry_round_trips() -> None:
    assert receipt.parse_meta(ASKED.meta().to_bytes()) == ASKED.meta()
    assert receipt.parse_detail(ASKED.detail().to_bytes()) == ASKED.detail()
