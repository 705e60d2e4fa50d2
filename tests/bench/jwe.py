"""The sealed record beside the same record as a JWE that a reading broker decrypts, transforms and encrypts again.

RSA-OAEP-256 with 2,048 bits and A256GCM, compact, by `joserfc`; no signature on either side. Both are measured in
turns, so that noise falls on both. What a step costs is what its party does with keys already loaded.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from joserfc import jwe
from joserfc.jwk import RSAKey

from clients.hospital import record
from clients.hospital.sample import sample_bill
from tests.bench.world import Participant, Patient
from zhifu import bill, capsule, ladder, manifest, schema, sealed
from zhifu.cbor import Value

GATE_FLOOR: Final = 0.5
RSA_BITS: Final = 2048
_ALGORITHMS: Final = ("RSA-OAEP-256", "A256GCM")
_CLAIM: Final = schema.load("inpatient-claim")
_OURS: Final = "encounter"
"""A unit that only the sealed record needs."""

Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Compared:
    """One step, ours beside JWE: median microseconds, the median of each repetition's ratio, and bytes that result."""

    step: str
    ours_micros: float
    jwe_micros: float
    ratio: float
    ours_bytes: int
    jwe_bytes: int
    floor: float | None


class AsJwe:
    """The record as JSON under the keys of a broker that reads, and of the recipient."""

    def __init__(self, values: dict[str, Value], released: bytes) -> None:
        self._broker, self._recipient = RSAKey.generate_key(RSA_BITS), RSAKey.generate_key(RSA_BITS)
        self._values = {name: value for name, value in values.items() if name != _OURS}
        self._ranks = _CLAIM.by_name(released)
        self.sent, self.passed = self.seal(), ""
        self.passed = self.gate()

    def seal(self) -> str:
        return _encrypt(self._values, self._broker)

    def gate(self) -> str:
        """Decrypt, parse, coarsen unit by unit to the released level, encrypt to the recipient."""
        return _encrypt(dict(self._coarse(_decrypt(self.sent, self._broker))), self._recipient)

    def open(self) -> dict[str, Value]:
        return _decrypt(self.passed, self._recipient)

    def _coarse(self, values: dict[str, Value]) -> Iterator[tuple[str, Value]]:
        for unit in _CLAIM.units:
            rank = self._ranks[unit.name]
            if rank is not None and unit.name in values:
                finest, value = unit.levels[0].form, values[unit.name]
                yield unit.name, value if rank == 0 else ladder.coarsen(finest, unit.levels[rank].form, value)


class AsSealed:
    """The record as this protocol has it: sealed once, gated by a broker that cannot read, opened by its recipient."""

    def __init__(self, values: dict[str, Value], payer: Participant, patient: Patient) -> None:
        self._values, self._payer, self._sender = values, payer, patient.sender.id
        self._levels = patient.claim.ceilings
        self._epoch, self._nonce = os.urandom(32), os.urandom(16)
        self.sent = self.seal()
        self.passed = self.gate()

    def seal(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Every level of every unit, and the recipient's capsule: manifest, leaves, capsule, commitment to G."""
        one = sealed.seal(_CLAIM, self._values, self._sender, time.time_ns() // 10**6)
        encoded, rid = one.encoded_manifest, one.manifest.rid
        root = sealed.gate_root(self._epoch, rid, self._payer.id, self._nonce)
        content = capsule.Capsule(self._levels, capsule.own_shares(one, self._levels, root), None, (), None, ())
        made = capsule.seal(content, self._payer.kem.public, rid, manifest.hash_of(encoded), self._sender)
        return encoded, one.leaves, made, sealed.gate_commitment(rid, root)

    def gate(self) -> tuple[bytes, bytes]:
        """The manifest, G against its commitment, the digests of what stays, the broker's shares: (leaves, shares)."""
        encoded, leaves, _, commitment = self.sent
        found = manifest.check_hash(encoded, manifest.hash_of(encoded))
        root = sealed.gate_root(self._epoch, found.rid, self._payer.id, self._nonce)
        sealed.check_gate_root(commitment, found.rid, root)
        kept = sealed.gate(found, leaves, self._levels)
        every = sealed.gate_shares(root, found.schema)
        return kept, b"".join(every[place] for place in sealed.released_places(found.schema, self._levels))

    def open(self) -> dict[str, Value]:
        """The capsule, then digest, key commitment, GCM, padding, CBOR and grammar of each leaf."""
        encoded, _, made, _ = self.sent
        found, (kept, shares) = manifest.parse(encoded), self.passed
        own = capsule.open_capsule(made, self._payer.kem, found, manifest.hash_of(encoded), self._sender)
        return sealed.open_released(found, self._levels, kept, shares, own.shares)

    @property
    def bytes(self) -> tuple[int, int]:
        """What leaves the sender, and what reaches the recipient."""
        encoded, leaves, made, commitment = self.sent
        fixed = len(encoded) + len(made)
        return fixed + len(leaves) + len(commitment), fixed + sum(map(len, self.passed))


def measure(payer: Participant, patient: Patient, repeats: int, seconds: float) -> list[Compared]:
    """Seal, gate and open in ``repeats`` turns of ``seconds`` for each side of each step."""
    values = record.claim(bill.parse(sample_bill(1)), os.urandom(32))
    ours, theirs = AsSealed(values, payer, patient), AsJwe(values, patient.claim.ceilings)
    _check_equal(ours.open(), theirs.open())
    (sent, passed), (jwe_sent, jwe_passed) = ours.bytes, (len(theirs.sent), len(theirs.passed))
    return [
        _compare("seal", ours.seal, theirs.seal, (sent, jwe_sent), None, repeats, seconds),
        _compare("gate", ours.gate, theirs.gate, (passed, jwe_passed), GATE_FLOOR, repeats, seconds),
        _compare("open", ours.open, theirs.open, (passed, jwe_passed), None, repeats, seconds),
    ]


def _check_equal(ours: dict[str, Value], theirs: dict[str, Value]) -> None:
    """Both recipients read the same, or the comparison would be of different work."""
    mine = json.loads(json.dumps({name: value for name, value in ours.items() if name != _OURS}))
    assert mine == theirs, sorted(name for name in mine.keys() | theirs if mine.get(name) != theirs.get(name))


def _compare(
    name: str, ours: Step, theirs: Step, sizes: tuple[int, int], floor: float | None, repeats: int, seconds: float
) -> Compared:
    pairs = [(_micros(ours, seconds), _micros(theirs, seconds)) for _ in range(repeats)]
    return Compared(
        name,
        statistics.median(mine for mine, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(mine / other for mine, other in pairs),
        *sizes,
        floor,
    )


def _micros(step: Step, seconds: float) -> float:
    """The mean CPU time of one call over ``seconds`` of them: others on the computer do not count."""
    step()
    count, begun, until = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        step()
        count += 1
    return 1e6 * (time.process_time() - begun) / count


def _encrypt(values: dict[str, Value], key: RSAKey) -> str:
    header = {"alg": _ALGORITHMS[0], "enc": _ALGORITHMS[1]}
    content = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    return jwe.encrypt_compact(header, content, key, algorithms=_ALGORITHMS)


def _decrypt(token: str, key: RSAKey) -> dict[str, Value]:
    content = jwe.decrypt_compact(token, key, algorithms=_ALGORITHMS).plaintext
    found: dict[str, Value] = json.loads(content or b"null")
    return found
