"""The flow of an exchange with real keys: what is refused, with which reason, and what the log says of it.

Each lie below changes one thing of an honest exchange. It must reach its sender with its own reason, stand in the log
as a denial with that reason, leave no row behind, and not disturb the honest exchanges of the same frame.

Long, since it is one table of lies with the broker that they are told to.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from broker import directory
from broker.store import tables
from tests.broker_rig import (
    Rig,
    epoch_of,
    frame,
    frame_of,
    fresh,
    present,
    reason,
    rig,
    statement_of,
    submission,
)
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
    Party,
    Sent,
    answer,
    bill,
    claim,
    grant_for,
    party,
    seed,
    subject_key,
    wallet,
)
from zhifu import capsule, presentation, sealed
from zhifu.epoch import Epoch
from zhifu.schema import ABSENT, coarser, load
from zhifu.sealed import SealedRecord, encounter_handle
from zhifu.v1 import exchange_pb2 as pb
from zhifu.v1 import signed_pb2

Parcel = pb.Submission
DECISION: dict[str, Any] = {"outcome": "paid", "amounts": [["public", 1_200_000]]}


def cut() -> list[bytes]:
    """The bill's leaves in schema order."""
    return sealed.slices(CLAIM, bill().manifest.size_class, bill().leaves)


def place(unit: str, rank: int) -> int:
    return CLAIM.leaves.index((CLAIM.unit(unit).index, rank))


def with_grant(**changed: Any) -> Exchange:
    """The claim on another grant of the same patient."""
    exchange = claim()
    assert exchange.grant is not None
    return replace(exchange, grant=replace(exchange.grant, grant_id=os.urandom(16), **changed))


def other_bill() -> SealedRecord:
    return sealed.seal(CLAIM, PATIENT, HOSPITAL.id, NOW * 1000)


# --- lies -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lie:
    """``told`` is what the sender hears, ``logged`` what the log says where that is more."""

    make: Callable[[Rig], Awaitable[Parcel]]
    told: str
    logged: str
    sender: Party
    alone: bool


LIES: dict[str, Lie] = {}
Make = Callable[[Rig], Awaitable[Parcel]]


def lie(told: str, logged: str = "", sender: Party = HOSPITAL, *, alone: bool = False) -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        LIES[make.__name__] = Lie(make, told, logged or told, sender, alone)
        return make

    return keep


# Leaves, manifest, capsule


@lie("leaf.digest")
async def tampered_leaf(broker: Rig) -> Parcel:
    leaves = cut()
    at = place("diagnosis", 1)
    leaves[at] = leaves[at][:-1] + bytes([leaves[at][-1] ^ 1])
    return submission(present(claim()), leaves=b"".join(leaves))


@lie("leaf.digest")
async def tampered_commitment_of_a_leaf(broker: Rig) -> Parcel:
    leaves = cut()
    leaves[0] = bytes([leaves[0][0] ^ 1]) + leaves[0][1:]
    return submission(present(claim()), leaves=b"".join(leaves))


@lie("leaf.digest")
async def swapped_leaves(broker: Rig) -> Parcel:
    """Two leaves of one length: the insurer would read a year for a decade."""
    leaves = cut()
    year, decade = place("birth-date", 1), place("birth-date", 2)
    assert len(leaves[year]) == len(leaves[decade])
    leaves[year], leaves[decade] = leaves[decade], leaves[year]
    return submission(present(claim()), leaves=b"".join(leaves))


@lie("leaf.digest")
async def leaf_of_another_record(broker: Rig) -> Parcel:
    leaves, other = cut(), sealed.slices(CLAIM, bill().manifest.size_class, other_bill().leaves)
    leaves[place("totals", 0)] = other[place("totals", 0)]
    return submission(present(claim()), leaves=b"".join(leaves))


@lie("leaf.set")
async def added_leaf(broker: Rig) -> Parcel:
    return submission(present(claim()), leaves=b"".join([*cut(), cut()[0]]))


@lie("leaf.set")
async def dropped_leaf(broker: Rig) -> Parcel:
    return submission(present(claim()), leaves=b"".join(cut()[:-1]))


@lie("leaf.set")
async def no_leaves(broker: Rig) -> Parcel:
    return submission(present(claim()), leaves=b"")


@lie("manifest.hash")
async def manifest_of_another_record(broker: Rig) -> Parcel:
    return submission(present(claim()), manifest=other_bill().encoded_manifest)


