"""The flow of an exchange, on one screen (DESIGN section 2).

    Submission -> Consented -> Permit | Deny -> Gated -> Recorded -> Delivery

`verify` runs before the transaction and needs no state but keys; `Pipeline.accept` runs inside it, synchronously.
A denial is recorded like a permit: whoever tried, and why not, is in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple

from broker import consent as consents
from broker.audit import Sequence
from broker.consent import Consent
from broker.directory import Directory
from broker.gate import Gate
from broker.stages import Consented, Gated, Outcome, Recorded, Refusal, Rejected, Repeated, Submission
from broker.store import tables
from broker.store.interface import Reader, Transaction
from broker.store.rows import made
from policies.bundle import Bundle, Deny, Request
from policies.decide import CACHED, release
from zhifu import capsule, envelope, manifest, presentation
from zhifu.envelope import Envelope
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.presentation import BASIS_NAMES, Presentation
from zhifu.receipt import Detail, Meta
from zhifu.v1 import exchange_pb2


def verify(
    frame: exchange_pb2.SubmissionFrame, sender: bytes, signing_key: bytes, origin: str
) -> list[Submission | Rejected]:
    """Everything about a frame that needs no state: one signature for all, then each submission by itself.

    One bad signature refuses the whole frame.
    """
    payloads = [one.presentation for one in frame.submissions]
    try:
        signed = envelope.verify_frame(envelope.PRESENTATION, payloads, frame.signature, signing_key)
    except Error as error:
        return [Rejected(presentation.hash_of(payload), error) for payload in payloads]
    return [_verify_one(one, parcel, sender, origin) for one, parcel in zip(signed, frame.submissions, strict=True)]


def _verify_one(signed: Envelope, parcel: exchange_pb2.Submission, sender: bytes, origin: str) -> Submission | Rejected:
    digest = presentation.hash_of(signed.payload)
    shown = schema = None
    try:
        shown = presentation.parse(signed.payload)
        _check_addressed(shown, sender, origin)
        record = manifest.check_hash(parcel.manifest, shown.manifest_hash)
        schema = record.schema
        if record.sealer != sender:
            raise NotAuthentic("manifest.sealer")
        schema.check_levels(shown.ceilings)
        if len(parcel.capsule) > capsule.MAX_BYTES:
            raise Malformed("malformed.size", "the capsule is too large")
        if hashlib.sha256(parcel.capsule).digest() != shown.capsule_hash:
            raise NotAuthentic("capsule.hash")
    except Error as error:
        return Rejected(digest, error, shown, schema, signed.to_bytes())
    return Submission(
        digest, signed, shown, record, parcel.manifest, schema, parcel.leaves, parcel.capsule, signed.to_bytes()
    )


def _check_addressed(shown: Presentation, sender: bytes, origin: str) -> None:
    if shown.sender != sender:
        raise NotAuthentic("presentation.sender")
    if shown.aud != origin:
        raise Refused("presentation.audience")


@dataclass(frozen=True, slots=True)
class Frame:
    """What one sender submitted under one signature, verified."""

    sender: bytes
    submissions: Seq[Submission | Rejected]


class Around(NamedTuple):
    """What there is of some frames' exchanges already, asked of the store at once.

    ``before`` by their senders and nonces, ``asked`` by the hashes that their answers name; what of these frames was
    accepted is added to both.
    """

    before: dict[tuple[bytes, bytes], tables.Exchange]
    asked: dict[bytes, tables.Exchange]


def _around(frames: Seq[Frame], state: Reader) -> Around:
    nonces: dict[bytes, list[bytes]] = {}
    asked: list[bytes] = []
    for frame in frames:
        for one in frame.submissions:
            if isinstance(one, Submission):
                nonces.setdefault(frame.sender, []).append(one.presentation.nonce)
                asked += (one.presentation.in_reply_to,) if one.presentation.in_reply_to else ()
    before = [
        row for sender in nonces for row in state.find(tables.Exchange, sender=sender, nonce=tuple(nonces[sender]))
    ]
    return Around(
        {(row.sender, row.nonce): row for row in before},
        {row.hash: row for row in state.find(tables.Exchange, hash=tuple(asked))},
    )


class Pipeline:
    """The steps that need state. One instance a broker; it keeps nothing that is not in the store or immutable."""

    def __init__(self, consent: Consent, gate: Gate, bundle: Bundle, directory: Directory) -> None:
        self.consent = consent
        self._gate = gate
        self._bundle = bundle
        self._directory = directory
        self._permitted: dict[object, bytes] = {}

    def accept(
        self, frames: Seq[Frame], state: Transaction, sequence: Sequence, now_ms: int
    ) -> list[list[Outcome]]:  # fmt: skip
        """Take frames through every step and write their rows; the outcomes of each, as `broker.joint.Joint` says.

        The caller commits; until then nothing is answered.
        """
        around = _around(frames, state)
        outcomes = [
            [self._accept_one(one, frame.sender, state, sequence, now_ms, around) for one in frame.submissions]
            for frame in frames
        ]
        recorded = [outcome for of_frame in outcomes for outcome in of_frame if isinstance(outcome, Recorded)]
        state.insert(tables.Exchange, [_exchange_row(one) for one in recorded])
        state.insert(tables.Delivery, [delivery_row(one) for one in recorded])
        asked = [one.gated.consented.asked for one in recorded]
        decided = tuple(one.entry for one in asked if one is not None and one.decided)
        state.update(tables.Exchange, {"state": "answered"}, entry=decided)
        return outcomes

    def _accept_one(
        self, one: Submission | Rejected, sender: bytes, state: Transaction, sequence: Sequence, now_ms: int,
        around: Around,
    ) -> Outcome:  # fmt: skip
        try:
            if isinstance(one, Rejected):
                raise one.error
            repeated = self._repeated(one, state, sequence, around)
            if repeated is not None:
                return repeated
            # After the question above: the result of what was accepted in time stands, whenever it is asked for.
            one.presentation.check_time(now_ms // 1000)
            consented = self.consent.check(one, around.asked, state, sequence, now_ms // 1000)
            self._gate.check(one, state, now_ms // 1000)
            gated = self._gate.release(consented, self.permitted(consented), self._bundle.hash)
            self.consent.consume(consented, state, now_ms)
        except Error as error:
            return self._refuse(one, error, sender, state, sequence, now_ms)
        recorded = record(gated, sequence, now_ms)
        row = made(tables.Exchange, _exchange_row(recorded))
        around.before[sender, row.nonce] = around.asked[row.hash] = row
        return recorded

    @staticmethod
    def _repeated(one: Submission, state: Transaction, sequence: Sequence, around: Around) -> Repeated | None:
        """The nonce is the idempotency key: same bytes, same result. Raises `Refused` (presentation.nonce_reused)."""
        shown = one.presentation
        found = around.before.get((shown.sender, shown.nonce))
        if found is None:
            return None
        if found.hash != one.hash:
            raise Refused("presentation.nonce_reused")
        return Repeated(one.hash, sequence.entry(found.entry, state), found.released)

    def permitted(self, one: Consented) -> bytes:
        """The released levels, or the policy's refusal. Raises `Refused` (policy.*, participant.*)."""
        shown, schema, asked = one.submission.presentation, one.submission.schema, one.asked
        sender = self._directory.standing(shown.sender)
        to_patient = bool(one.subject) and shown.recipient == one.subject
        recipient = ("patient", "active") if to_patient else self._directory.standing(shown.recipient)
        # All that a `Request` says, and the levels: it is not made where this was asked before.
        about = (
            sender, recipient, shown.sender == shown.recipient, shown.purpose, shown.basis_kind, schema.hash,
            shown.ceilings, asked and (asked.purpose, asked.schema.hash),
        )  # fmt: skip
        found = self._permitted.get(about)
        if found is None:
            found = self._decide(one, sender, recipient)
            if len(self._permitted) >= CACHED:
                self._permitted.clear()
            self._permitted[about] = found
        return found

    def _decide(self, one: Consented, sender: tuple[str, str], recipient: tuple[str, str]) -> bytes:
        shown, schema = one.submission.presentation, one.submission.schema
        request = Request(
            sender_role=sender[0],
            sender_status=sender[1],
            recipient_role=recipient[0],
            recipient_status=recipient[1],
            same_participant=shown.sender == shown.recipient,
            purpose=shown.purpose,
            basis=BASIS_NAMES[shown.basis_kind],
            schema=schema.name,
            asked_purpose=one.asked.purpose if one.asked else None,
            asked_schema=one.asked.schema.name if one.asked else None,
        )
        decision = release(self._bundle, request, schema, shown.ceilings)
        if isinstance(decision, Deny):
            raise Refused(decision.reason, ", ".join(decision.policy_ids))
        return decision.levels

    def _refuse(
        self,
        one: Submission | Rejected,
        error: Error,
        sender: bytes,
        state: Transaction,
        sequence: Sequence,
        now_ms: int,
    ) -> Refusal:
        shown = one.presentation
        document = one.document
        meta = Meta(
            "exchange.denied",
            sender=sender,
            recipient=shown.recipient if shown else b"",
            purpose=shown.purpose if shown else "",
            schema_hash=one.schema.hash if one.schema else b"",
            ceilings=shown.ceilings if shown else b"",
            policy_hash=self._bundle.hash,
            reason=error.reason,
        )
        detail = Detail(exchange=one.hash, documents=(document,) if document else ())
        entry = sequence.record(meta, detail, now_ms)
        said = consents.told(error, shown, state)
        # The entry would tell what the refusal must not.
        return Refusal(one.hash, said, entry if said is error else None)


