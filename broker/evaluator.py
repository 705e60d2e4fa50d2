"""The pseudonym service without its socket: announces its keys in the log, evaluates, takes quotas (DESIGN 4.5).

It never sees a number or a pseudonym. What it knows is who asked, for which recipient, how often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker import pseudonym
from broker.audit import Log
from broker.audit import Sequence as Entries
from broker.commit import Committer
from broker.pseudonym import Limits, Question, Rate
from broker.pseudonym_keys import PseudonymKeys
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import envelope, ristretto, strict, voprf
from zhifu.envelope import KEY_STATEMENT, Envelope
from zhifu.errors import Error, NotAuthentic
from zhifu.keys import participant_id
from zhifu.statement import SKEW_S, KeyStatement, PseudonymKey, verify_key_statement
from zhifu.v1 import signed_pb2
from zhifu.voprf import Evaluated

_RENEW_S: Final = 86_400
State = Callable[[int, int, tuple[PseudonymKey, ...]], Envelope]
"""Signs a key statement: (now in Unix s, serial, pseudonym keys)."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The service's key statement, and the plain entry of the log that holds it."""

    signed: Envelope
    entry: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Evaluator:
    """``roles`` gives the role words of the active participants by id; ``state`` signs as the log's operator."""

    log: Log
    reader: Reader
    committer: Committer
    keys: PseudonymKeys
    state: State
    roles: Callable[[], Mapping[bytes, str]]
    operators: Collection[bytes]
    clock_ms: Callable[[], int]
    rate: Rate = field(default_factory=Rate)
    _announcing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def limits(self) -> Limits:
        return self.rate.limits

    # Keys

    async def announce(self) -> Announced:
        """The statement in force; a new one, published first, where keys came or went or it is about to end.

        Raises `Refused` (unavailable.*, usage.file), `NotAuthentic` (pseudonym.key): another key under a used name.
        """
        async with self._announcing:
            before, ever = self._stored(), self._ever_announced()
            owners = {recipient for recipient, _ in ever}
            called = (one for one, role in self.roles().items() if role in pseudonym.CALLED)
            # Whoever had a key and has none left is for the operator: a new one needs a new epoch (pseudonym-rotate).
            self.keys.ensure(one for one in called if one not in owners)
            public, now = self.keys.public, self.clock_ms() // 1000
            if any(ever.get((key.recipient, key.epoch), key.public_key) != key.public_key for key in public):
                raise NotAuthentic("pseudonym.key", "the files of keys are not those that were announced")
            if before is not None:
                stated = self._read(before)
                # Not one of a clock that ran ahead either: nobody takes it until that time comes.
                in_time = stated.issued_at - SKEW_S <= now <= stated.not_after - _RENEW_S
                if stated.pseudonym_keys == public and in_time:
                    return before
            return (await self.committer.run(lambda *given: self._publish(public, *given))).result

    def _ever_announced(self) -> dict[tuple[bytes, int], bytes]:
        return {(row.recipient, row.epoch): row.public_key for row in self.reader.scan(tables.PseudonymKey)}

    def _stored(self) -> Announced | None:
        row = self.reader.get(tables.PseudonymStatement, 1)
        signed = envelope.from_bytes(KEY_STATEMENT, row.envelope) if row is not None else None
        return Announced(signed, row.entry, row.time_ms) if row is not None and signed is not None else None

    def _read(self, one: Announced) -> KeyStatement:
        issued = strict.parse(signed_pb2.KeyStatement, one.signed.payload, KEY_STATEMENT.cap).issued_at
        return verify_key_statement(one.signed, participant_id(self.log.vkey.public_key), issued)

    def _publish(
        self, public: tuple[PseudonymKey, ...], state: Transaction, sequence: Entries, now_ms: int
    ) -> Announced:
        before = state.get(tables.PseudonymStatement, 1)
        serial = before.serial + 1 if before is not None else 1
        signed = self.state(now_ms // 1000, serial, public)
        entry = sequence.publish(signed, now_ms)
        state.delete(tables.PseudonymStatement, id=1)
        state.insert(tables.PseudonymStatement, [(1, serial, signed.to_bytes(), entry, now_ms)])
        new = [key for key in public if state.get(tables.PseudonymKey, key.recipient, key.epoch) is None]
        state.insert(tables.PseudonymKey, [(key.recipient, key.epoch, key.public_key) for key in new])
        return Announced(signed, entry, now_ms)

    # Evaluations

    async def evaluate(self, one: Question, blinded: Sequence[bytes]) -> Evaluated:
        """Count it, write it down, evaluate.

        Raises `Refused` (policy.denied, pseudonym.*, unavailable.*), `Malformed`.
        """
        try:
            pseudonym.check(one)
            if not one.is_own:
                self.rate.take(one.caller, self.clock_ms())
            key = self.keys.key(one.recipient, one.epoch)
            await asyncio.to_thread(_check_elements, blinded)
            await self.committer.run(
                lambda state, sequence, now_ms: pseudonym.meter(one, self.limits, state, sequence, now_ms),
                bulk=True,
            )
        except Error as error:
            if pseudonym.is_recorded(error):
                refused = error
                await self.committer.run(lambda _, sequence, now_ms: pseudonym.deny(one, refused, sequence, now_ms))
            raise
        # Not on the event loop: 256 elements take tens of milliseconds, and libsodium lets other threads run.
        return await asyncio.to_thread(voprf.blind_evaluate, key, blinded)

    async def raise_quota(self, signed: Sequence[Envelope], caller: bytes) -> tables.PseudonymQuota:
        """Take a quota by the word of two operators. Raises `Refused`, `NotAuthentic`, `Malformed`."""
        done = await self.committer.run(
            lambda state, sequence, now_ms: pseudonym.raise_quota(
                signed, caller, self.operators, self.log.origin, state, sequence, now_ms
            )
        )
        return done.result


def _check_elements(blinded: Sequence[bytes]) -> None:
    for element in blinded:
        ristretto.check_element(element)