@lie("manifest.sealer")
async def record_of_another_sealer(broker: Rig) -> Parcel:
    """What the hospital got from another it cannot send on as its own."""
    record = sealed.seal(CLAIM, PATIENT, PAYER.id, NOW * 1000)
    return submission(present(replace(claim(), record=record)))


@lie("schema.unknown")
async def record_of_an_unknown_schema(broker: Rig) -> Parcel:
    made = replace(bill().manifest, schema_hash=bytes(32)).to_bytes()
    sent = present(claim(), manifest_hash=hashlib.sha256(made).digest())
    return submission(sent, manifest=made)


@lie("malformed.field")
async def manifest_with_another_number_of_leaves(broker: Rig) -> Parcel:
    made = replace(bill().manifest, digests=bill().manifest.digests[:-1]).to_bytes()
    return submission(present(claim(), manifest_hash=hashlib.sha256(made).digest()), manifest=made)


@lie("capsule.hash")
async def capsule_of_another_record(broker: Rig) -> Parcel:
    return submission(present(claim()), capsule=present(replace(claim(), record=other_bill())).capsule)


@lie("malformed.size")
async def capsule_that_no_recipient_would_take(broker: Rig) -> Parcel:
    """Signed, but larger than recipients read: it would only fill queues, and streams until they break."""
    large = os.urandom(capsule.MAX_BYTES + 1)
    return submission(present(claim(), capsule_hash=hashlib.sha256(large).digest()), capsule=large)


# The presentation


@lie("presentation.nonce_reused")
async def nonce_of_an_accepted_exchange(broker: Rig) -> Parcel:
    first = present(broker.statute())
    assert [reason(one) for one in await broker.submit(first)] == [""]
    return submission(present(broker.statute(nonce=first.shown.nonce)))


@lie("presentation.expired")
async def expired(broker: Rig) -> Parcel:
    return submission(present(claim(), issued_at=NOW - 3600, not_after=NOW - 1))


@lie("presentation.future")
async def from_the_future(broker: Rig) -> Parcel:
    return submission(present(claim(), issued_at=NOW + 301, not_after=NOW + 400))


@lie("presentation.lifetime")
async def longer_than_a_day(broker: Rig) -> Parcel:
    return submission(present(claim(), not_after=NOW + DAY + 1))


@lie("presentation.audience")
async def for_another_log(broker: Rig) -> Parcel:
    return submission(present(claim(), aud="log.example/other"))


@lie("presentation.sender", sender=PAYER)
async def another_senders_presentation(broker: Rig) -> Parcel:
    return submission(present(claim()))


@lie("malformed.field")
async def no_basis_at_all(broker: Rig) -> Parcel:
    shown = signed_pb2.Presentation.FromString(present(claim()).shown.to_bytes())
    shown.basis_kind = signed_pb2.BASIS_KIND_UNSPECIFIED
    return submission(present(claim()), presentation=shown.SerializeToString(deterministic=True))


@lie("malformed.encoding")
async def unknown_field(broker: Rig) -> Parcel:
    return submission(present(claim()), presentation=present(claim()).shown.to_bytes() + b"\xf8\x07\x01")


@lie("malformed.encoding")
async def no_presentation(broker: Rig) -> Parcel:
    return submission(present(claim()), presentation=b"\xff\xff\xff")


@lie("malformed.field")
async def ceiling_that_the_schema_does_not_have(broker: Rig) -> Parcel:
    ceilings = bytearray(claim().ceilings)
    ceilings[CLAIM.unit("sex").index] = 7
    return submission(present(claim(), ceilings=bytes(ceilings)))


@lie("malformed.field")
async def too_few_ceilings(broker: Rig) -> Parcel:
    return submission(present(claim(), ceilings=claim().ceilings[:-1]))


# The grant


@lie("consent.not_usable", "consent.unknown")
async def unknown_grant(broker: Rig) -> Parcel:
    return submission(present(with_grant()))


@lie("consent.exceeded")
async def finer_than_the_grant(broker: Rig) -> Parcel:
    """Also where policy would not release it: colluding parties could open the ceiling."""
    finer = CLAIM.levels({unit.name: max(0, rank - 1) for unit, rank in zip(CLAIM.units, claim().ceilings, strict=True)
                          if rank != ABSENT})  # fmt: skip
    return submission(present(replace(claim(), ceilings=finer)))


@lie("consent.exceeded")
async def one_unit_more_than_granted(broker: Rig) -> Parcel:
    more = bytearray(claim().ceilings)
    more[CLAIM.unit("phone").index] = 0
    return submission(present(replace(claim(), ceilings=bytes(more))))


