"""One settlement as the hospital remembers it: durable after every step, so that a crash at any point loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from clients.store import Job, Store
from zhifu import cbor, consent, envelope
from zhifu.capsule import Terms
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Refused

KIND: Final = "settlement"
PUBLIC: Final = "public"
DIRECT: Final = "direct"
FINAL: Final = ("confirmed", "failed")
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """``state`` is open, reserved, confirmed or failed. ``exchanges`` maps step to exchange hash; amounts are fen.

    ``route`` says whether the public payer comes first. ``record`` is the manifest hash of the bill, sealed once.
    Times are Unix ms, 0 while it has not happened.
    """

    id: bytes
    state: str
    route: str
    bill: bytes = field(repr=False)
    encounter: bytes = field(repr=False)
    record: bytes
    grant: bytes
    attestations: tuple[bytes, ...]
    terms: tuple[bytes, ...] = field(repr=False)
    public_payer: bytes
    started: int
    finished: int = 0
    reason: str = ""
    detail: str = ""
    exchanges: Mapping[str, bytes] = field(default_factory=dict)
    amounts: Mapping[str, int] = field(default_factory=dict)

    @property
    def signed_grant(self) -> Envelope:
        """Raises `Refused` (consent.missing) where the patient gave none."""
        if not self.grant:
            raise Refused("consent.missing")
        return envelope.from_bytes(envelope.GRANT, self.grant)

    @property
    def read_grant(self) -> Grant:
        return consent.verify_grant(self.signed_grant)

    @property
    def sealed_terms(self) -> Terms:
        salt, content = self.terms
        return Terms(salt, content)

    def with_exchange(self, step: str, exchange: bytes) -> Case:
        return replace(self, exchanges={**self.exchanges, step: exchange})


def put(store: Store, case: Case, now_ms: int) -> None:
    """Durable with the transaction."""
    payload = cbor.encode(
        [
            case.route,
            case.bill,
            case.encounter,
            case.record,
            case.grant,
            list(case.attestations),
            list(case.terms),
            case.public_payer,
            case.started,
            case.finished,
            case.reason,
            case.detail,
            [[step, exchange] for step, exchange in case.exchanges.items()],
            [[token, fen] for token, fen in case.amounts.items()],
        ]
    )
    store.jobs.put(Job(KIND, case.id, case.state, payload, now_ms))


def get(store: Store, case_id: bytes) -> Case:
    """Raises `Refused` (exchange.unknown)."""
    return _read(store.jobs.need(KIND, case_id))


def unfinished(store: Store) -> list[Case]:
    """What a restarted node takes up again, the oldest first."""
    return [_read(job) for job in store.jobs.find(KIND, "open", "reserved")]


def _read(job: Job) -> Case:
    fields = cbor.array(job.payload, _MAX_BYTES, 14)
    (
        route,
        bill,
        encounter,
        record,
        grant,
        attestations,
        terms,
        payer,
        started,
        finished,
        reason,
        detail,
        steps,
        sums,
    ) = fields
    return Case(
        job.id,
        job.state,
        route,
        bill,
        encounter,
        record,
        grant,
        attestations,
        terms,
        payer,
        started,
        finished,
        reason,
        detail,
        dict(steps),
        dict(sums),
    )