def record(gated: Gated, sequence: Sequence, now_ms: int) -> Recorded:
    """Give a gated exchange its place in the log: the only way to a `Recorded`."""
    one = gated.consented
    shown = one.submission.presentation
    meta = Meta(
        "exchange.accepted",
        sender=shown.sender,
        recipient=shown.recipient,
        purpose=shown.purpose,
        schema_hash=one.submission.schema.hash,
        ceilings=shown.ceilings,
        released=gated.released,
        policy_hash=gated.policy_hash,
    )
    detail = Detail(one.submission.hash, one.grant_hash, one.subject, (one.submission.document,))
    return Recorded(gated, sequence.record(meta, detail, now_ms))


def _exchange_row(one: Recorded) -> tuple[object, ...]:
    consented = one.gated.consented
    submission, shown = consented.submission, consented.submission.presentation
    return (
        one.entry.index, submission.hash, shown.sender, shown.recipient, shown.nonce, shown.purpose, "accepted",
        submission.envelope.payload, submission.schema.hash, one.gated.released, consented.grant_hash,
        consented.subject,
    )  # fmt: skip


def delivery_row(one: Recorded) -> tables.Delivery:
    """What waits for the recipient, as the store keeps it."""
    submission, shown = one.gated.consented.submission, one.gated.consented.submission.presentation
    carried = one.gated.consented.grant_hash if one.gated.consented.grant is not None else b""
    return made(
        tables.Delivery,
        (
            one.entry.index, shown.recipient, shown.sender, shown.not_after, submission.document,
            submission.encoded_manifest, one.gated.released, one.gated.leaves, submission.capsule, carried,
            shown.ticket_hash,
        ),
    )  # fmt: skip
