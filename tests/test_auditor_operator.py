"""What an operator can do who holds the log key: a log that is whole and signed, with entries that never were so.

Each lie is written through the broker's own sequencer, so that tree and checkpoints fit; the auditor finds it by what
the parties signed, and names the entry.

Long, since every lie uses the same world, and a reader looks for one among all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from nacl.signing import SigningKey

from broker.store import tables
from clients.auditor import pins
from clients.auditor.pins import Pins
from clients.config import Pin
from policies.decide import finest
from tests import formats
from tests.formats import DAY, HOSPITAL, INSURER, NOW, ORIGIN, PAYER, RIVAL, Party, Sent, seed
from tests.test_auditor_honest import (
    BUNDLE,
    CLAIM,
    COORDINATION,
    ROLES,
    World,
    begin,
    claim,
    coordination,
    epoch_id,
    patient,
    public_claim,
    sent,
    statement,
)
from zhifu import cbor, consent, envelope
from zhifu.checkpoint import SignatureType, VerifierKey
from zhifu.consent import Grant, Revocation
from zhifu.envelope import Envelope, Kind
from zhifu.keys import participant_id
from zhifu.merkle import Frontier
from zhifu.quota import Quota
from zhifu.receipt import Detail, Head, Meta
from zhifu.statement import Attestation, KeyStatement, PseudonymKey
from zhifu.v1.signed_pb2 import BASIS_KIND_STATUTE, REVOKER_HOTLINE
from zhifu.voprf import KeyPair

Record = tuple[Meta, Detail]
Lie = Callable[[World], Record]
SKEW_S: Final = 300


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Participants, a patient and her registered grant; no exchange yet."""
    made = begin(tmp_path / "demo")
    yield made
    made.close()


def bad(world: World, index: int, pinned: Pins | None = None) -> str:
    """The reason for which the auditor refuses entry ``index``, the first it refuses."""
    found = world.verify(pinned=pinned).first_bad
    assert found is not None
    assert found.index == index, found.line
    return found.reason


def entry(values: dict[str, Any]) -> Record:
    """Meta and detail from one table of fields."""
    return (
        Meta(**{name: values[name] for name in Meta.__slots__ if name in values}),
        Detail(**{name: values[name] for name in Detail.__slots__ if name in values}),
    )


def accepted(one: Sent, **changed: Any) -> Record:
    """The entry of an exchange as an honest broker writes it; ``changed`` are fields of its meta and detail."""
    exchange = one.exchange
    grant = exchange.grant_envelope
    role = ROLES.get(exchange.recipient, "patient")
    allowed = finest(BUNDLE, exchange.purpose, role, exchange.schema)
    values: dict[str, Any] = {
        "event": "exchange.accepted",
        "sender": one.shown.sender,
        "recipient": one.shown.recipient,
        "purpose": one.shown.purpose,
        "schema_hash": exchange.schema.hash,
        "ceilings": one.shown.ceilings,
        "released": bytes(map(max, one.shown.ceilings, allowed)),
        "policy_hash": BUNDLE.hash,
        "exchange": one.hash,
        "grant": consent.hash_of(grant.payload) if grant else b"",
        "subject": exchange.grant.subject if exchange.grant else b"",
        "documents": (one.envelope.to_bytes(),),
    }
    return entry({**values, **changed})


def by(key: SigningKey, one: Sent, **changed: Any) -> Record:
    """The entry of an exchange whose presentation another key signed."""
    signed = envelope.seal_one(envelope.PRESENTATION, one.shown.to_bytes(), key)
    return accepted(one, documents=(signed.to_bytes(),), **changed)


def grant() -> Grant:
    made = claim().grant
    assert made is not None
    return made


def with_grant(**changed: Any) -> Sent:
    """A claim on a grant that the patient signed and nobody registered."""
    one = replace(claim(), grant=replace(grant(), **changed))
    return sent(replace(one, nonce=seed("other grant")[:16]), issued_at=NOW)


def test_honest_entry_of_the_builder_is_accepted(world: World) -> None:
    """Or the lies below would be found for a reason of the test's own."""
    world.record(accepted(world.fresh(claim())))
    world.record(accepted(world.fresh(coordination(claim()))))
    world.record(accepted(world.fresh(public_claim())))
    assert world.verify().verified


# --- exchanges that nobody sent, or not so ----------------------------------------------------------------------------


def _with_other_signature(world: World) -> Record:
    one, other = world.fresh(claim()), world.fresh(claim())
    signed = replace(one.envelope, signature=other.envelope.signature)
    return accepted(one, documents=(signed.to_bytes(),))


def _finer_than_ceilings(world: World) -> Record:
    one = world.fresh(claim())
    unit = CLAIM.unit("diagnosis").index
    meta, detail = accepted(one)
    released = bytearray(meta.released)
    released[unit] = one.shown.ceilings[unit] - 1
    return replace(meta, released=bytes(released)), detail


def _from_payer(world: World) -> Record:
    """The public payer presents the hospital's grant."""
    one = world.fresh(claim())
    shown = replace(one.shown, sender=PAYER.id, epoch_id=epoch_id(PAYER))
    return by(PAYER.signing, replace(one, shown=shown))


