"""What a recipient checks before it believes anything, in this order (DESIGN 4.3).

The broker is never the only one that checks: every step here needs nothing but what the recipient pinned and
remembers itself. `receive` raises at the first step that fails; `Opened` is made nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zhifu import capsule as capsules
from zhifu import consent, envelope, manifest, presentation, pseudonym, sealed, statement, ticket
from zhifu.capsule import Capsule
from zhifu.cbor import Value
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import KemPrivate
from zhifu.manifest import Manifest
from zhifu.presentation import OWN_RECORDS, STATUTORY_PURPOSES, Presentation
from zhifu.receipt import Entry, Proven, parse_detail, parse_meta
from zhifu.schema import within
from zhifu.statement import KeyStatement
from zhifu.v1.signed_pb2 import BASIS_KIND_ANSWER, BASIS_KIND_GRANT


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery as it came, with its frame's proof already checked (`zhifu.receipt.verify_proof`)."""

    presentation: Envelope
    manifest: bytes
    released: bytes
    leaves: bytes
    shares: bytes
    capsule: bytes
    grant: Envelope | None
    entry: Entry | None
    proven: Proven
    ticket: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An exchange this party sent or answered before: what an answer may refer to."""

    presentation: Presentation
    subject: bytes | None


@dataclass(frozen=True, slots=True)
class Recipient:
    """What the recipient pinned and remembers. ``statements`` are verified, by participant id; ``earlier`` ones were
    followed by a newer and are still in time: what was signed before is on its way.

    ``pseudonyms`` gives, for sender and subject, what was seen before by epoch; ``announced`` are the epochs of the
    recipient's own pseudonym keys, None where it keeps no table.
    """

    participant: bytes
    aud: str
    kem_keys: Mapping[bytes, KemPrivate]
    statements: Mapping[bytes, KeyStatement]
    policy_hashes: frozenset[bytes]
    seen: Callable[[bytes], bool]
    asked: Callable[[bytes], Asked | None]
    pseudonyms: Callable[[bytes, bytes], Mapping[int, bytes]]
    parties: tuple[bytes, ...] = ()
    announced: frozenset[int] | None = None
    is_subject: bool = False
    earlier: Sequence[KeyStatement] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery that passed every check, with its released values by unit name (None: absent in the record)."""

    hash: bytes
    presentation: Presentation
    manifest: Manifest
    released: bytes
    values: Mapping[str, Value]
    grant: Grant | None
    capsule: Capsule
    entry: Entry


def receive(one: Received, me: Recipient, now: int) -> Opened:
    """Check a delivery in the eight steps of DESIGN 4.3 and open it; ``now`` is Unix s.

    Raises `Malformed`, `NotAuthentic` or `Refused`, with the reason of the first step that fails.
    """
    shown = _1_signed_by_a_pinned_key(one, me, now)
    digest = _2_for_me_in_time_and_new(one, shown, me, now)
    sealed_record = manifest.check_hash(one.manifest, shown.manifest_hash)
    grant = _3_has_a_basis(one, shown, sealed_record, me, now)
    _4_sealed_by_the_sender(shown, sealed_record)
    capsule = _5_capsule_is_the_one_signed(one, shown, sealed_record, grant, me, now)
    entry = _6_receipt_proves_it(one, shown, sealed_record, digest)
    values = sealed.open_released(sealed_record, one.released, one.leaves, one.shares, capsule.shares)
    _7_encounter_is_the_one_named(values, shown, me)
    _8_pseudonym_is_as_before(shown, grant, capsule, me)
    return Opened(digest, shown, sealed_record, one.released, values, grant, capsule, entry)


def signers_of(signed: Envelope, stated: Iterable[KeyStatement]) -> list[KeyStatement]:
    """Every statement with the signing key that the envelope names: anybody can state a key that is another's, so that
    what was signed says whose it is. Raises `NotAuthentic` (key.unknown) where there is none.
    """
    found = [one for one in stated if hmac.compare_digest(one.signing_key_id, signed.key_id)]
    if not found:
        raise NotAuthentic("key.unknown")
    return found


def _1_signed_by_a_pinned_key(one: Received, me: Recipient, now: int) -> Presentation:
    stated = signers_of(one.presentation, (*me.statements.values(), *me.earlier))
    # It was valid when it came; a broker that withholds the next one must not prolong it.
    signers = [found for found in stated if now <= found.not_after]
    if not signers:
        raise NotAuthentic("key.expired")
    shown = presentation.parse(envelope.verify(one.presentation, signers[0].signing_key))
    if shown.sender not in {found.participant for found in signers}:
        raise NotAuthentic("presentation.sender")
    return shown


def _2_for_me_in_time_and_new(one: Received, shown: Presentation, me: Recipient, now: int) -> bytes:
    if shown.aud != me.aud:
        raise Refused("presentation.audience")
    if shown.recipient != me.participant:
        raise Refused("presentation.recipient")
    shown.check_time(now)
    digest = presentation.hash_of(one.presentation.payload)
    if me.seen(digest):
        raise Refused("presentation.replayed")
    return digest


