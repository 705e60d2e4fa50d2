"""A statement proves its identity key alone: whoever states a key that is another's takes nothing from its owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from broker import directory
from broker.store import tables
from clients.patient import mailbox, wallet
from clients.patient.wallet import Contact, Wallet
from tests.broker_rig import Rig, rig, statement_of
from tests.formats import (
    EVERYONE,
    HOSPITAL,
    INSURER,
    NOW,
    PAYER,
    RIVAL,
    Party,
    Sent,
    claim,
    known,
    recipient,
    refused,
    subject_key,
)
from tests.test_subject_keys import OPERATOR, RECOVERY, stop
from zhifu import envelope, receive
from zhifu.deletion import Deletion
from zhifu.v1 import wallet_pb2
from zhifu.v1.signed_pb2 import (
    DELETION_OUTCOME_DELETED,
    REVOKER_HOSPITAL,
    REVOKER_HOTLINE,
    REVOKER_RECOVERY,
    REVOKER_UNSPECIFIED,
    Revoker,
)

KEY = subject_key()
HELD = [HOSPITAL.signing, PAYER.signing]


def public(key: SigningKey) -> bytes:
    return bytes(key.verify_key)


# At a recipient


@pytest.mark.parametrize("key", HELD)
@pytest.mark.parametrize("parties", [EVERYONE, EVERYONE[::-1]])
def test_a_recipient_opens_what_the_owner_signed(key: SigningKey, parties: Sequence[Party]) -> None:
    stated = known(*parties) | {RIVAL.id: replace(RIVAL.statement(), signing_key=public(key))}
    me = recipient(INSURER, statements=stated)
    assert receive.receive(claim().send().deliver(), me, NOW).presentation.sender == HOSPITAL.id
    in_anothers_name = replace(claim(), sender=PAYER, signer=HOSPITAL.signing).send().deliver()
    refused("presentation.sender", receive.receive, in_anothers_name, me, NOW)


# At the broker


async def _states(broker: Rig, key: SigningKey) -> None:
    """The other insurer states a key that is not its own."""
    signed = statement_of(RIVAL, 2, signing_key=public(key))
    await broker.run(lambda state, sequence, now_ms: directory.state_keys(RIVAL.id, signed, state, sequence, now_ms))
    broker.core.directory.reload()


@pytest.mark.parametrize(
    ("key", "by", "why"),
    [
        (KEY, REVOKER_UNSPECIFIED, ""),
        (RECOVERY, REVOKER_RECOVERY, ""),
        (HOSPITAL.signing, REVOKER_HOSPITAL, ""),
        (OPERATOR, REVOKER_HOTLINE, "lost phone"),
    ],
)
async def test_whoever_may_stop_a_grant_still_may(tmp_path: Path, key: SigningKey, by: Revoker, why: str) -> None:
    async with rig(tmp_path, RIVAL, HOSPITAL, PAYER, INSURER) as broker:
        await broker.grant(claim())
        await _states(broker, key)
        assert await stop(broker, key, by, why) == ""
        assert {row.status for row in broker.rows(tables.Grant)} == {"revoked"}


@pytest.mark.parametrize("key", HELD)
async def test_a_patient_is_still_enrolled(tmp_path: Path, key: SigningKey) -> None:
    async with rig(tmp_path) as broker:
        await _states(broker, key)
        await broker.grant(claim())


# In a wallet


def _wallet(path: Path, *stated: tuple[bytes, bytes]) -> Wallet:
    parties = {one.id.hex(): wallet.Party(one.id.hex(), "", one.name) for one in EVERYONE}
    found = Wallet(path, Contact("", "", "", "", ""), parties)
    found.remember([replace(one, signing_key=key) for who, key in stated for one in (known()[who],)])
    return found


def _access(sent: Sent, word_by: SigningKey | None = None) -> wallet_pb2.Access:
    signed = sent.envelope.to_proto()
    found = wallet_pb2.Access(presentation_hash=sent.hash, presentation=signed, schema_hash=sent.exchange.schema.hash)
    if word_by is not None:
        said = Deletion("log", INSURER.id, sent.hash, DELETION_OUTCOME_DELETED, "", 0, NOW)
        found.deletion.CopyFrom(envelope.seal_one(envelope.DELETION, said.to_bytes(), word_by).to_proto())
    return found


def test_a_wallet_finds_the_owner(tmp_path: Path) -> None:
    key, sent = public(HOSPITAL.signing), claim().send()
    stated = ((RIVAL.id, key), (HOSPITAL.id, key), (INSURER.id, public(INSURER.signing)))
    shown = mailbox._access(_wallet(tmp_path, *stated), _access(sent, INSURER.signing), {})
    assert (shown.presentation.sender, shown.deletion) == (HOSPITAL.id, "deleted")
    refused("presentation.sender", mailbox._access, _wallet(tmp_path, (RIVAL.id, key)), _access(sent), {})


def test_a_word_on_erasing_is_the_recipients_own(tmp_path: Path) -> None:
    """The sender may not tell her that the insurer erased what it got."""
    hers = _wallet(tmp_path, *((one.id, public(one.signing)) for one in (HOSPITAL, INSURER)))
    refused("key.unknown", mailbox._access, hers, _access(claim().send(), HOSPITAL.signing), {})