@lie("consent.exceeded")
async def schema_that_was_not_granted(broker: Rig) -> Parcel:
    kind = load("coordination")
    record = sealed.seal(kind, {"encounter": PATIENT["encounter"]}, HOSPITAL.id, NOW * 1000)
    return submission(present(replace(claim(), record=record, ceilings=kind.finest)))


@lie("consent.expired", alone=True)
async def expired_grant(broker: Rig) -> Parcel:
    exchange = with_grant(expiry=NOW + 10)
    await broker.grant(exchange)
    broker.clock.advance(11)
    return submission(present(exchange))


@lie("consent.not_yet")
async def grant_for_tomorrow(broker: Rig) -> Parcel:
    exchange = with_grant(not_before=NOW + 60)
    await broker.grant(exchange)
    return submission(present(exchange))


@lie("consent.revoked")
async def revoked_grant(broker: Rig) -> Parcel:
    await broker.revoke(claim())
    return submission(present(claim()))


@lie("consent.key_status")
async def grant_of_a_revoked_key(broker: Rig) -> Parcel:
    (one,) = broker.rows(tables.Subject)
    await broker.run(lambda state, _s, _n: state.update(tables.Subject, {"status": "revoked"}, id=one.id))
    return submission(present(claim()))


@lie("consent.used_up")
async def grant_without_a_use_left(broker: Rig) -> Parcel:
    exchange = with_grant(max_uses=1)
    await broker.grant(exchange)
    assert [reason(one) for one in await broker.submit(present(fresh(exchange)))] == [""]
    return submission(present(exchange))


@lie("consent.wrong_recipient")
async def grant_for_another_recipient(broker: Rig) -> Parcel:
    return submission(present(replace(claim(), recipient=RIVAL)))


@lie("consent.wrong_purpose")
async def grant_for_another_purpose(broker: Rig) -> Parcel:
    return submission(present(claim(), purpose="public-settlement"))


@lie("consent.wrong_encounter")
async def grant_for_another_encounter(broker: Rig) -> Parcel:
    return submission(present(claim(), encounter=os.urandom(16)))


@lie("consent.not_usable", "consent.wrong_sender", PAYER)
async def grant_of_another_sender(broker: Rig) -> Parcel:
    record = sealed.seal(CLAIM, PATIENT, PAYER.id, NOW * 1000)
    return submission(present(replace(claim(), sender=PAYER, record=record)))


# Statute, answers


@lie("policy.denied")
async def statute_of_another_policy(broker: Rig) -> Parcel:
    return submission(present(broker.statute(basis=os.urandom(32))))


@lie("consent.missing")
async def statute_where_a_grant_is_needed(broker: Rig) -> Parcel:
    return submission(present(broker.statute(INSURER), purpose="commercial-settlement"))


@lie("exchange.unknown")
async def answer_to_nothing(broker: Rig) -> Parcel:
    sent = present(broker.statute())
    return submission(present(replace(answer(sent, DECISION), sender=HOSPITAL, record=bill(), ceilings=CLAIM.finest)))


async def asked(broker: Rig) -> Sent:
    sent = present(broker.statute())
    assert [reason(one) for one in await broker.submit(sent)] == [""]
    return sent


@lie("answer.mismatch", sender=PAYER)
async def answer_in_another_workflow(broker: Rig) -> Parcel:
    return submission(present(answer(await asked(broker), DECISION), workflow=os.urandom(16)))


@lie("answer.mismatch", sender=PAYER)
async def answer_about_another_encounter(broker: Rig) -> Parcel:
    return submission(present(answer(await asked(broker), DECISION), encounter=os.urandom(16)))


@lie("answer.mismatch", sender=PAYER)
async def answer_for_another_purpose(broker: Rig) -> Parcel:
    return submission(present(answer(await asked(broker), DECISION), purpose="commercial-settlement"))


@lie("answer.mismatch", sender=PAYER)
async def answer_whose_basis_is_another_exchange(broker: Rig) -> Parcel:
    return submission(present(answer(await asked(broker), DECISION), basis=os.urandom(32)))


@lie("answer.mismatch", sender=PAYER)
async def answer_to_somebody_else(broker: Rig) -> Parcel:
    return submission(present(replace(answer(await asked(broker), DECISION), recipient=INSURER)))


