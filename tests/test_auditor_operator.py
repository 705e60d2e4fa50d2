"""What an operator can do who holds the log key: a log that is whole and signed, with entries that never were so.

Each lie is written through the broker's own sequencer, so that tree and checkpoints fit; the auditor finds it by what the
parties signed, and names the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from nacl.signing import SigningKey

from broker import delivery
from clients.auditor.pins import Pins
from clients.auditor.report import FirstBad
from clients.config import Pin
from tests import formats
from tests.formats import DAY, HOSPITAL, INSURER, ORIGIN, PAYER, RIVAL, Exchange, Party, Sent, seed
from tests.test_auditor_honest import (
    BUNDLE,
    CLAIM,
    COORDINATION,
    World,
    begin,
    claim,
    coordination,
    epoch_id,
    patient,
    public_claim,
    statement,
)
from zhifu import consent, envelope
from zhifu.acknowledgement import Acknowledgement
from zhifu.cbor import encode
from zhifu.consent import Grant, Revocation
from zhifu.envelope import Envelope
from zhifu.keys import participant_id
from zhifu.merkle import Frontier
from zhifu.receipt import Detail, Meta
from zhifu.schema import ABSENT
from zhifu.statement import Attestation
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_STATUTE

STRANGER: Final = formats.party("stranger")
ABSENT_THROUGHOUT: Final = bytes([ABSENT]) * len(CLAIM.units)
Entry = tuple[Meta, Detail]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = begin(tmp_path / "demo")
    yield made
    made.close()


def bad(world: World, index: int, pinned: Pins | None = None) -> str:
    """The reason for which the auditor refuses entry ``index``."""
    found = world.verify(pinned=pinned).first_bad
    assert found is not None
    assert found.index == index, found.line
    return found.reason


def accepted(one: Sent, signed: Envelope | None = None, **changed: Any) -> Entry:
    """The entry of an exchange as an honest broker writes it; ``changed`` are fields of its meta or detail."""
    made, exchange = signed or one.envelope, one.exchange
    grant = exchange.grant_envelope
    policy = formats.POLICY if False else _released(exchange)
    values: dict[str, Any] = {
        "event": "exchange.accepted",
        "sender": one.shown.sender,
        "recipient": one.shown.recipient,
        "purpose": one.shown.purpose,
        "schema_hash": exchange.schema.hash,
        "ceilings": one.shown.ceilings,
        "released": policy,
        "policy_hash": BUNDLE.hash,
        "exchange": one.hash,
        "grant": consent.hash_of(grant.payload) if grant else b"",
        "subject": exchange.grant.subject if exchange.grant else b"",
        "documents": (made.to_bytes(),),
        **changed,
    }
    return parts(values)


def parts(values: dict[str, Any]) -> Entry:
    """Meta and detail from one table of fields."""
    return (
        Meta(**{name: values[name] for name in Meta.__slots__ if name in values}),
        Detail(**{name: values[name] for name in Detail.__slots__ if name in values}),
    )


def _released(one: Exchange) -> bytes:
    finest = BUNDLE.tables.get((one.purpose, _role(one.recipient), one.schema.hash), ABSENT_THROUGHOUT)
    return bytes(map(max, one.ceilings, finest))


def _role(party: Party) -> str:
    return {HOSPITAL: "hospital", PAYER: "public-payer", INSURER: "insurer"}.get(party, "patient")