def _3_has_a_basis(one: Received, shown: Presentation, record: Manifest, me: Recipient, now: int) -> Grant | None:
    if shown.basis_kind == BASIS_KIND_GRANT:
        return _granted(one, shown, record, now)
    if shown.basis_kind == BASIS_KIND_ANSWER:
        asked = me.asked(shown.in_reply_to)
        if asked is None:
            raise Refused("exchange.unknown", "an answer to nothing that we know")
        presentation.check_answers(shown, asked.presentation, shown.in_reply_to, asked.subject)
        presentation.check_answer_schema(shown.purpose, record.schema.name)
    elif me.is_subject:
        # What a hospital shows a patient of her own care needs no basis of hers; nothing else is taken for it.
        if shown.purpose != "statement" or record.schema.name not in OWN_RECORDS:
            raise Refused("policy.denied", "by statute a patient is shown an offer or her claim, nothing else")
    elif shown.purpose not in STATUTORY_PURPOSES or shown.basis not in me.policy_hashes:
        raise Refused("policy.denied", "the statute is not in our own policy bundle, or not for this purpose")
    return None


def _granted(one: Received, shown: Presentation, record: Manifest, now: int) -> Grant:
    if one.grant is None or consent.hash_of(one.grant.payload) != shown.basis:
        raise Refused("consent.missing")
    grant = consent.verify_grant(one.grant)
    consent.check_use(grant, shown, record.schema_hash, now)
    ticket.check_presented(one.ticket, shown.ticket_hash, grant, shown.basis, shown.issued_at)
    return grant


def _4_sealed_by_the_sender(shown: Presentation, record: Manifest) -> None:
    if record.sealer != shown.sender:
        raise NotAuthentic("manifest.sealer")
    record.schema.check_levels(shown.ceilings)


def _5_capsule_is_the_one_signed(
    one: Received, shown: Presentation, record: Manifest, grant: Grant | None, me: Recipient, now: int
) -> Capsule:
    if hashlib.sha256(one.capsule).digest() != shown.capsule_hash:
        raise NotAuthentic("capsule.hash")
    key = me.kem_keys.get(shown.key_id)
    if key is None:
        raise NotAuthentic("key.unknown", "the capsule is for a key that is not ours")
    capsule = capsules.open_capsule(one.capsule, key, record, shown.manifest_hash, shown.sender)
    if capsule.ceilings != shown.ceilings:
        raise NotAuthentic("capsule.units")
    if grant is not None:
        check_terms(grant, capsule)
        check_attested(grant.subject_key, capsule.attestations, shown.sender, me.statements, now, me.earlier)
    return capsule


def check_terms(grant: Grant, capsule: Capsule) -> None:
    """The terms in the capsule are those the patient signed. Raises `NotAuthentic` (capsule.terms)."""
    if capsule.terms is None or not hmac.compare_digest(capsule.terms.digest, grant.terms):
        raise NotAuthentic("capsule.terms")


def check_attested(
    subject_key: bytes,
    documents: tuple[bytes, ...],
    sender: bytes,
    known: Mapping[bytes, KeyStatement],
    now: int,
    earlier: Sequence[KeyStatement] = (),
) -> None:
    """Two pinned organisations, at most one of them the sender, attest the subject key.

    A hospital alone cannot invent a patient. Raises `Refused` (consent.not_attested), `Malformed`, `NotAuthentic`.
    """
    stated = [one for one in (*known.values(), *earlier) if now <= one.not_after]
    attesters = set()
    for document in documents:
        signed = envelope.from_bytes(envelope.ATTESTATION, document)
        keys = {one.participant: one.signing_key for one in stated if one.signing_key_id == signed.key_id}
        found = statement.verify_attestation(signed, keys, now)
        if found.subject_key == subject_key:
            attesters.add(found.attester)
    if len(attesters) < 2 or not attesters - {sender}:
        raise Refused("consent.not_attested")


def _6_receipt_proves_it(one: Received, shown: Presentation, record: Manifest, digest: bytes) -> Entry:
    if one.entry is None:
        raise NotAuthentic("receipt.missing")
    if one.proven.checkpoint.origin != shown.aud:
        raise NotAuthentic("receipt.invalid", "the receipt is from another log")
    one.proven.check_entry(one.entry)
    meta, detail = parse_meta(one.entry.meta), parse_detail(one.entry.detail)
    said = (meta.event, meta.sender, meta.recipient, meta.purpose, meta.schema_hash, meta.ceilings, meta.released)
    shown_as = (
        "exchange.accepted", shown.sender, shown.recipient, shown.purpose, record.schema_hash, shown.ceilings,
        one.released,
    )  # fmt: skip
    if said != shown_as or detail.exchange != digest:
        raise NotAuthentic("receipt.invalid", "the entry is about another exchange")
    record.schema.check_levels(one.released)
    if not within(one.released, shown.ceilings):
        raise NotAuthentic("receipt.invalid", "more was released than was presented")
    return one.entry


def _7_encounter_is_the_one_named(values: Mapping[str, Value], shown: Presentation, me: Recipient) -> None:
    secret = values.get("encounter")
    if not isinstance(secret, bytes):
        raise Malformed("leaf.grammar", "the encounter secret is not there")
    # An answer repeats the handle that the asked presentation made for its own recipient.
    answers = shown.basis_kind == BASIS_KIND_ANSWER
    parties = (shown.sender, shown.recipient, *me.parties) if answers else (shown.recipient,)
    if not any(hmac.compare_digest(sealed.encounter_handle(secret, one), shown.encounter) for one in parties):
        raise NotAuthentic("answer.mismatch", "the record is about another encounter")


def _8_pseudonym_is_as_before(shown: Presentation, grant: Grant | None, capsule: Capsule, me: Recipient) -> None:
    found = pseudonym.by_epoch(capsule.pseudonym, capsule.tokens)
    if grant is not None and found:
        pseudonym.check_as_before(found, me.pseudonyms(shown.sender, grant.subject), me.announced)