@lie("answer.mismatch", sender=INSURER)
async def answer_by_somebody_else(broker: Rig) -> Parcel:
    record = sealed.seal(load("decision"), {"encounter": PATIENT["encounter"]}, INSURER.id, NOW * 1000)
    return submission(present(replace(answer(await asked(broker), DECISION), sender=INSURER, record=record)))


@lie("answer.mismatch")
async def answer_to_ones_own_question(broker: Rig) -> Parcel:
    made = replace(answer(await asked(broker), DECISION), sender=HOSPITAL, recipient=PAYER)
    record = sealed.seal(load("settlement-notice"), {"encounter": PATIENT["encounter"]}, HOSPITAL.id, NOW * 1000)
    return submission(present(replace(made, record=record, ceilings=record.manifest.schema.finest)))


@lie("answer.mismatch")
async def statement_to_a_patient_who_granted_nothing(broker: Rig) -> Parcel:
    """A claim by statute names no subject: there is nobody to send a statement to."""
    made = answer(await asked(broker), {}, "statement")
    record = sealed.seal(load("statement"), {"encounter": PATIENT["encounter"]}, HOSPITAL.id, NOW * 1000)
    return submission(present(replace(made, sender=HOSPITAL, recipient=wallet(), record=record, purpose="statement")))


@lie("policy.denied", sender=PAYER)
async def bill_called_an_answer(broker: Rig) -> Parcel:
    """A record of the patient does not travel without a basis of its own by calling itself an answer."""
    made = answer(await asked(broker), {})
    record = sealed.seal(CLAIM, PATIENT, PAYER.id, NOW * 1000)
    return submission(present(replace(made, record=record, ceilings=CLAIM.finest)))


# The gate


@lie("gate.epoch")
async def unknown_epoch(broker: Rig) -> Parcel:
    return submission(present(claim(), epoch_id=os.urandom(16)))


@lie("gate.epoch")
async def epoch_of_another_node(broker: Rig) -> Parcel:
    return submission(present(claim(), epoch_id=epoch_of(PAYER).epoch_id))


@lie("gate.epoch")
async def epoch_that_is_over(broker: Rig) -> Parcel:
    over = Epoch(seed("an old epoch")[:16], seed("old"), NOW - 2 * DAY, NOW - DAY)
    await broker.offer(HOSPITAL, over)
    return submission(present(claim(), epoch_id=over.epoch_id))


@lie("gate.epoch")
async def epoch_that_has_not_begun(broker: Rig) -> Parcel:
    early = Epoch(seed("a new epoch")[:16], seed("new"), NOW + DAY, NOW + 2 * DAY)
    await broker.offer(HOSPITAL, early)
    return submission(present(claim(), epoch_id=early.epoch_id))


@lie("gate.epoch", alone=True)
async def epoch_for_a_gate_key_that_is_gone(broker: Rig) -> Parcel:
    await broker.run(lambda state, _s, _n: state.update(tables.Epoch, {"gate_key_id": bytes(32)}, node=HOSPITAL.id))
    return submission(present(claim()))


@lie("gate.unwrap", alone=True)
async def epoch_that_does_not_open(broker: Rig) -> Parcel:
    await broker.run(lambda state, _s, _n: state.update(tables.Epoch, {"sealed_secret": bytes(1200)}, node=HOSPITAL.id))
    return submission(present(claim()))


@lie("gate.root")
async def wrong_gate_root(broker: Rig) -> Parcel:
    return submission(present(claim(), gate_commitment=os.urandom(32)))


@lie("gate.root")
async def gate_root_of_another_nonce(broker: Rig) -> Parcel:
    return submission(present(claim(), nonce=os.urandom(16)))


# Policy


@lie("participant.suspended")
async def to_a_suspended_recipient(broker: Rig) -> Parcel:
    await broker.suspend(INSURER)
    return submission(present(claim()))


@lie("participant.suspended", alone=True)
async def from_a_suspended_sender(broker: Rig) -> Parcel:
    await broker.suspend(HOSPITAL)
    return submission(present(claim()))


@lie("participant.unknown")
async def to_nobody_we_know(broker: Rig) -> Parcel:
    return submission(present(broker.statute(party("stranger"))))


@lie("policy.denied")
async def to_oneself(broker: Rig) -> Parcel:
    return submission(present(broker.statute(HOSPITAL)))


@lie("policy.denied")
async def statute_towards_an_insurer(broker: Rig) -> Parcel:
    return submission(present(broker.statute(INSURER)))


