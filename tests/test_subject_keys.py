"""Keys of a subject and who may stop a grant: two channels, a way back, and nobody who gains by a stolen code."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from broker import enrolment
from broker.revocation import Revoker, take_deletion
from broker.store import tables
from broker.subject_keys import Changed
from tests.broker_rig import Rig, acknowledgements, fresh, present, reason, rig
from tests.formats import (
    HOSPITAL,
    INSURER,
    NOW,
    ORIGIN,
    PAYER,
    RIVAL,
    Party,
    claim,
    further_key,
    grant_for,
    seed,
    subject_key,
)
from tests.test_delivery import handed_out
from zhifu import consent, envelope
from zhifu.consent import Revocation
from zhifu.deletion import Deletion
from zhifu.envelope import Envelope
from zhifu.errors import Error
from zhifu.keys import participant_id
from zhifu.subject_key import RECOVERY_DELAY_S, SignedChange, SubjectKey
from zhifu.v1.signed_pb2 import (
    DELETION_OUTCOME_DELETED,
    DELETION_OUTCOME_KEPT,
    KEY_CHANGE_ADD,
    KEY_CHANGE_REVOKE,
    KEY_ROLE_DEVICE,
    KEY_ROLE_GUARDIAN,
    KEY_ROLE_UNSPECIFIED,
    REVOKER_GUARDIAN,
    REVOKER_HOSPITAL,
    REVOKER_HOTLINE,
    REVOKER_RECOVERY,
    REVOKER_UNSPECIFIED,
    KeyRole,
)
from zhifu.v1.signed_pb2 import (
    Revoker as By,
)

KEY = subject_key()
SUBJECT = participant_id(bytes(KEY.verify_key))
DEVICE, GUARDIAN, THIEF = (SigningKey(seed(name)) for name in ("device", "guardian", "thief"))
OPERATOR = SigningKey(seed("operator"))
RECOVERY = SigningKey(hashlib.sha256(b"recovery" + bytes(KEY)).digest())
WEAK = json.loads((Path(__file__).parent / "vectors" / "ed25519.json").read_text("utf-8"))


def added(key: SigningKey, role: KeyRole, by: SigningKey = KEY, subject: bytes = SUBJECT) -> SignedChange:
    line = SubjectKey(ORIGIN, subject, KEY_CHANGE_ADD, bytes(key.verify_key), role, NOW)
    return SignedChange(line.sign(by), line.sign(key))


def struck(key: SigningKey, by: SigningKey) -> SignedChange:
    line = SubjectKey(ORIGIN, SUBJECT, KEY_CHANGE_REVOKE, bytes(key.verify_key), KEY_ROLE_UNSPECIFIED, NOW)
    return SignedChange(line.sign(by), None)


async def change(broker: Rig, one: SignedChange) -> Changed:
    revoker = broker.core.revoker
    return (await broker.run(lambda state, sequence, now_ms: revoker.change_key(one, state, sequence, now_ms)))[0]


async def failed(broker: Rig, one: SignedChange) -> str:
    with pytest.raises(Error) as caught:
        await change(broker, one)
    return caught.value.reason


async def stop(broker: Rig, key: SigningKey, by: By = REVOKER_UNSPECIFIED, reason: str = "", **changed: Any) -> str:
    """Revoke the claim's grant; why not, or empty."""
    signed = claim().grant_envelope
    assert signed is not None
    said = replace(Revocation(ORIGIN, consent.hash_of(signed.payload), NOW, by=by, reason=reason), **changed).sign(key)
    revoker = Revoker(ORIGIN, broker.core.directory, [bytes(OPERATOR.verify_key)])
    try:
        await broker.run(lambda state, sequence, now_ms: revoker.revoke(said, state, sequence, now_ms))
    except Error as error:
        return error.reason
    return ""


# Enrolment


