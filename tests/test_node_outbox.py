"""The outbox seals once, presents often, and under one nonce sends one thing only (DESIGN 4.2)."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from clients.keystore import state_keys
from clients.node import Node
from clients.outbox import FRAME_BYTES
from clients.store import Mandate, Store
from tests.node_peer import ORIGIN, Member, Peer, Recorder, claim, node_of, now, statutory
from zhifu import capsule, consent, envelope, manifest, presentation, schema, sealed
from zhifu.capsule import Terms
from zhifu.consent import Grant
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.v1.signed_pb2 import GRANT_MODE_REQUEST

CLAIM = schema.load("inpatient-claim")
HOUR = 3600


class Clock:
    """Unix ms that a test moves."""

    def __init__(self) -> None:
        self.ms = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.ms

    def pass_s(self, seconds: int) -> None:
        self.ms += seconds * 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    return Peer().enrol(tmp_path, "hospital", "public-payer", "insurer")


@pytest.fixture
def node(members: list[Member], clock: Clock) -> Iterator[Node]:
    opened = node_of(members[0], Recorder(), clock)
    opened.directory.update([one.entry(state_keys(one.keys, 1, now())) for one in members[1:]], now())
    yield opened
    opened.close()


def grant_for(hospital: Member, insurer: Member, secret: bytes, levels: bytes, expiry_s: int = HOUR) -> tuple[
    envelope.Envelope, Terms
]:  # fmt: skip
    subject, terms = SigningKey.generate(), Terms(os.urandom(32), b"\x80")
    grant = Grant(
        grant_id=os.urandom(16),
        subject_key=bytes(subject.verify_key),
        aud=ORIGIN,
        purpose="commercial-settlement",
        sender=hospital.id,
        recipient=insurer.id,
        encounter=sealed.encounter_handle(secret, insurer.id),
        scopes=((CLAIM.hash, levels),),
        max_uses=1,
        not_before=now() - 10,
        expiry=now() + expiry_s,
        issued_at=now() - 10,
        mode=GRANT_MODE_REQUEST,
        cnf=hospital.id,
        data_erase_at=now() + 1000 * HOUR,
        terms=terms.digest,
        request_hash=bytes(32),
        wallet_key=os.urandom(32),
    )
    return grant.sign(subject), terms


def test_two_recipients_get_the_same_sealed_record(node: Node, members: list[Member]) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    exchanges = [node.outbox.present(record, statutory(one.id, secret)) for one in members[1:]]
    frame, sent = node.outbox.frame((), 64) or pytest.fail("nothing to send")
    assert sent == exchanges
    first, second = frame.submissions
    assert first.manifest == second.manifest
    assert first.leaves == second.leaves
    assert manifest.hash_of(first.manifest) == record
    shown = [presentation.parse(one.presentation) for one in frame.submissions]
    assert [one.recipient for one in shown] == [one.id for one in members[1:]]
    assert len({one.nonce for one in shown}) == len({one.gate_commitment for one in shown}) == 2
    assert first.capsule != second.capsule
    assert node.store._database.row("SELECT count(*) FROM record") == (1,)


def test_a_late_recipient_gets_the_record_that_was_sealed_before(members: list[Member], node: Node) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    node.outbox.present(record, statutory(members[1].id, secret))
    (early, _) = node.outbox.frame((), 64) or pytest.fail("nothing to send")
    node.close()
    later = node_of(members[0], Recorder())
    exchange = later.outbox.present(record, statutory(members[2].id, secret))
    assert later.store.outgoing.get(exchange) is not None
    (late, _) = later.outbox.frame((), 64) or pytest.fail("nothing to send")
    assert late.submissions[1].leaves == early.submissions[0].leaves
    later.close()


def test_the_capsule_opens_for_its_recipient_and_the_frame_verifies(node: Node, members: list[Member]) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    ceilings = CLAIM.levels({"encounter": 0, "birth-date": 1})
    mandate = dataclasses.replace(statutory(members[1].id, secret), ceilings=ceilings, pseudonym=bytes(32))
    node.outbox.present(record, mandate)
    frame, _ = node.outbox.frame((), 64) or pytest.fail("nothing to send")
    (one,) = frame.submissions
    key = bytes(members[0].keys.signing.verify_key)
    assert envelope.verify_frame(envelope.PRESENTATION, [one.presentation], frame.signature, key)
    shown = presentation.parse(one.presentation)
    kem = members[1].keys.kem_keys[shown.key_id]
    opened = capsule.open_capsule(one.capsule, kem, manifest.parse(one.manifest), record, members[0].id)
    assert opened.ceilings == ceilings
    assert opened.pseudonym == bytes(32)
    assert set(opened.shares) == {(0, 0), (CLAIM.unit("birth-date").index, 1), (CLAIM.unit("birth-date").index, 2)}


def test_what_waits_is_sent_again_as_the_same_bytes(node: Node, members: list[Member]) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    exchange = node.outbox.present(record, statutory(members[1].id, secret))
    first, _ = node.outbox.frame((), 64) or pytest.fail("nothing to send")
    assert node.outbox.frame({exchange}, 64) is None
    second, _ = node.outbox.frame((), 64) or pytest.fail("nothing to send")
    assert first == second


def test_frames_are_bounded_in_number_and_bytes(node: Node, members: list[Member]) -> None:
    secret = os.urandom(32)
    small = node.outbox.seal("coordination", {"encounter": secret})
    mandate = dataclasses.replace(statutory(members[1].id, secret), ceilings=schema.load("coordination").finest)
    for _ in range(70):
        node.outbox.present(small, mandate)
    frame, sent = node.outbox.frame((), 100) or pytest.fail("nothing to send")
    assert len(sent) == 64
    rest, left = node.outbox.frame(set(sent), 100) or pytest.fail("nothing to send")
    assert (len(rest.submissions), len(left)) == (6, 6)
    long = node.outbox.seal("inpatient-claim", {"encounter": secret, "item-names": ["项目" * 20] * 400})
    for _ in range(40):
        node.outbox.present(long, statutory(members[2].id, secret))
    frame, sent = node.outbox.frame({*sent, *left}, 100) or pytest.fail("nothing to send")
    assert 10 < len(sent) < 40
    assert frame.ByteSize() < FRAME_BYTES + 65_536


def test_a_mandate_survives_its_storage(members: list[Member]) -> None:
    grant, terms = grant_for(members[0], members[2], bytes(32), CLAIM.finest)
    before = Mandate.under_grant(
        grant, CLAIM.finest, workflow=bytes(16), terms=terms, attestations=[b"a", b"b"], pseudonym=bytes(32),
        tokens=[("policy-number", bytes(32))],
    )  # fmt: skip
    assert Mandate.from_bytes(before.to_bytes()) == before
    assert before.subject == consent.verify_grant(grant).subject


def test_a_grant_is_never_overstepped(node: Node, members: list[Member]) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    levels = CLAIM.levels({"encounter": 0, "birth-date": 1})
    grant, terms = grant_for(members[0], members[2], secret, levels)

    def present(ceilings: bytes) -> bytes:
        mandate = Mandate.under_grant(grant, ceilings, workflow=bytes(16), terms=terms, attestations=[])
        return node.outbox.present(record, mandate)

    assert present(levels)
    with pytest.raises(Refused, match=r"consent\.exceeded"):
        present(CLAIM.levels({"encounter": 0, "birth-date": 0}))
    with pytest.raises(Malformed, match="levels for"):
        present(levels[:-1])


def test_what_cannot_be_presented(node: Node, members: list[Member], tmp_path: Path, clock: Clock) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    with pytest.raises(Refused, match=r"exchange\.unknown"):
        node.outbox.present(bytes(32), statutory(members[1].id, secret))
    with pytest.raises(NotAuthentic, match=r"key\.not_pinned"):
        node.outbox.present(record, statutory(bytes(32), secret))
    with pytest.raises(Refused, match=r"presentation\.expired"):
        node.outbox.present(record, statutory(members[1].id, secret, until=now() - 1))
    with pytest.raises(Malformed, match=r"schema\.value"):
        node.outbox.seal("inpatient-claim", {"birth-date": "yesterday"})
    clock.pass_s(8 * 24 * HOUR)
    with pytest.raises(Refused, match=r"unavailable\.recipient"):
        node.outbox.present(record, statutory(members[1].id, secret))
    assert node.outbox.frame((), 64) is None


def test_an_epoch_lasts_a_day_and_outlives_its_presentations(node: Node, members: list[Member], clock: Clock) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))

    def present() -> presentation.Presentation:
        exchange = node.outbox.present(record, statutory(members[1].id, secret))
        found = node.store.outgoing.get(exchange)
        assert found is not None
        return found.presentation

    first = present()
    clock.pass_s(23 * HOUR)
    second = present()
    assert second.epoch_id == first.epoch_id
    (epoch,) = node.store.trust.epochs(now())
    assert first.not_after == first.issued_at + 24 * HOUR
    assert second.not_after == epoch.not_after == second.issued_at + 13 * HOUR
    clock.pass_s(2 * HOUR)
    assert present().epoch_id != first.epoch_id
    with node.store.transaction():
        node.store.trust.retire_epoch(present().epoch_id)
    assert present().epoch_id not in {first.epoch_id, second.epoch_id}


def test_what_outlives_its_time_is_presented_anew_from_the_same_record(
    node: Node, members: list[Member], clock: Clock
) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    grant, terms = grant_for(members[0], members[2], secret, CLAIM.finest, expiry_s=60 * HOUR)
    mandate = Mandate.under_grant(grant, CLAIM.finest, workflow=bytes(16), terms=terms, attestations=[b"attested"])
    exchange = node.outbox.present(record, mandate)
    assert node.outbox.overdue() == []
    clock.pass_s(25 * HOUR)
    assert node.outbox.frame((), 64) is None, "nothing is sent that is over"
    (old,) = node.outbox.overdue()
    assert old.exchange == exchange
    renewed = node.outbox.renew(old)
    found = node.store.outgoing.latest(exchange)
    assert found is not None
    assert renewed == found.exchange != exchange
    assert (found.first, found.attempt, found.state) == (exchange, 2, "waiting")
    assert (old.presentation.nonce, old.presentation.workflow) != (found.presentation.nonce, mandate.workflow)
    assert found.presentation.manifest_hash == old.presentation.manifest_hash == record
    assert node.store.outgoing.mandate(found.exchange) == dataclasses.replace(mandate, until=found.until)
    assert node.outbox.overdue() == []
    clock.pass_s(40 * HOUR)
    (last,) = node.outbox.overdue()
    assert node.outbox.renew(last) is None, "the grant is over"
    assert node.store._database.row("SELECT count(*) FROM record") == (1,)


def test_a_full_outbox_refuses(node: Node, members: list[Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.store.outgoing.MAX_WAITING", 3)
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    for _ in range(3):
        node.outbox.present(record, statutory(members[1].id, secret))
    with pytest.raises(Refused, match=r"unavailable\.overload"):
        node.outbox.present(record, statutory(members[1].id, secret))


def test_no_value_is_on_the_disk_in_the_clear(node: Node, members: list[Member]) -> None:
    secret = os.urandom(32)
    record = node.outbox.seal("inpatient-claim", claim(secret))
    node.outbox.present(record, statutory(members[1].id, secret, pseudonym=b"\x5a" * 32))
    folder = members[0].config.directory
    disk = b"".join(file.read_bytes() for file in folder.glob("node.db*"))
    for value in (secret, "测试患者甲".encode(), b"1984-05-17", b"13800000000", b"I21.0", b"\x5a" * 32):
        assert value not in disk
    assert isinstance(node.store, Store)