@lie("policy.denied", sender=INSURER)
async def insurer_to_insurer(broker: Rig) -> Parcel:
    """With a grant of the patient's own, and all else right."""
    handle, subject = encounter_handle(PATIENT["encounter"], RIVAL.id), subject_key("insurers")
    granted = replace(
        grant_for(RIVAL.id, claim().ceilings, handle, subject), sender=INSURER.id, cnf=INSURER.id
    )  # fmt: skip
    record = sealed.seal(CLAIM, PATIENT, INSURER.id, NOW * 1000)
    exchange = replace(
        claim(), sender=INSURER, recipient=RIVAL, encounter=handle, grant=granted, subject=subject, record=record
    )
    await broker.grant(exchange)
    return submission(present(exchange))


@lie("policy.nothing_released")
async def nothing_but_the_encounter(broker: Rig) -> Parcel:
    return submission(present(replace(claim(), ceilings=CLAIM.levels({"encounter": 0}))))


@lie("policy.nothing_released")
async def only_what_policy_withholds(broker: Rig) -> Parcel:
    return submission(present(replace(claim(), ceilings=CLAIM.levels({"encounter": 0, "name": 1, "address": 1}))))


@lie("key.expired", alone=True)
async def after_the_key_statement(broker: Rig) -> Parcel:
    broker.clock.advance(8 * DAY)
    later = NOW + 8 * DAY
    return submission(present(broker.statute(), issued_at=later, not_after=later + 3600))


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_refused_with_its_own_reason_and_recorded(tmp_path: Path, name: str) -> None:
    one = LIES[name]
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        parcel = await one.make(broker)
        honest = [] if one.alone or one.sender is not HOSPITAL else [present(broker.statute()) for _ in range(2)]
        before = uses(broker), len(broker.rows(tables.Exchange)), len(broker.rows(tables.Delivery))
        parcels = [*map(submission, honest[:1]), parcel, *map(submission, honest[1:])]
        answers = {
            found.presentation_hash: found
            for found in await broker.submit(frame_of(parcels, one.sender.signing), sender=one.sender)
        }
        exchange = presentation.hash_of(parcel.presentation)
        told = answers[exchange]
        assert (told.refusal.reason, told.released, told.refusal.retryable) == (one.told, b"", False)
        assert told.HasField("entry") == (one.told == one.logged)
        assert broker.events(exchange) == [("exchange.denied", one.logged)]
        (meta,) = [meta for _, meta, detail in broker.entries() if detail.exchange == exchange]
        assert (meta.sender, meta.released) == (one.sender.id, b"")
        assert [reason(answers[sent.hash]) for sent in honest] == [""] * len(honest)
        now = uses(broker), len(broker.rows(tables.Exchange)), len(broker.rows(tables.Delivery))
        assert now == (before[0], before[1] + len(honest), before[2] + len(honest))


def uses(broker: Rig) -> int:
    return sum(row.uses for row in broker.rows(tables.Grant))