LIES: Final[dict[str, tuple[str, Lie]]] = {
    "nobody signed": ("malformed.field", lambda w: accepted(w.fresh(claim()), documents=())),
    "two signed": (
        "malformed.field",
        lambda w: accepted(one := w.fresh(claim()), documents=(one.envelope.to_bytes(),) * 2),
    ),
    "not an envelope": ("malformed.encoding", lambda w: accepted(w.fresh(claim()), documents=(b"\xff" * 100,))),
    "the operator signed": ("key.unknown", lambda w: by(w.opened.log_key, w.fresh(claim()))),
    "the identity key signed": ("key.unknown", lambda w: by(HOSPITAL.identity, w.fresh(claim()))),
    "another participant signed": ("key.unknown", lambda w: by(PAYER.signing, w.fresh(claim()))),
    "another is named as sender": ("key.unknown", lambda w: accepted(w.fresh(claim()), sender=PAYER.id)),
    "in another's name": (
        "presentation.sender",
        lambda w: by(PAYER.signing, w.fresh(claim()), sender=PAYER.id),
    ),
    "a signature of something else": ("signature.invalid", _with_other_signature),
    "another recipient": ("log.corrupt", lambda w: accepted(w.fresh(claim()), recipient=PAYER.id)),
    "another purpose": ("log.corrupt", lambda w: accepted(w.fresh(claim()), purpose="public-settlement")),
    "other ceilings": ("log.corrupt", lambda w: accepted(w.fresh(claim()), ceilings=CLAIM.finest)),
    "a reason": ("log.corrupt", lambda w: accepted(w.fresh(claim()), reason="internal")),
    "another exchange": ("log.corrupt", lambda w: accepted(w.fresh(claim()), exchange=seed("x"))),
    "another grant": ("log.corrupt", lambda w: accepted(w.fresh(claim()), grant=seed("x"))),
    "another subject": ("log.corrupt", lambda w: accepted(w.fresh(claim()), subject=seed("x"))),
    "a grant beside the statute": ("log.corrupt", lambda w: accepted(w.fresh(public_claim()), grant=seed("x"))),
    "finer than the ceilings": ("consent.exceeded", _finer_than_ceilings),
    "finer than the policy": (
        "policy.denied",
        lambda w: accepted(one := w.fresh(claim()), released=one.shown.ceilings),
    ),
    "no levels": ("malformed.field", lambda w: accepted(w.fresh(claim()), released=b"")),
    "levels that are none": ("malformed.field", lambda w: accepted(w.fresh(claim()), released=b"\xfe" * 99)),
    "an unknown schema": ("schema.unknown", lambda w: accepted(w.fresh(claim()), schema_hash=seed("x"))),
    "another schema": ("malformed.field", lambda w: accepted(w.fresh(claim()), schema_hash=COORDINATION.hash)),
    "an unknown policy": ("policy.invalid", lambda w: accepted(w.fresh(claim()), policy_hash=seed("x"))),
    "an unregistered grant": ("consent.unknown", lambda w: accepted(with_grant(grant_id=bytes(16)))),
    "finer than the grant": ("consent.exceeded", lambda w: accepted(w.fresh(claim(), ceilings=CLAIM.finest))),
    "another presents the grant": ("consent.wrong_sender", _from_payer),
    "not the grant's recipient": (
        "consent.wrong_recipient",
        lambda w: accepted(replace(one := w.fresh(claim()), shown=replace(one.shown, recipient=PAYER.id))),
    ),
    "not the grant's purpose": (
        "consent.wrong_purpose",
        lambda w: accepted(w.fresh(claim(), purpose="public-settlement")),
    ),
    "not the grant's encounter": ("consent.wrong_encounter", lambda w: accepted(w.fresh(claim(), encounter=bytes(16)))),
    "another log's": ("presentation.audience", lambda w: accepted(w.fresh(claim(), aud="log.example/other"))),
    "from the future": (
        "presentation.future",
        lambda w: accepted(sent(claim(), issued_at=w.now + 2 * SKEW_S, not_after=w.now + DAY)),
    ),
    "long over": (
        "presentation.expired",
        lambda w: accepted(sent(claim(), issued_at=w.now - DAY, not_after=w.now - SKEW_S - 2)),
    ),
    "living too long": (
        "presentation.lifetime",
        lambda w: accepted(sent(claim(), issued_at=w.now, not_after=w.now + DAY + 1)),
    ),
    "an epoch never offered": ("gate.epoch", lambda w: accepted(sent(claim(), epoch_id=bytes(16)))),
    "another's epoch": ("gate.epoch", lambda w: accepted(sent(claim(), epoch_id=epoch_id(PAYER)))),
    "a statute of another policy": ("policy.denied", lambda w: accepted(w.fresh(public_claim(), basis=seed("x")))),
    "statute where consent is due": (
        "consent.missing",
        lambda w: accepted(
            w.fresh(claim(), basis_kind=BASIS_KIND_STATUTE, basis=BUNDLE.hash, grant=None, subject=None)
        ),
    ),
    "an answer to nothing": (
        "exchange.unknown",
        lambda w: accepted(w.fresh(formats.answer(w.fresh(claim()), {"outcome": "reserved"}))),
    ),
    "to nobody": (
        "participant.unknown",
        lambda w: accepted(replace(one := w.fresh(public_claim()), shown=replace(one.shown, recipient=RIVAL.id))),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_forged_exchange_is_found(world: World, lie: str) -> None:
    reason, tell = LIES[lie]
    assert bad(world, world.record(tell(world))) == reason


def test_a_policy_without_files_is_not_asked_but_pinned(world: World) -> None:
    """Where only the hash is pinned, levels within the ceilings pass; where nothing is pinned, any policy does."""
    one = world.fresh(claim())
    index = world.record(accepted(one, released=one.shown.ceilings, policy_hash=seed("old policy")))
    assert bad(world, index) == "policy.invalid"
    assert world.verify(pinned=replace(world.pins, policies=frozenset([BUNDLE.hash, seed("old policy")]))).verified
    assert world.verify(pinned=replace(world.pins, policies=frozenset())).verified


def test_members_of_a_frame_are_each_checked(world: World) -> None:
    """One signature for many presentations: that it was checked once clears no other presentation."""
    shown = [world.fresh(claim()) for _ in range(3)]
    payloads = [one.shown.to_bytes() for one in shown]
    _, (first, second, third) = envelope.seal_frame(envelope.PRESENTATION, payloads, HOSPITAL.signing)
    for one, signed in zip(shown[:2], (first, second), strict=True):
        world.record(accepted(one, documents=(signed.to_bytes(),)))
    assert world.verify().verified
    for name, changed, reason in (
        ("place", replace(third, index=1), "signature.invalid"),
        ("path", replace(third, path=third.path[:-1]), "signature.invalid"),
        ("payload", replace(third, payload=second.payload), "signature.invalid"),
        ("size", replace(third, size=4), "signature.invalid"),
        ("signature", replace(third, signature=bytes(64)), "signature.invalid"),
        ("key", replace(third, key_id=second.payload[:32]), "key.unknown"),
    ):
        other = world.branch(world.path.with_name(name))
        assert bad(other, other.record(accepted(shown[2], documents=(changed.to_bytes(),)))) == reason
        other.close()


def test_replayed_exchange_is_found(world: World) -> None:
    one = world.fresh(claim())
    world.record(accepted(one))
    assert bad(world, world.record(accepted(one))) == "presentation.nonce_reused"


def test_reused_nonce_is_found(world: World) -> None:
    one = world.fresh(claim())
    world.record(accepted(one))
    again = replace(one, shown=replace(one.shown, correlation=bytes(16)))
    assert bad(world, world.record(accepted(again))) == "presentation.nonce_reused"


def test_a_use_too_many_is_found(world: World) -> None:
    """The grant allows two workflows; each may use it as often as it likes."""
    for workflow in ("a", "b", "a", "b"):
        world.record(accepted(world.fresh(claim(), workflow=seed(workflow)[:16])))
    assert world.verify().verified
    assert bad(world, world.record(accepted(world.fresh(claim(), workflow=seed("c")[:16])))) == "consent.used_up"


def test_use_after_revocation_is_found(world: World) -> None:
    world.revoke(grant(), patient())
    assert bad(world, world.record(accepted(world.fresh(claim())))) == "consent.revoked"


def test_registering_again_is_found(world: World) -> None:
    """It would look as if a revoked grant had been given again."""
    world.revoke(grant(), patient())
    before = world.log.size - 1
    assert world.verify().verified
    index = world.record(registered(patient(), grant()))
    assert index == before + 1
    assert bad(world, index) == "log.corrupt"


def test_use_after_expiry_is_found(world: World) -> None:
    world.now_ms += 2 * DAY * 1000
    assert bad(world, world.record(accepted(world.fresh(claim())))) == "consent.expired"


def test_use_before_registration_is_found(tmp_path: Path) -> None:
    """The grant's entry comes one too late."""
    world = World(tmp_path / "demo")
    for party in ROLES:
        world.enrol(party)
        world.offer_epoch(party)
    world.enrol_subject(patient())
    index = world.record(accepted(world.fresh(claim())))
    world.register(grant().sign(patient()))
    assert bad(world, index) == "consent.unknown"
    world.close()


def _asked(world: World) -> Sent:
    one = world.fresh(claim())
    world.record(accepted(one))
    return one


ANSWERS: Final[dict[str, tuple[str, Callable[[World, Sent], Record]]]] = {
    "another workflow": (
        "answer.mismatch",
        lambda w, asked: accepted(w.fresh(formats.answer(asked, {"outcome": "reserved"}), workflow=bytes(16))),
    ),
    "another encounter": (
        "answer.mismatch",
        lambda w, asked: accepted(w.fresh(formats.answer(asked, {"outcome": "reserved"}), encounter=bytes(16))),
    ),
    "by a third party": (
        "answer.mismatch",
        lambda w, asked: accepted(w.fresh(replace(formats.answer(asked, {"outcome": "reserved"}), sender=PAYER))),
    ),
    "to a third party": (
        "answer.mismatch",
        lambda w, asked: accepted(w.fresh(replace(formats.answer(asked, {"outcome": "reserved"}), recipient=PAYER))),
    ),
    "a claim as an answer": (
        "answer.mismatch",
        lambda w, asked: accepted(
            w.fresh(replace(formats.answer(asked, {}), record=formats.bill(), ceilings=claim().ceilings))
        ),
    ),
    "without the grant of what it answers": (
        "log.corrupt",
        lambda w, asked: accepted(w.fresh(formats.answer(asked, {"outcome": "reserved"}))),
    ),
    "a statement to another's patient": (
        "answer.mismatch",
        lambda w, asked: accepted(w.fresh(replace(statement(asked), recipient=PAYER))),
    ),
}


@pytest.mark.parametrize("lie", ANSWERS)
def test_forged_answer_is_found(world: World, lie: str) -> None:
    reason, tell = ANSWERS[lie]
    asked = _asked(world)
    assert bad(world, world.record(tell(world, asked))) == reason


# --- refusals ---------------------------------------------------------------------------------------------------------


def denied(one: Sent, **changed: Any) -> Record:
    """The entry of a refusal as an honest broker writes it."""
    values = {
        "event": "exchange.denied",
        "sender": one.shown.sender,
        "recipient": one.shown.recipient,
        "purpose": one.shown.purpose,
        "schema_hash": one.exchange.schema.hash,
        "ceilings": one.shown.ceilings,
        "policy_hash": BUNDLE.hash,
        "reason": "consent.exceeded",
        "exchange": one.hash,
        "documents": (one.envelope.to_bytes(),),
    }
    return entry({**values, **changed})


NOTHING: Final = {"recipient": b"", "purpose": "", "schema_hash": b"", "ceilings": b"", "documents": ()}
DENIALS: Final[dict[str, tuple[str | None, Lie]]] = {
    "honest": (None, lambda w: denied(w.fresh(claim()))),
    "before the manifest was read": (None, lambda w: denied(w.fresh(claim()), schema_hash=b"")),
    "a frame that nobody signed": (None, lambda w: denied(w.fresh(claim()), **NOTHING, reason="signature.invalid")),
    "unreadable": (None, lambda w: _denied_bytes(b"\xff")),
    "no reason": ("malformed.field", lambda w: denied(w.fresh(claim()), reason="")),
    "an unknown reason": ("malformed.field", lambda w: denied(w.fresh(claim()), reason="because")),
    "with levels": ("malformed.field", lambda w: denied(w.fresh(claim()), released=CLAIM.finest)),
    "with a grant": ("malformed.field", lambda w: denied(w.fresh(claim()), grant=seed("x"))),
    "without the presentation": ("log.corrupt", lambda w: denied(w.fresh(claim()), **NOTHING)),
    "telling what nobody signed": (
        "log.corrupt",
        lambda w: denied(w.fresh(claim()), documents=(), reason="signature.invalid"),
    ),
    "telling more than can be read": ("log.corrupt", lambda w: _denied_bytes(b"\xff", purpose="statement")),
    "another's signature": ("key.unknown", lambda w: denied(w.fresh(claim()), sender=PAYER.id)),
    "another recipient": ("log.corrupt", lambda w: denied(w.fresh(claim()), recipient=PAYER.id)),
    "another exchange": ("log.corrupt", lambda w: denied(w.fresh(claim()), exchange=seed("x"))),
    "an unknown schema": ("schema.unknown", lambda w: denied(w.fresh(claim()), schema_hash=seed("x"))),
    "an unknown policy": ("policy.invalid", lambda w: denied(w.fresh(claim()), policy_hash=seed("x"))),
    "of nobody": ("participant.unknown", lambda w: denied(w.fresh(claim()), sender=RIVAL.id)),
}


def _denied_bytes(payload: bytes, **changed: Any) -> Record:
    signed = envelope.seal_one(envelope.PRESENTATION, payload, HOSPITAL.signing)
    values = {
        "event": "exchange.denied",
        "sender": HOSPITAL.id,
        "policy_hash": BUNDLE.hash,
        "reason": "malformed.encoding",
        "exchange": participant_id(payload),  # SHA-256, of whatever
        "documents": (signed.to_bytes(),),
    }
    return entry({**values, **changed})


@pytest.mark.parametrize("lie", DENIALS)
def test_forged_refusal_is_found(world: World, lie: str) -> None:
    reason, tell = DENIALS[lie]
    index = world.record(tell(world))
    if reason is None:
        assert world.verify().verified
    else:
        assert bad(world, index) == reason


# --- acknowledgements, and the log that they were shown ---------------------------------------------------------------


def acknowledged(sender: bytes, *signed: Envelope) -> Record:
    return Meta("exchange.acknowledged", sender=sender), Detail(documents=tuple(one.to_bytes() for one in signed))


def word(payload: bytes, key: SigningKey = INSURER.signing) -> Envelope:
    return envelope.seal_one(envelope.ACKNOWLEDGEMENT, payload, key)


ACKNOWLEDGEMENTS: Final[dict[str, tuple[str | None, dict[str, Any]]]] = {
    "honest": (None, {}),
    "another leaf": ("log.fork", {"leaf_hash": seed("x")}),
    "another entry": ("log.fork", {"index": 3}),
    "another root": ("log.fork", {"root": seed("x")}),
    "a size that no checkpoint has": ("log.fork", {"size": 10**6}),
    "an older checkpoint's size": ("malformed.field", {"size": 1}),
    "another log": ("log.fork", {"aud": "log.example/other"}),
    "another exchange": ("exchange.unknown", {"presentation_hash": seed("x")}),
    "another recipient": ("presentation.recipient", {"recipient": PAYER.id}),
    "a refusal without a reason": ("malformed.field", {"outcome": 2}),
}


@pytest.mark.parametrize("lie", ACKNOWLEDGEMENTS)
def test_acknowledgement_that_does_not_fit_is_found(world: World, lie: str) -> None:
    """The recipient signed it, so either it lies or it was shown another log: both are for the officer."""
    reason, changed = ACKNOWLEDGEMENTS[lie]
    one = world.fresh(claim())
    at = world.record(accepted(one))
    said = world.said(one, at, **changed)
    index = world.record(acknowledged(INSURER.id, word(said.to_bytes())))
    if reason is None:
        assert world.verify().verified
    else:
        assert bad(world, index) == reason


def test_acknowledgement_under_a_later_checkpoint_is_found(world: World) -> None:
    """A real checkpoint, but not the one that accepted the entry: the recipient was shown another commit."""
    one = world.fresh(claim())
    at = world.record(accepted(one))
    world.state_keys(PAYER, 2)
    head = world.log.frontier
    said = world.said(one, at, size=head.size, root=head.root())
    index = world.record(acknowledged(INSURER.id, word(said.to_bytes())))
    assert bad(world, index) == "log.fork"


def test_acknowledgement_nobody_signed_is_found(world: World) -> None:
    one = world.fresh(claim())
    at = world.record(accepted(one))
    said = world.said(one, at).to_bytes()
    for meta, reason in (
        (acknowledged(INSURER.id, word(said, world.opened.log_key)), "key.unknown"),
        (acknowledged(PAYER.id, word(said, PAYER.signing)), "presentation.recipient"),
        (acknowledged(RIVAL.id, word(said, RIVAL.signing)), "participant.unknown"),
        (acknowledged(INSURER.id), "malformed.field"),
        (acknowledged(INSURER.id, word(said), word(said)), "exchange.state"),
        (acknowledged(INSURER.id, replace(word(said), signature=bytes(64))), "signature.invalid"),
    ):
        other = world.branch(world.path.with_name(f"{reason}{meta[0].sender[0]}{len(meta[1].documents)}"))
        assert bad(other, other.record(meta)) == reason
        other.close()


def test_acknowledging_twice_is_found(world: World) -> None:
    one = world.fresh(claim())
    at = world.record(accepted(one))
    said = world.said(one, at).to_bytes()
    world.record(acknowledged(INSURER.id, word(said)))
    assert bad(world, world.record(acknowledged(INSURER.id, word(said)))) == "exchange.state"


def test_acknowledgement_from_another_history_is_found(world: World) -> None:
    """Two histories with the same keys: the insurer saw one, the auditor is shown the other.

    The exchange stands in both, at the same place, with the same presentation; the recipient's signature tells.
    """
    other = world.branch(world.path.with_name("other"))
    one = world.fresh(claim())
    (at,) = world.accept(one)
    assert other.accept(one) == [at]
    shown = world.said(one, at)
    index = other.record(acknowledged(INSURER.id, word(shown.to_bytes())))
    assert bad(other, index) == "log.fork"
    world.acknowledge(INSURER.signing, shown)
    assert world.verify().verified
    other.close()


def test_second_history_is_found_by_who_saw_the_first(world: World) -> None:
    """Both histories are good; the head seen before is not in the second. A complete subtree says where, roughly."""
    other = world.branch(world.path.with_name("other"))
    common = world.log.size
    for history, serial in ((world, 2), (other, 3)):
        for party in ROLES:
            history.state_keys(party, serial)
            history.state_keys(party, serial + 2)
        assert history.verify().verified
    found = other.verify(seen=world.log.frontier).first_bad
    assert found is not None
    assert found.reason == "log.inconsistent"
    assert found.index is not None
    assert found.index <= common < world.log.size
    assert f"{found.index} to " in found.detail


def test_checkpoint_over_another_tree_is_found(world: World) -> None:
    """Signed by the log key and stored as it was signed, but not what the entries give: a head for somebody else."""
    size = world.log.size
    head = Head(size, seed("another root"))
    state = world.store.begin()
    state.update(tables.Checkpoint, {"root": head.root, "note": world.log.sign(head)}, size=size)
    state.update(tables.Head, {"root": head.root}, id=1)
    world.store.commit()
    assert bad(world, size - 1) == "log.corrupt"


def test_checkpoint_by_another_key_is_found(world: World) -> None:
    other = replace(world.pins, log_key=VerifierKey(ORIGIN, SignatureType.ED25519, HOSPITAL.statement().signing_key))
    assert bad(world, 1, other) == "log.signature"  # the first checkpoint covers two entries


# --- ends of exchanges ------------------------------------------------------------------------------------------------


def ended(event: str, one: Sent, **changed: Any) -> Record:
    grant_hash = one.shown.basis if one.exchange.grant else b""
    values = {
        "event": event,
        "sender": one.shown.sender,
        "recipient": one.shown.recipient,
        "purpose": one.shown.purpose,
        "exchange": one.hash,
        "grant": grant_hash,
        "subject": one.exchange.grant.subject if one.exchange.grant else b"",
    }
    return entry({**values, **changed})


def test_expiry_before_its_time_is_found(world: World) -> None:
    one = world.fresh(claim())
    world.accept(one)
    assert bad(world, world.record(ended("exchange.expired", one))) == "exchange.state"


def test_expiry_of_another_is_found(world: World) -> None:
    one = world.fresh(claim())
    world.accept(one)
    world.now_ms += DAY * 1000
    for changed, reason in (
        ({"recipient": PAYER.id}, "log.corrupt"),
        ({"subject": b""}, "log.corrupt"),
        ({"exchange": seed("x")}, "exchange.unknown"),
    ):
        other = world.branch(world.path.with_name(next(iter(changed))))
        assert bad(other, other.record(ended("exchange.expired", one, **changed))) == reason
        other.close()


def test_withdrawal_without_revocation_is_found(world: World) -> None:
    one, public = world.fresh(claim()), world.fresh(public_claim())
    world.accept(one, public)
    for sent_one in (one, public):
        other = world.branch(world.path.with_name(sent_one.hash.hex()))
        assert bad(other, other.record(ended("exchange.withdrawn", sent_one))) == "exchange.state"
        other.close()


def revoked(world: World, key: SigningKey, aud: str = ORIGIN, of: bytes | None = None) -> Record:
    digest = of or consent.hash_of(grant().sign(patient()).payload)
    signed = Revocation(aud, digest, world.now).sign(key)
    subject = participant_id(bytes(patient().verify_key))
    detail = Detail(grant=digest, subject=subject, documents=(signed.to_bytes(),))
    return Meta("grant.revoked", sender=HOSPITAL.id), detail


def test_revocation_that_withdraws_nothing_is_found(world: World) -> None:
    """What is queued under the grant goes with it, at once: the next entry must be its withdrawal."""
    one = world.fresh(claim())
    at = world.record(accepted(one))
    index = world.record(revoked(world, patient()))
    assert bad(world, index) == "exchange.state"
    said = world.said(one, at).to_bytes()
    assert bad(world, world.record(acknowledged(INSURER.id, word(said)))) == "exchange.state"


def test_revocation_that_withdraws_late_is_found(world: World) -> None:
    """In between, the exchange could have been delivered."""
    one = world.fresh(claim())
    world.record(accepted(one))
    world.record(revoked(world, patient()))
    index = world.state_keys(PAYER, 2)
    world.record(ended("exchange.withdrawn", one))
    assert bad(world, index) == "exchange.state"


def test_revocation_that_withdraws_another_is_found(world: World) -> None:
    one, other = world.fresh(claim()), world.fresh(public_claim())
    world.record(accepted(one), accepted(other))
    world.record(revoked(world, patient()))
    assert bad(world, world.record(ended("exchange.withdrawn", other))) == "exchange.state"


def test_delivery_after_withdrawal_is_found(world: World) -> None:
    one = world.fresh(claim())
    (at,) = world.accept(one)
    world.revoke(grant(), patient())
    assert world.verify().verified
    said = world.said(one, at).to_bytes()
    assert bad(world, world.record(acknowledged(INSURER.id, word(said)))) == "exchange.state"


def test_a_hotlines_stop_needs_the_hotlines_key(world: World) -> None:
    """Who sets quotas stops nobody's grants, and an auditor that pinned no hotline believes none."""
    desk = SigningKey(seed("hotline"))
    digest = consent.hash_of(grant().sign(patient()).payload)
    said = Revocation(ORIGIN, digest, world.now, by=REVOKER_HOTLINE, reason="lost phone").sign(desk)
    detail = Detail(grant=digest, subject=participant_id(bytes(patient().verify_key)), documents=(said.to_bytes(),))
    index = world.record((Meta("grant.revoked", sender=HOSPITAL.id), detail))
    assert bad(world, index) == "consent.key_status"
    keys = frozenset([bytes(desk.verify_key)])
    # Though it be the very key of one who may set quotas.
    assert bad(world, index, replace(world.pins, operators=keys)) == "consent.key_status"
    assert world.verify(pinned=replace(world.pins, hotline=keys)).verified
    pins.write(world.path / "kept", replace(world.pins, hotline=keys))
    assert pins.load(world.path / "kept").hotline == keys


def test_forged_revocation_is_found(world: World) -> None:
    rival = formats.subject_key("rival")
    world.enrol_subject(rival)
    for name, made, reason in (
        ("operator", revoked(world, world.opened.log_key), "consent.key_status"),
        ("other patient", revoked(world, rival), "consent.unknown"),
        ("other log", revoked(world, patient(), "log.example/other"), "consent.wrong_audience"),
        ("other grant", revoked(world, patient(), of=seed("x")), "consent.unknown"),
    ):
        other = world.branch(world.path.with_name(name))
        assert bad(other, other.record(made)) == reason
        other.close()


# --- consent ----------------------------------------------------------------------------------------------------------


def test_a_refused_grant_is_of_an_enrolled_patient_and_has_a_reason(world: World) -> None:
    whose = {"event": "grant.refused", "grant": seed("forged"), "subject": participant_id(bytes(patient().verify_key))}
    world.record(entry({**whose, "reason": "consent.signature"}))
    assert world.verify().verified
    for name, changed in (
        ("no reason", {}),
        ("nobody", {"reason": "consent.signature", "subject": seed("nobody")}),
        ("sender", {"reason": "consent.signature", "sender": HOSPITAL.id}),
        ("document", {"reason": "consent.signature", "documents": (b"x",)}),
    ):
        other = world.branch(world.path.with_name(name))
        assert bad(other, other.record(entry({**whose, **changed}))).partition(".")[0] in ("malformed", "log")
        other.close()


def registered(key: SigningKey, made: Grant, **changed: Any) -> Record:
    signed = made.sign(key)
    values = {
        "event": "grant.registered",
        "sender": made.sender,
        "recipient": made.recipient,
        "purpose": made.purpose,
        "grant": consent.hash_of(signed.payload),
        "subject": participant_id(bytes(key.verify_key)),
        "documents": (signed.to_bytes(),),
    }
    return entry({**values, **changed})


OTHER: Final = formats.subject_key("nobody attested")
GRANTS: Final[dict[str, tuple[str, Lie]]] = {
    "by a key that nobody attested": (
        "consent.key_status",
        lambda w: registered(OTHER, replace(grant(), subject_key=bytes(OTHER.verify_key))),
    ),
    "by the operator": (
        "consent.key_status",
        lambda w: registered(w.opened.log_key, grant(), subject=participant_id(bytes(patient().verify_key))),
    ),
    "another grant": ("log.corrupt", lambda w: registered(patient(), grant(), grant=seed("x"))),
    "another recipient": ("log.corrupt", lambda w: registered(patient(), grant(), recipient=PAYER.id)),
    "for another log": ("consent.wrong_audience", lambda w: registered(patient(), replace(grant(), aud="log.other"))),
    "presented by another": ("consent.wrong_sender", lambda w: registered(patient(), replace(grant(), cnf=PAYER.id))),
    "over": (
        "consent.expired",
        lambda w: registered(patient(), replace(grant(), not_before=NOW - DAY, expiry=NOW - 60)),
    ),
    "to nobody": ("participant.unknown", lambda w: registered(patient(), replace(grant(), recipient=RIVAL.id))),
}


@pytest.mark.parametrize("lie", GRANTS)
def test_forged_grant_is_found(world: World, lie: str) -> None:
    reason, tell = GRANTS[lie]
    assert bad(world, world.record(tell(world))) == reason


def attested(key: SigningKey, *documents: bytes, **changed: Any) -> Record:
    subject = participant_id(bytes(key.verify_key))
    return entry({"event": "subject.enrolled", "subject": subject, "documents": documents, **changed})


def _by_operator(world: World) -> bytes:
    return Attestation(bytes(OTHER.verify_key), PAYER.id, "x", NOW + DAY).sign(world.opened.log_key).to_bytes()


SUBJECTS: Final[dict[str, tuple[str, Lie]]] = {
    "nobody attested": ("consent.not_attested", lambda w: attested(OTHER)),
    "one attested": ("consent.not_attested", lambda w: attested(OTHER, _says(HOSPITAL))),
    "one attested twice": ("consent.not_attested", lambda w: attested(OTHER, _says(HOSPITAL), _says(HOSPITAL, 9))),
    "the operator attested": ("key.not_pinned", lambda w: attested(OTHER, _says(HOSPITAL), _by_operator(w))),
    "a stranger attested": ("key.not_pinned", lambda w: attested(OTHER, _says(HOSPITAL), _says(RIVAL))),
    "attested long ago": ("key.expired", lambda w: attested(OTHER, _says(HOSPITAL), _says(PAYER, -9))),
    "about two keys": ("consent.not_attested", lambda w: attested(OTHER, _says(HOSPITAL), _says(PAYER, of=patient()))),
    "about another key": ("log.corrupt", lambda w: attested(patient(), _says(HOSPITAL), _says(PAYER))),
    "with a sender": ("log.corrupt", lambda w: attested(OTHER, _says(HOSPITAL), _says(PAYER), sender=PAYER.id)),
    "twice": (
        "log.corrupt",
        lambda w: attested(patient(), _says(HOSPITAL, of=patient()), _says(PAYER, of=patient())),
    ),
}


def _says(party: Party, days: int = 1, of: SigningKey = OTHER) -> bytes:
    return party.attests(bytes(of.verify_key), NOW + days * DAY)


@pytest.mark.parametrize("lie", SUBJECTS)
def test_forged_subject_is_found(world: World, lie: str) -> None:
    reason, tell = SUBJECTS[lie]
    assert bad(world, world.record(tell(world))) == reason


# --- participants and keys --------------------------------------------------------------------------------------------


def publish(world: World, signed: Envelope) -> int:
    world.commit(lambda _, sequence, now_ms: sequence.publish(signed, now_ms))
    return world.log.size - 1


def stated(party: Party, **changed: Any) -> KeyStatement:
    return replace(party.statement(9), **changed)


STATEMENTS: Final[dict[str, tuple[str, Callable[[World], Envelope]]]] = {
    "by a stranger": ("key.not_pinned", lambda w: RIVAL.statement(9).sign(RIVAL.identity)),
    "by the operator": ("key.unknown", lambda w: stated(HOSPITAL).sign(w.opened.log_key)),
    "by the signing key": ("key.unknown", lambda w: stated(HOSPITAL).sign(HOSPITAL.signing)),
    "with an older serial": ("key.rollback", lambda w: stated(HOSPITAL, serial=1).sign(HOSPITAL.identity)),
    "long over": (
        "key.expired",
        lambda w: stated(HOSPITAL, issued_at=NOW - 9 * DAY, not_after=NOW - 2 * DAY).sign(HOSPITAL.identity),
    ),
    "in another's name": ("key.not_pinned", lambda w: stated(HOSPITAL, participant=PAYER.id).sign(HOSPITAL.identity)),
    "with another's TLS key": (
        "key.unknown",
        lambda w: stated(HOSPITAL, tls_spki=PAYER.statement().tls_spki).sign(HOSPITAL.identity),
    ),
    "not a statement": ("malformed.field", lambda w: world_grant()),
}


def world_grant() -> Envelope:
    return grant().sign(patient())


@pytest.mark.parametrize("lie", STATEMENTS)
def test_forged_statement_is_found(world: World, lie: str) -> None:
    reason, tell = STATEMENTS[lie]
    assert bad(world, publish(world, tell(world))) == reason


def test_superseded_key_signs_nothing_more(world: World) -> None:
    """A statement is in force until the next: the old key was perhaps stolen."""
    new = SigningKey(seed("new signing key"))
    signed = stated(HOSPITAL, signing_key=bytes(new.verify_key)).sign(HOSPITAL.identity)
    publish(world, signed)
    world.record(by(new, world.fresh(claim())))
    assert world.verify().verified
    assert bad(world, world.record(accepted(world.fresh(claim())))) == "key.unknown"


def test_expired_statement_signs_nothing_more(world: World) -> None:
    world.now_ms = HOSPITAL.statement().not_after * 1000
    world.record(accepted(world.fresh(public_claim())))
    assert world.verify().verified
    world.now_ms += (SKEW_S + 10) * 1000
    assert bad(world, world.record(accepted(world.fresh(public_claim())))) == "key.expired"


def test_expired_statement_attests_nobody(world: World) -> None:
    world.now_ms = (PAYER.statement().not_after - 1) * 1000
    world.record(attested(OTHER, _says(HOSPITAL, 9), _says(PAYER, 9)))
    assert world.verify().verified
    other = formats.subject_key("another")
    index = world.record(attested(other, _says(HOSPITAL, 9, of=other), _says(PAYER, 9, of=other)))
    assert bad(world, index) == "key.not_pinned"


def test_participants_are_those_that_are_pinned(world: World) -> None:
    enrolled = entry({"event": "participant.enrolled", "sender": RIVAL.id, "documents": (b"other", b"insurer")})
    other = world.branch(world.path.with_name("other"))
    assert bad(other, other.record(enrolled)) == "key.not_pinned"
    other.close()
    people = {**world.pins.participants, RIVAL.id: Pin("insurer", "other")}
    index = world.record(enrolled)
    assert world.verify(pinned=replace(world.pins, participants=people)).verified
    people[RIVAL.id] = Pin("hospital", "other")
    assert bad(world, index, replace(world.pins, participants=people)) == "key.not_pinned"
    people[RIVAL.id] = Pin("insurer", "other")
    assert bad(world, world.record(enrolled), replace(world.pins, participants=people)) == "log.corrupt"


def test_participant_without_a_statement_signs_nothing(world: World) -> None:
    people = {**world.pins.participants, RIVAL.id: Pin("hospital", RIVAL.name)}
    documents = (RIVAL.name.encode(), b"hospital")
    world.record(entry({"event": "participant.enrolled", "sender": RIVAL.id, "documents": documents}))
    one = world.fresh(replace(public_claim(), sender=RIVAL))
    assert bad(world, world.record(accepted(one)), replace(world.pins, participants=people)) == "key.unknown"


EPOCHS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "twice": ("gate.epoch", {"documents": (epoch_id(HOSPITAL),)}),
    "another's": ("gate.epoch", {"documents": (epoch_id(PAYER),)}),
    "not an id": ("malformed.field", {"documents": (b"x",)}),
    "two": ("malformed.field", {"documents": (bytes(16), bytes(16))}),
    "with a purpose": ("log.corrupt", {"purpose": "statement"}),
    "of nobody": ("participant.unknown", {"sender": RIVAL.id}),
}


@pytest.mark.parametrize("lie", EPOCHS)
def test_forged_epoch_is_found(world: World, lie: str) -> None:
    reason, changed = EPOCHS[lie]
    values = {"event": "epoch.offered", "sender": HOSPITAL.id, "documents": (bytes(16),)}
    assert bad(world, world.record(entry({**values, **changed}))) == reason


# --- pseudonyms -------------------------------------------------------------------------------------------------------


OPERATORS: Final = (SigningKey(seed("operator a")), SigningKey(seed("operator b")))


def service(world: World, serial: int, key: str, epoch: int = 1) -> Envelope:
    """The log key's statement of the service's key for the insurer."""
    public = KeyPair.derive(seed(key), b"test").public
    return world.opened.key_statement(world.now, serial, (PseudonymKey(INSURER.id, epoch, public),))


def asked(caller: bytes, recipient: bytes, count: int, epoch: int = 1, **changed: Any) -> Record:
    values = {"event": "pseudonym.evaluated", "sender": caller, "recipient": recipient}
    return entry({**values, "documents": (cbor.encode([1, epoch, count]),), **changed})


def quota(allowed: int, *operators: SigningKey, issued_at: int = NOW, aud: str = ORIGIN) -> Record:
    signed = [Quota(aud, INSURER.id, 1, allowed, issued_at).sign(key).to_bytes() for key in operators]
    return entry({"event": "pseudonym.quota", "sender": INSURER.id, "recipient": INSURER.id, "documents": (*signed,)})


QUESTIONS: Final[dict[str, tuple[str | None, Record]]] = {
    "a hospital for one patient": (None, asked(HOSPITAL.id, INSURER.id, 1)),
    "a hospital for two": ("policy.denied", asked(HOSPITAL.id, INSURER.id, 2)),
    "the public payer for a patient": ("policy.denied", asked(PAYER.id, INSURER.id, 1)),
    "for the public payer": ("policy.denied", asked(HOSPITAL.id, PAYER.id, 1)),
    "for a stranger": ("participant.unknown", asked(HOSPITAL.id, RIVAL.id, 1)),
    "by a stranger": ("participant.unknown", asked(RIVAL.id, INSURER.id, 1)),
    "by the insurer without a quota": ("pseudonym.quota", asked(INSURER.id, INSURER.id, 1)),
    "with a purpose": ("log.corrupt", asked(HOSPITAL.id, INSURER.id, 1, purpose="statement")),
    "with an exchange": ("malformed.field", asked(HOSPITAL.id, INSURER.id, 1, exchange=seed("x"))),
    "less than none": ("malformed.field", asked(HOSPITAL.id, INSURER.id, -1)),
    "no question": ("malformed.encoding", asked(HOSPITAL.id, INSURER.id, 1, documents=(b"\xff",))),
    "refused": (None, asked(HOSPITAL.id, PAYER.id, 999, event="pseudonym.denied", reason="policy.denied")),
    "refused without a reason": ("malformed.field", asked(HOSPITAL.id, PAYER.id, 1, event="pseudonym.denied")),
    "a quota of one operator": ("pseudonym.quota", quota(9, OPERATORS[0])),
    "a quota of one operator, twice": ("pseudonym.quota", quota(9, OPERATORS[0], OPERATORS[0])),
    "a quota of somebody": ("key.unknown", quota(9, OPERATORS[0], OTHER)),
    "a quota of long ago": ("pseudonym.quota", quota(9, *OPERATORS, issued_at=NOW - 9 * DAY)),
    "another log's quota": ("presentation.audience", quota(9, *OPERATORS, aud="log.example/other")),
}


@pytest.mark.parametrize("lie", QUESTIONS)
def test_forged_pseudonym_entry_is_found(world: World, lie: str) -> None:
    reason, record = QUESTIONS[lie]
    pinned = replace(world.pins, operators=frozenset(bytes(key.verify_key) for key in OPERATORS))
    index = world.record(record)
    if reason is None:
        assert world.verify(pinned=pinned).verified
    else:
        assert bad(world, index, pinned) == reason


def test_pseudonyms_beyond_the_quota_are_found(world: World) -> None:
    pinned = replace(world.pins, operators=frozenset(bytes(key.verify_key) for key in OPERATORS))
    world.record(quota(9, *OPERATORS))
    world.record(asked(INSURER.id, INSURER.id, 5))
    world.record(quota(10, *OPERATORS, issued_at=NOW + 1))
    world.record(asked(INSURER.id, INSURER.id, 5))
    assert world.verify(pinned=pinned).verified
    older = world.branch(world.path.with_name("older"))
    assert bad(older, older.record(quota(99, *OPERATORS)), pinned) == "pseudonym.quota"
    older.close()
    assert bad(world, world.record(asked(INSURER.id, INSURER.id, 1)), pinned) == "pseudonym.quota"
    assert bad(world, world.log.size - 5) == "key.unknown"  # without pinned operators nobody may


def test_replaced_pseudonym_key_is_found(world: World) -> None:
    """Two keys under one name: the persons whose pseudonyms the second makes are marked."""
    publish(world, service(world, 1, "a"))
    publish(world, service(world, 2, "b", epoch=2))
    assert world.verify().verified
    older = world.branch(world.path.with_name("older"))
    assert bad(older, publish(older, service(older, 2, "a"))) == "key.rollback"
    older.close()
    assert bad(world, publish(world, service(world, 3, "b"))) == "key.rollback"


# --- entries as such --------------------------------------------------------------------------------------------------


class Raw:
    """Content that is no meta or detail, where the broker's types expect one."""

    event = ""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def to_bytes(self) -> bytes:
        return self._content


@pytest.mark.parametrize(
    ("meta", "detail"),
    [
        (b"", Detail().to_bytes()),
        (b"\xff", Detail().to_bytes()),
        (Meta("subject.enrolled").to_bytes() + b"\0", Detail().to_bytes()),
        (cbor.encode([1, "lunch", b"", b"", "", b"", b"", b"", b"", ""]), Detail().to_bytes()),
        (cbor.encode([2, "epoch.offered", b"", b"", "", b"", b"", b"", b"", ""]), Detail().to_bytes()),
        (Meta("grant.refused").to_bytes(), Detail().to_bytes()),
        (Meta("key.stated").to_bytes(), Detail().to_bytes()),
        (Meta("grant.registered").to_bytes(), b""),
        (Meta("grant.registered").to_bytes(), cbor.encode([1, b"", b"", b"", b""])),
    ],
)
def test_nonsense_is_found(world: World, meta: bytes, detail: bytes) -> None:
    values: Any = (Raw(meta), Raw(detail))
    assert bad(world, world.record(values)).startswith("malformed.")


def test_clock_that_goes_back_is_found(world: World) -> None:
    world.now_ms -= SKEW_S * 1000
    world.state_keys(PAYER, 2)
    assert world.verify().verified
    world.now_ms -= 10_000
    assert bad(world, world.record(accepted(world.fresh(public_claim())))) == "log.corrupt"


def test_every_kind_of_document_is_asked_for_by_name(world: World) -> None:
    """An envelope of one kind never passes for another, whoever signed it."""
    kinds: list[tuple[Kind, Callable[[bytes], Record]]] = [
        (envelope.GRANT, lambda document: registered(patient(), grant(), documents=(document,))),
        (envelope.PRESENTATION, lambda document: accepted(world.fresh(claim()), documents=(document,))),
    ]
    for kind, record in kinds:
        signed = envelope.seal_one(envelope.TICKET, b"x", patient()).to_bytes()
        other = world.branch(world.path.with_name(kind.label.hex()))
        other.record(record(signed))
        found = other.verify(Frontier()).first_bad
        assert found is not None
        assert found.reason == "malformed.field"
        other.close()
