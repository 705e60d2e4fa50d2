"""What the broker says of keys that were replaced: of each that stated one, its own last statement of it."""

from __future__ import annotations

from pathlib import Path

from nacl.signing import SigningKey

from broker import directory
from tests.broker_rig import Rig, rig, statement_of
from tests.formats import HOSPITAL, INSURER, Party, seed
from zhifu.envelope import Envelope
from zhifu.keys import Alg, key_id
from zhifu.v1 import signed_pb2

KEY = bytes(HOSPITAL.signing.verify_key)
NEXT = bytes(SigningKey(seed("the hospital's next key")).verify_key)
SIGNED = signed_pb2.Envelope(key_id=key_id(Alg.ED25519, KEY))


async def states(broker: Rig, party: Party, signed: Envelope) -> None:
    await broker.run(lambda state, sequence, now_ms: directory.state_keys(party.id, signed, state, sequence, now_ms))
    broker.core.directory.reload()


def earlier(broker: Rig) -> list[tuple[bytes, bytes]]:
    found = broker.core.directory.earlier([SIGNED], broker.core.store.reader)
    return [(one.id, one.envelope.to_bytes()) for one in found]


async def test_the_last_statement_of_a_replaced_key_is_kept(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        last = statement_of(HOSPITAL, 2)
        await states(broker, HOSPITAL, last)
        assert earlier(broker) == [], "it is its key still"
        await states(broker, HOSPITAL, statement_of(HOSPITAL, 3, signing_key=NEXT))
        assert earlier(broker) == [(HOSPITAL.id, last.to_bytes())]


async def test_whoever_states_anothers_key_takes_nothing_from_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as broker:
        last = statement_of(HOSPITAL, 2)
        await states(broker, HOSPITAL, last)
        await states(broker, HOSPITAL, statement_of(HOSPITAL, 3, signing_key=NEXT))
        await states(broker, INSURER, statement_of(INSURER, 2, signing_key=KEY))
        assert earlier(broker) == [(HOSPITAL.id, last.to_bytes())]