async def test_one_bad_signature_refuses_the_frame_and_each_is_recorded(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        sent = [present(broker.statute()) for _ in range(3)]
        made = frame(*sent)
        others = frame_of(made.submissions, PAYER.signing)
        swapped = pb.SubmissionFrame(key_id=made.key_id, signature=made.signature, submissions=made.submissions[::-1])
        fewer = pb.SubmissionFrame(key_id=made.key_id, signature=made.signature, submissions=made.submissions[:2])
        for lying in (others, swapped, fewer):
            assert {reason(one) for one in await broker.submit(lying)} == {"signature.invalid"}
        short = pb.SubmissionFrame(key_id=made.key_id, signature=b"short", submissions=made.submissions)
        assert {reason(one) for one in await broker.submit(short)} == {"malformed.size"}
        denied = [("exchange.denied", "signature.invalid")]
        size = [("exchange.denied", "malformed.size")]
        assert [broker.events(one.hash) for one in sent] == [denied * 3 + size, denied * 3 + size, denied * 2 + size]
        assert {reason(one) for one in await broker.submit(made)} == {""}


async def test_a_frame_signed_by_another_node_is_not_its_own(tmp_path: Path) -> None:
    """Copied from the hospital's stream and sent on the payer's."""
    async with rig(tmp_path) as broker:
        sent = present(broker.statute())
        assert [reason(one) for one in await broker.submit(frame(sent), sender=PAYER)] == ["signature.invalid"]
        (meta,) = [meta for _, meta, detail in broker.entries() if detail.exchange == sent.hash]
        assert meta.sender == PAYER.id


async def test_an_oversized_presentation_refuses_its_frame(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        parcels = [submission(present(broker.statute())), Parcel(presentation=bytes(1025))]
        answers = await broker.submit(frame_of(parcels, HOSPITAL.signing))
        assert {reason(one) for one in answers} == {"malformed.size"}
        assert {meta.reason for _, meta, _ in broker.entries() if meta.event == "exchange.denied"} == {"malformed.size"}


@pytest.mark.parametrize("same", [True, False])
async def test_a_nonce_twice_in_one_frame(tmp_path: Path, same: bool) -> None:
    async with rig(tmp_path) as broker:
        first = present(broker.statute())
        second = first if same else present(broker.statute(nonce=first.shown.nonce))
        answers = await broker.submit(first, second)
        # The same bytes are one exchange, whichever frame they come in; others under its nonce are refused.
        assert sorted(reason(one) for one in answers) == ["", "" if same else "presentation.nonce_reused"]
        assert [row.hash for row in broker.rows(tables.Exchange)] == [first.hash]
        assert [meta.event for _, meta, _ in broker.entries()].count("exchange.accepted") == 1


# --- who is told what -------------------------------------------------------------------------------------------------


async def test_a_stranger_learns_nothing_about_a_grant(tmp_path: Path) -> None:
    """Whatever state a grant is in, and whether it is there at all, anyone but its holder hears the same."""
    async with rig(tmp_path) as broker:
        states = {"active": with_grant(), "revoked": with_grant(), "expired": with_grant(expiry=NOW + 5),
                  "later": with_grant(not_before=NOW + 90), "used up": with_grant(max_uses=1)}  # fmt: skip
        for one in states.values():
            await broker.grant(one)
        await broker.submit(present(fresh(states["used up"])))
        await broker.revoke(states["revoked"])
        broker.clock.advance(6)
        states["unknown"] = with_grant()
        record = sealed.seal(CLAIM, PATIENT, PAYER.id, NOW * 1000)
        logged = {}
        heard = set()
        for state, one in states.items():
            sent = present(fresh(one, sender=PAYER, record=record))
            (told,) = await broker.submit(sent, sender=PAYER)
            assert not told.HasField("entry")
            heard.add((told.refusal.reason, told.refusal.detail, told.refusal.retryable, told.released))
            logged[state] = broker.events(sent.hash)[0][1]
        assert heard == {("consent.not_usable", "", False, b"")}
        assert logged == {
            "active": "consent.wrong_sender",
            "revoked": "consent.revoked",
            "expired": "consent.expired",
            "later": "consent.not_yet",
            "used up": "consent.wrong_sender",
            "unknown": "consent.unknown",
        }


# --- what is released -------------------------------------------------------------------------------------------------


def finest(broker: Rig) -> bytes:
    """The policy's finest levels for an insurer."""
    return broker.core.pipeline._bundle.tables["commercial-settlement", "insurer", CLAIM.hash]


CEILINGS = {
    "finer than policy everywhere": dict.fromkeys((unit.name for unit in CLAIM.units), 0),
    "as policy": {},
    "coarser here, finer there": {"encounter": 0, "birth-date": 0, "diagnosis": 2, "stay": 0, "sex": 0},
    "absent where policy allows": {"encounter": 0, "sex": 0, "name": 0},
}


@pytest.mark.parametrize("name", CEILINGS)
async def test_what_goes_is_the_coarser_of_ceiling_and_policy(tmp_path: Path, name: str) -> None:
    async with rig(tmp_path) as broker:
        ceilings = CLAIM.levels(CEILINGS[name]) if CEILINGS[name] else finest(broker)
        handle, subject = claim().encounter, subject_key("fine")
        granted = grant_for(INSURER.id, CLAIM.finest, handle, subject)
        sent = present(replace(claim(), ceilings=ceilings, grant=granted, subject=subject))
        await broker.grant(sent.exchange)
        (found,) = await broker.submit(sent)
        expected = coarser(ceilings, finest(broker))
        assert found.released == expected
        (row,), (exchange,) = broker.rows(tables.Delivery), broker.rows(tables.Exchange)
        assert row.released == exchange.released == expected
        every = cut()
        assert row.leaves == b"".join(every[i] for i in sealed.released_places(CLAIM, expected))
        (meta,) = [meta for _, meta, _ in broker.entries() if meta.event == "exchange.accepted"]
        assert (meta.ceilings, meta.released, meta.policy_hash) == (ceilings, expected, broker.policy_hash)


async def test_a_dropped_leaf_is_nowhere_in_the_database(tmp_path: Path) -> None:
    """Nor in the write-ahead log beside it; a released one is, which shows that the test can find."""
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        (found,) = await broker.submit(present(claim()))
        content = b"".join(file.read_bytes() for file in broker.home.database.parent.glob("broker.db*"))
        kept = set(sealed.released_places(CLAIM, found.released))
        for at, leaf in enumerate(cut()):
            parts = [leaf[i : i + 24] for i in range(0, len(leaf) - 24, 24)]
            assert any(part in content for part in parts) == (at in kept)
        assert 0 < len(kept) < len(CLAIM.leaves)


# --- uses -------------------------------------------------------------------------------------------------------------


def counted(answers: Sequence[pb.Result]) -> dict[str, int]:
    return dict(Counter(reason(one) for one in answers))


@pytest.mark.parametrize("frames", [1, 8, 64])
async def test_one_use_is_used_once_whatever_comes_at_once(tmp_path: Path, frames: int) -> None:
    async with rig(tmp_path) as broker:
        exchange = with_grant(max_uses=1)
        await broker.grant(exchange)
        sent = [present(fresh(exchange)) for _ in range(64)]
        rows = [sent[i::frames] for i in range(frames)]
        answers = [one for row in await asyncio.gather(*(broker.submit(*row) for row in rows)) for one in row]
        assert counted(answers) == {"": 1, "consent.used_up": 63}
        assert uses(broker) == 1


async def test_many_one_use_grants_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchanges = [with_grant(max_uses=1) for _ in range(64)]
        for one in exchanges:
            await broker.grant(one)
        sent = [[present(fresh(one)) for one in exchanges] for _ in range(2)]
        answers = [one for row in await asyncio.gather(*(broker.submit(*row) for row in sent)) for one in row]
        assert counted(answers) == {"": 64, "consent.used_up": 64}
        assert uses(broker) == 64


@pytest.mark.parametrize("frames", [1, 16])
async def test_one_workflow_is_one_use(tmp_path: Path, frames: int) -> None:
    """Claim and coordination of one settlement; ten workflows on a grant of five uses are cut at five."""
    async with rig(tmp_path) as broker:
        exchange = with_grant(max_uses=5)
        await broker.grant(exchange)
        workflows = [os.urandom(16) for _ in range(10)]
        sent = [replace(fresh(exchange), workflow=workflows[i % 10]) for i in range(64)]
        rows = [list(map(present, sent[i::frames])) for i in range(frames)]
        for row in rows:
            await broker.submit(*row)
        taken = Counter(presentation.parse(row.payload).workflow for row in broker.rows(tables.Exchange))
        assert set(taken) == {row.workflow for row in broker.rows(tables.GrantUse)}
        assert (len(taken), uses(broker)) == (5, 5)
        assert taken == {one: sum(exchange.workflow == one for exchange in sent) for one in taken}


async def test_a_denial_is_not_a_use(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange = with_grant(max_uses=1)
        await broker.grant(exchange)
        bad = [
            submission(present(fresh(exchange)), leaves=b"".join(cut()[:-1])),
            submission(present(fresh(replace(exchange, ceilings=CLAIM.levels({"encounter": 0}))))),
            submission(present(fresh(exchange), gate_commitment=bytes(32))),
            submission(present(fresh(exchange), recipient=RIVAL.id)),
        ]
        answers = await broker.submit(frame_of(bad, HOSPITAL.signing))
        assert [reason(one) for one in answers] == [
            "leaf.set", "policy.nothing_released", "gate.root", "consent.wrong_recipient"
        ]  # fmt: skip
        assert uses(broker) == 0
        assert counted(await broker.submit(present(exchange))) == {"": 1}


# --- again ------------------------------------------------------------------------------------------------------------


async def test_a_retry_is_answered_with_the_stored_result(tmp_path: Path) -> None:
    """In another frame, twice at once, after revocation and after delivery: one entry, one use, one result."""
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        sent, other = present(claim()), present(broker.statute())
        both = await asyncio.gather(broker.submit(sent), broker.submit(sent))
        assert both[0] == both[1]
        first = both[0][0]
        assert reason(first) == ""
        assert await broker.submit(other, sent) != [first]
        assert (await broker.submit(other, sent))[1] == first
        await broker.revoke(claim())
        assert await broker.submit(sent) == [first]
        assert broker.events(sent.hash) == [("exchange.accepted", ""), ("exchange.withdrawn", "")]
        assert uses(broker) == 1
        assert [row.hash for row in broker.rows(tables.Exchange)] == [sent.hash, other.hash]


async def test_a_retry_is_known_after_a_restart(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        sent = present(broker.statute())
        first = await broker.submit(sent)
        again = replace(broker.core.log.frontier)
        broker.core.log.reload()
        assert broker.core.log.frontier == again
        broker.known.clear()
        assert await broker.submit(sent) == first


async def test_a_refusal_is_not_remembered(tmp_path: Path) -> None:
    """What was wrong may be right the next time: the nonce of a denied presentation is still free."""
    async with rig(tmp_path) as broker:
        exchange = with_grant()
        (refused,) = await broker.submit(present(exchange))
        assert reason(refused) == "consent.not_usable"
        await broker.grant(exchange)
        assert counted(await broker.submit(present(exchange))) == {"": 1}


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_rests_on_what_it_answers(tmp_path: Path) -> None:
    """Also when the grant is over or revoked; it is no use of it; and the exchange is answered then."""
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        sent = present(claim())
        assert counted(await broker.submit(sent)) == {"": 1}
        await broker.revoke(claim())
        decision = present(answer(sent, DECISION))
        (found,) = await broker.submit(decision, sender=INSURER)
        assert (reason(found), found.released) == ("", load("decision").finest)
        assert uses(broker) == 1
        rows = {row.hash: row for row in broker.rows(tables.Exchange)}
        assert rows[sent.hash].state == "answered"
        assert (rows[decision.hash].subject, rows[decision.hash].state) == (rows[sent.hash].subject, "accepted")
        # It does not hang on the grant: no later revocation withholds it.
        assert [row.grant_hash for row in broker.rows(tables.Delivery)] == [b""]


async def test_a_statement_goes_to_the_patient_of_the_grant(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        sent = present(claim())
        await broker.submit(sent)
        record = sealed.seal(
            load("statement"), {"encounter": PATIENT["encounter"], "totals": PATIENT["totals"]}, HOSPITAL.id, NOW * 1000
        )
        made = replace(answer(sent, {}), sender=HOSPITAL, record=record, ceilings=load("statement").finest)
        to_patient = replace(made, purpose="statement", recipient=replace(wallet(), identity=subject_key(INSURER.name)))
        another = replace(wallet(), identity=subject_key("another"))
        to_another = replace(to_patient, recipient=another, nonce=os.urandom(16))
        assert counted(await broker.submit(present(to_patient), present(to_another))) == {"": 1, "answer.mismatch": 1}
        (row,) = [row for row in broker.rows(tables.Delivery) if row.entry > broker.rows(tables.Exchange)[0].entry]
        assert claim().grant is not None
        assert row.recipient == claim().grant.subject  # type: ignore[union-attr]


async def test_a_notice_and_its_answer_survive_revocation(tmp_path: Path) -> None:
    """Confirm and commit: she has paid by then (DESIGN 4.3)."""
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        sent = present(claim())
        await broker.submit(sent)
        decision = present(answer(sent, DECISION))
        await broker.submit(decision, sender=INSURER)
        await broker.revoke(claim())
        notice = present(fresh_answer(answer(decision, {"action": "confirm"}, "settlement-notice")))
        assert counted(await broker.submit(notice)) == {"": 1}
        committed = present(fresh_answer(answer(notice, {"outcome": "committed"})))
        assert counted(await broker.submit(committed, sender=INSURER)) == {"": 1}


def fresh_answer(exchange: Exchange) -> Exchange:
    return replace(exchange, nonce=os.urandom(16))


# --- people -----------------------------------------------------------------------------------------------------------


async def test_a_suspended_party_is_not_answered_by_a_cached_decision(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        assert counted(await broker.submit(present(broker.statute()))) == {"": 1}
        await broker.suspend(PAYER)
        assert counted(await broker.submit(present(broker.statute()))) == {"participant.suspended": 1}


async def test_the_newest_statement_says_which_key_signs(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        renewed = replace(HOSPITAL, signing=subject_key("renewed signing key"))
        await broker.run(
            lambda state, sequence, now_ms: directory.state_keys(
                HOSPITAL.id, statement_of(renewed, 2), state, sequence, now_ms
            )
        )
        broker.core.directory.reload()
        sent = present(broker.statute())
        assert counted(await broker.submit(frame(sent))) == {"signature.invalid": 1}
        assert counted(await broker.submit(frame_of([submission(sent)], renewed.signing))) == {"": 1}