async def test_one_key_alone_is_not_enrolled(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        public = bytes(KEY.verify_key)
        said = [envelope.from_bytes(envelope.ATTESTATION, one.attests(public)) for one in (HOSPITAL, PAYER)]
        with pytest.raises(Error) as caught:
            await broker.run(
                lambda state, sequence, now_ms: enrolment.enrol_subject(
                    public, said, [], broker.core.directory, ORIGIN, state, sequence, now_ms
                )
            )
        assert caught.value.reason == "consent.one_key"
        assert broker.rows(tables.Subject) == []


@pytest.mark.parametrize("channels", [(HOSPITAL,), (HOSPITAL, HOSPITAL), ()])
async def test_one_channel_is_not_enough(tmp_path: Path, channels: tuple[Party, ...]) -> None:
    async with rig(tmp_path) as broker:
        public = bytes(KEY.verify_key)
        said = [envelope.from_bytes(envelope.ATTESTATION, one.attests(public)) for one in channels]
        with pytest.raises(Error) as caught:
            await broker.run(
                lambda state, sequence, now_ms: enrolment.enrol_subject(
                    public, said, [further_key(KEY)], broker.core.directory, ORIGIN, state, sequence, now_ms
                )
            )
        assert caught.value.reason == "consent.not_attested"


@pytest.mark.parametrize("kind", ["small_order"])
async def test_weak_keys_are_not_listed(tmp_path: Path, kind: str) -> None:
    async with rig(tmp_path) as broker:
        await broker.attest(KEY)
        for key in map(bytes.fromhex, WEAK[kind]):
            line = SubjectKey(ORIGIN, SUBJECT, KEY_CHANGE_ADD, key, KEY_ROLE_DEVICE, NOW).sign(KEY)
            assert await failed(broker, SignedChange(line, line)) == "consent.weak_key"


def mixed_order(key: SigningKey) -> bytes:
    """The key's point plus one of order 8: not in the prime-order group, and libsodium would verify with it."""
    from nacl.bindings import crypto_core_ed25519_add

    order_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
    return crypto_core_ed25519_add(bytes(key.verify_key), order_8)


async def test_a_mixed_order_key_is_not_listed(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.attest(KEY)
        line = SubjectKey(ORIGIN, SUBJECT, KEY_CHANGE_ADD, mixed_order(DEVICE), KEY_ROLE_DEVICE, NOW).sign(KEY)
        assert await failed(broker, SignedChange(line, line)) == "consent.weak_key"


async def test_nobody_lists_a_key_that_is_not_his_or_was_listed(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.attest(KEY)
        await broker.attest(subject_key("second"))
        other = participant_id(bytes(subject_key("second").verify_key))
        theirs = added(DEVICE, KEY_ROLE_DEVICE)
        assert await failed(broker, replace(theirs, accepted=theirs.change)) == "consent.signature"
        assert await failed(broker, added(DEVICE, KEY_ROLE_DEVICE, by=THIEF)) == "consent.key_status"
        assert await failed(broker, added(DEVICE, KEY_ROLE_DEVICE, subject=other)) == "consent.not_yours"
        await change(broker, theirs)
        assert (await change(broker, theirs)).active_ms == broker.clock.ms, "once more changes nothing"
        linked = added(DEVICE, KEY_ROLE_DEVICE, by=subject_key("second"), subject=other)
        assert await failed(broker, linked) == "enrolment.exists", "a key of two subjects would link them"
        await change(broker, struck(DEVICE, KEY))
        assert await failed(broker, theirs) == "enrolment.exists", "a replay does not bring a revoked key back"
        events = [meta.event for _, meta, _ in broker.entries()]
        assert events.count("subject.key_added") == 3
        assert events.count("subject.key_revoked") == 1


# Recovery


async def test_a_stolen_recovery_code_gains_nothing_for_a_day_and_can_be_struck(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        await change(broker, added(GUARDIAN, KEY_ROLE_GUARDIAN))
        pending = await change(broker, added(THIEF, KEY_ROLE_DEVICE, by=RECOVERY))
        assert pending.active_ms == broker.clock.ms + 1000 * RECOVERY_DELAY_S
        assert await stop(broker, THIEF) == "consent.key_status"
        assert await failed(broker, added(DEVICE, KEY_ROLE_DEVICE, by=THIEF)) == "consent.key_status"
        await change(broker, struck(THIEF, GUARDIAN))
        broker.clock.advance(RECOVERY_DELAY_S + 1)
        assert await stop(broker, THIEF) == "consent.key_status"


async def test_after_the_delay_a_recovered_device_stops_but_never_grants(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        await change(broker, added(DEVICE, KEY_ROLE_DEVICE, by=RECOVERY))
        broker.clock.advance(RECOVERY_DELAY_S)
        granted = grant_for(INSURER.id, claim().ceilings, claim().encounter, DEVICE).sign(DEVICE)
        with pytest.raises(Error) as caught:
            await broker.register(granted)
        assert caught.value.reason == "consent.key_status"
        assert await stop(broker, DEVICE) == ""


async def test_a_guardian_stops_and_locks_nobody_out(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        await change(broker, added(GUARDIAN, KEY_ROLE_GUARDIAN))
        await change(broker, added(DEVICE, KEY_ROLE_DEVICE))
        assert await failed(broker, added(THIEF, KEY_ROLE_DEVICE, by=GUARDIAN)) == "consent.not_yours"
        assert await failed(broker, struck(DEVICE, GUARDIAN)) == "consent.not_yours"
        assert await stop(broker, GUARDIAN) == "consent.not_yours", "a guardian's word is marked as one"
        assert await stop(broker, GUARDIAN, REVOKER_GUARDIAN) == ""


async def test_revoking_a_key_revokes_its_grants(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange = claim()
        await broker.grant(exchange)
        await broker.submit(present(exchange))
        done = await change(broker, struck(KEY, RECOVERY))
        assert done.own_revoked == SUBJECT
        (row,) = broker.rows(tables.Grant)
        assert row.status == "revoked"
        assert broker.rows(tables.Delivery) == []
        assert reason((await broker.submit(present(fresh(exchange))))[0]) in ("consent.key_status", "consent.revoked")


# Who may stop


@pytest.mark.parametrize(
    ("key", "by", "why"),
    [
        (KEY, REVOKER_UNSPECIFIED, ""),
        (RECOVERY, REVOKER_RECOVERY, ""),
        (HOSPITAL.signing, REVOKER_HOSPITAL, ""),
        (OPERATOR, REVOKER_HOTLINE, "lost phone"),
    ],
)
async def test_who_may_stop_a_grant(tmp_path: Path, key: SigningKey, by: By, why: str) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        assert await stop(broker, key, by, why) == ""
        assert reason((await broker.submit(present(claim())))[0]) == "consent.revoked"
        _, _, detail = next(one for one in broker.entries() if one[1].event == "grant.revoked")
        logged = envelope.from_bytes(envelope.REVOCATION, detail.documents[0])
        said = consent.verify_revocation(logged, bytes(key.verify_key), ORIGIN)
        assert (said.by, said.reason) == (by, why)


@pytest.mark.parametrize(
    ("key", "by", "why", "refusal"),
    [
        (RIVAL.signing, REVOKER_HOSPITAL, "", "consent.unknown"),
        (INSURER.signing, REVOKER_HOSPITAL, "", "consent.unknown"),
        (HOSPITAL.signing, REVOKER_UNSPECIFIED, "", "consent.not_yours"),
        (RECOVERY, REVOKER_UNSPECIFIED, "", "consent.not_yours"),
        (OPERATOR, REVOKER_HOTLINE, "", "malformed.field"),
        (OPERATOR, REVOKER_HOTLINE, "x" * 65, "malformed.field"),
        (KEY, REVOKER_UNSPECIFIED, "because", "malformed.field"),
        (THIEF, REVOKER_HOTLINE, "lost phone", "consent.key_status"),
    ],
)
async def test_who_may_not(tmp_path: Path, key: SigningKey, by: By, why: str, refusal: str) -> None:
    async with rig(tmp_path) as broker:
        await broker.grant(claim())
        assert await stop(broker, key, by, why) == refusal
        assert reason((await broker.submit(present(claim())))[0]) == ""


async def test_all_grants_of_a_subject_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        first = claim()
        assert first.grant is not None
        second = replace(first, grant=replace(first.grant, grant_id=seed("second")[:16]))
        await broker.grant(first)
        await broker.grant(second)
        assert await stop(broker, RECOVERY, REVOKER_RECOVERY, grant_hash=b"", subject=SUBJECT) == ""
        assert {row.status for row in broker.rows(tables.Grant)} == {"revoked"}
        assert await stop(broker, KEY, grant_hash=b"", subject=SUBJECT) == "", "again changes nothing"
        assert await stop(broker, KEY, grant_hash=b"") == "malformed.field"


# Revocation while others are at work; the duty to delete


async def test_a_revocation_among_64_uses_ends_them_where_it_stands(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange = claim()
        assert exchange.grant is not None
        exchange = replace(exchange, grant=replace(exchange.grant, max_uses=100))
        await broker.grant(exchange)
        sent = [present(fresh(exchange)) for _ in range(64)]
        tasks = [asyncio.ensure_future(broker.submit(one)) for one in sent[:32]]
        tasks.append(asyncio.ensure_future(broker.revoke(exchange)))  # type: ignore[arg-type]
        tasks += [asyncio.ensure_future(broker.submit(one)) for one in sent[32:]]
        answers = await asyncio.gather(*tasks)
        ended = [reason(one[0]) for one in (*answers[:32], *answers[33:])]
        events = [meta.event for _, meta, _ in broker.entries()]
        at = events.index("grant.revoked")
        assert "exchange.accepted" not in events[at:], "no use stands behind the revocation in the log"
        (row,) = broker.rows(tables.Grant)
        assert row.uses == ended.count("") == events.count("exchange.accepted")
        assert set(ended) <= {"", "consent.revoked"}
        assert broker.rows(tables.Delivery) == []


def word(exchange: bytes, **changed: object) -> Envelope:
    said = Deletion(ORIGIN, INSURER.id, exchange, DELETION_OUTCOME_DELETED, "", 0, NOW)
    return envelope.seal_one(envelope.DELETION, replace(said, **changed).to_bytes(), INSURER.signing)  # type: ignore[arg-type]


async def test_recipients_are_told_and_their_word_is_logged(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        exchange = claim()
        await broker.grant(exchange)
        sent = present(exchange)
        await broker.submit(sent)
        await broker.acknowledge(INSURER, acknowledgements(INSURER, handed_out(broker, INSURER)))
        await broker.revoke(exchange)
        assert [(one.node, one.exchange) for one in broker.rows(tables.Notice) if one.state == "delete"] == [
            (INSURER.id, sent.hash)
        ]

        async def take(signed: Envelope, sender: bytes = INSURER.id) -> None:
            key = bytes(INSURER.signing.verify_key)
            await broker.run(
                lambda state, sequence, now_ms: take_deletion(signed, sender, key, ORIGIN, state, sequence, now_ms)
            )

        for wrong, refusal in (
            (word(seed("other")), "exchange.unknown"),
            (word(sent.hash, recipient=RIVAL.id), "presentation.recipient"),
            (word(sent.hash, outcome=DELETION_OUTCOME_KEPT), "malformed.field"),
            (word(sent.hash, reason="why"), "malformed.field"),
        ):
            with pytest.raises(Error) as caught:
                await take(wrong)
            assert caught.value.reason == refusal
        await take(word(sent.hash))
        await take(word(sent.hash))
        assert broker.events(sent.hash)[-1] == ("exchange.deleted", "")
        assert len(broker.events(sent.hash)) == 2
        assert [one.state for one in broker.rows(tables.Notice) if one.node == INSURER.id] == ["delete", "deleted"]
