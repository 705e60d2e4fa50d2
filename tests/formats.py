"""Builders for tests: participants with real keys, a small log, and whole exchanges at the level of the formats.

An `Exchange` says everything its sender decides; `dataclasses.replace` changes one thing, and what depends on it
follows, signatures included. So a test states its one lie and everything else stays honest.

Long, since the parts build on one another.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from nacl.signing import SigningKey

from zhifu import (
    capsule,
    cbor,
    chapters,
    consent,
    envelope,
    leaf,
    manifest,
    merkle,
    presentation,
    ranges,
    receipt,
    sealed,
)
from zhifu import checkpoint as checkpoints
from zhifu.acknowledgement import Acknowledgement, acknowledge
from zhifu.capsule import Capsule, Terms
from zhifu.checkpoint import Checkpoint, SignatureType, VerifierKey
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Error
from zhifu.keys import Alg, KemPrivate, KemPublic, participant_id
from zhifu.presentation import Presentation
from zhifu.receipt import Detail, Entry, Head, LogProof, Meta, Proven
from zhifu.receive import Asked, Received, Recipient
from zhifu.schema import ABSENT, Schema, load, versions
from zhifu.sealed import SealedRecord
from zhifu.statement import Attestation, KeyStatement
from zhifu.subject_key import SignedChange, SubjectKey
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import (
    BASIS_KIND_ANSWER,
    BASIS_KIND_GRANT,
    GRANT_MODE_REQUEST,
    KEY_CHANGE_ADD,
    KEY_ROLE_RECOVERY,
)

NOW: Final = 1_790_000_000
"""2026-09-21, Unix seconds."""
DAY: Final = 86_400
ORIGIN: Final = "log.example/zhifu"
CLAIM: Final = versions("inpatient-claim")[0]

PATIENT: Final[Mapping[str, Any]] = {
    "encounter": hashlib.sha256(b"encounter").digest(),
    "name": "测试患者甲",
    "citizen-id": "000000198405170000",
    "birth-date": "1984-05-17",
    "sex": 2,
    "address": "测试省样例市示范路1号",
    "admission": "2026-09-14",
    "discharge": "2026-09-21",
    "stay": 7,
    "diagnosis": [["I21.001", "急性前壁心肌梗死", 1], ["E11.900", "2型糖尿病", 0]],
    "sensitive-diagnosis": [["F32.900", "抑郁发作", 0]],
    "item-charges": [["09", "11", "09"], [12_345, -100, 55]],
    "totals": [["total", 12_300]],
}
"""Finest values of a made-up person's bill."""


def seed(name: str) -> bytes:
    """32 bytes that stand for drawn ones: the same in every run."""
    return hashlib.sha256(b"zhifu tests\0" + name.encode()).digest()


def normal(value: Any) -> Any:
    """Lists as tuples, as the strict decoder gives them back."""
    return tuple(map(normal, value)) if isinstance(value, list | tuple) else value


def refused(reason: str, call: Callable[..., object], *given: Any, **named: Any) -> Error:
    """The error that the call is refused with, which gives just this reason."""
    with pytest.raises(Error) as caught:
        call(*given, **named)
    assert caught.value.reason == reason, caught.value
    return caught.value


# --- participants -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Party:
    """A participant, or a patient's wallet (whose identity key is the subject key)."""

    name: str
    identity: SigningKey
    signing: SigningKey
    cosigning: SigningKey
    kem: KemPrivate

    @property
    def id(self) -> bytes:
        return participant_id(bytes(self.identity.verify_key))

    def statement(self, serial: int = 1, issued_at: int = NOW - 3600) -> KeyStatement:
        """What its identity key says about its keys, valid for six days from NOW."""
        return KeyStatement(
            participant=self.id,
            serial=serial,
            issued_at=issued_at,
            not_after=issued_at + 7 * DAY,
            identity_key=bytes(self.identity.verify_key),
            signing_key=bytes(self.signing.verify_key),
            cosigning_key=bytes(self.cosigning.verify_key),
            kem_keys=(self.kem.public,),
            tls_spki=(seed(f"{self.name} spki"),),
        )

    def attests(self, subject_key: bytes, not_after: int = NOW + DAY) -> bytes:
        """The envelope in which it says that it knows the holder of ``subject_key``."""
        return Attestation(subject_key, self.id, self.name, not_after).sign(self.signing).to_bytes()


@cache
def party(name: str, alg: Alg = Alg.MLKEM768_X25519) -> Party:
    """The participant of this name, with the same keys in every run (the KEM key apart)."""
    identity, signing, cosigning = (SigningKey(seed(f"{name} {use}")) for use in ("identity", "signing", "cosigning"))
    return Party(name, identity, signing, cosigning, KemPrivate.generate(alg))


HOSPITAL: Final = party("hospital")
PAYER: Final = party("public-payer")
INSURER: Final = party("insurer")
RIVAL: Final = party("other insurer")
EVERYONE: Final = (HOSPITAL, PAYER, INSURER, RIVAL)


def subject_key(pair: str = "insurer") -> SigningKey:
    """The patient's key for one (hospital, recipient) pair."""
    return SigningKey(seed(f"subject {pair}"))


def further_key(key: SigningKey, origin: str = "", at: int = 0) -> SignedChange:
    """The recovery key that a subject key is enrolled with."""
    recovery = SigningKey(hashlib.sha256(b"recovery" + bytes(key)).digest())
    subject, public = participant_id(bytes(key.verify_key)), bytes(recovery.verify_key)
    line = SubjectKey(origin or ORIGIN, subject, KEY_CHANGE_ADD, public, KEY_ROLE_RECOVERY, at or NOW)
    return SignedChange(line.sign(key), line.sign(recovery))


def known(*parties: Party) -> dict[bytes, KeyStatement]:
    """Verified key statements by participant, as a node holds them."""
    return {one.id: one.statement() for one in parties or EVERYONE}


def recipient(
    me: Party,
    *,
    seen: Sequence[bytes] = (),
    asked: Mapping[bytes, Asked] | None = None,
    pseudonyms: Mapping[tuple[bytes, bytes], bytes] | None = None,
    **changed: Any,
) -> Recipient:
    """What ``me`` pinned and remembers; ``changed`` replaces fields of `Recipient`."""
    state = Recipient(
        participant=me.id,
        aud=ORIGIN,
        kem_keys={me.kem.public.id: me.kem},
        statements=known(),
        policy_hashes=frozenset(),
        seen=lambda digest: digest in seen,
        asked=(asked or {}).get,
        pseudonyms=lambda sender, subject: (
            {0: (pseudonyms or {})[sender, subject]} if (sender, subject) in (pseudonyms or {}) else {}
        ),
    )
    return replace(state, **changed)


# --- the log ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Log:
    """A log in memory: leaf hashes, and the key that signs its checkpoints."""

    origin: str = ORIGIN
    key: SigningKey = field(default_factory=lambda: SigningKey(seed("log")))
    leaf_hashes: list[bytes] = field(default_factory=list)

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.origin, SignatureType.ED25519, bytes(self.key.verify_key))

    @property
    def head(self) -> Head:
        return Head(len(self.leaf_hashes), merkle.root(self.leaf_hashes))

    def append(self, meta: Meta, detail: Detail) -> Entry:
        """A new entry at the end."""
        made = receipt.entry(len(self.leaf_hashes), NOW * 1000, meta.to_bytes(), detail.to_bytes())
        self.leaf_hashes.append(made.leaf_hash)
        return made

    def fill(self, count: int) -> Log:
        """Entries about others."""
        self.leaf_hashes += (hashlib.sha256(b"other %d" % len(self.leaf_hashes)).digest() for _ in range(count))
        return self

    def note(self) -> bytes:
        """The signed checkpoint over everything so far."""
        return checkpoints.sign(Checkpoint(self.origin, self.head.size, self.head.root), self.origin, self.key)

    def proof(self, begin: int, end: int, known_head: Head | None = None) -> LogProof:
        """The proof of a frame about the leaves [begin, end), for a party whose head is ``known_head``."""
        tree, size = merkle.in_memory(self.leaf_hashes), len(self.leaf_hashes)
        old = known_head.size if known_head else 0
        consistency = merkle.consistency_proof(min(old, size), max(old, size), tree) if 0 < old <= size else []
        return LogProof(self.note(), ranges.build_range(begin, end, size, tree), old, tuple(consistency))

    def proven(self, begin: int, end: int, known_head: Head | None = None) -> Proven:
        """`proof`, verified as a party does."""
        return receipt.verify_proof(self.proof(begin, end, known_head), known_head or Head(), self.verifier)


# --- an exchange ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a sender decides about one exchange.

    ``basis`` None: the grant's hash. ``signer``, ``capsule_key`` or ``said`` (the capsule's contents) None: the
    honest one.
    """

    sender: Party
    recipient: Party
    record: SealedRecord
    ceilings: bytes
    released: bytes
    purpose: str
    encounter: bytes
    grant: Grant | None = None
    subject: SigningKey | None = None
    basis_kind: signed_pb2.BasisKind = BASIS_KIND_GRANT
    basis: bytes | None = None
    in_reply_to: bytes = b""
    pseudonym: bytes | None = None
    tokens: tuple[tuple[str, bytes], ...] = ()
    terms: Terms | None = None
    attestations: tuple[bytes, ...] = ()
    epoch_secret: bytes = seed("epoch")
    nonce: bytes = seed("nonce")[:16]
    workflow: bytes = seed("workflow")[:16]
    aud: str = ORIGIN
    issued_at: int = NOW
    not_after: int = NOW + 3600
    signer: SigningKey | None = None
    capsule_key: KemPublic | None = None
    said: Capsule | None = None

    @property
    def schema(self) -> Schema:
        return self.record.manifest.schema

    @property
    def root(self) -> bytes:
        """G of this presentation."""
        return sealed.gate_root(self.epoch_secret, self.record.manifest.rid, self.recipient.id, self.nonce)

    @property
    def manifest_hash(self) -> bytes:
        return manifest.hash_of(self.record.encoded_manifest)

    @property
    def grant_envelope(self) -> Envelope | None:
        return self.grant.sign(self.subject) if self.grant and self.subject else None

    def shares(self) -> list[bytes]:
        """g[u,l] of every leaf."""
        return sealed.gate_shares(self.root, self.schema)

    def contents(self) -> Capsule:
        if self.said is not None:
            return self.said
        own = capsule.own_shares(self.record, self.ceilings, self.root)
        return Capsule(self.ceilings, own, self.pseudonym, self.tokens, self.terms, self.attestations)

    def send(self) -> Sent:
        """Seal the capsule, sign the presentation."""
        key = self.capsule_key or self.recipient.kem.public
        sealed_capsule = capsule.seal(
            self.contents(), key, self.record.manifest.rid, self.manifest_hash, self.sender.id
        )
        shown = Presentation(
            aud=self.aud,
            sender=self.sender.id,
            recipient=self.recipient.id,
            key_id=key.id,
            basis_kind=self.basis_kind,
            basis=self._basis(),
            purpose=self.purpose,
            encounter=self.encounter,
            manifest_hash=self.manifest_hash,
            ceilings=self.ceilings,
            capsule_hash=hashlib.sha256(sealed_capsule).digest(),
            gate_commitment=sealed.gate_commitment(self.record.manifest.rid, self.root),
            epoch_id=seed("epoch id")[:16],
            workflow=self.workflow,
            correlation=seed("correlation")[:16],
            in_reply_to=self.in_reply_to,
            ticket_hash=b"",
            nonce=self.nonce,
            issued_at=self.issued_at,
            not_after=self.not_after,
        )
        return Sent(self, shown, sealed_capsule)

    def _basis(self) -> bytes:
        if self.basis is not None:
            return self.basis
        signed = self.grant_envelope
        return consent.hash_of(signed.payload) if signed else bytes(32)


@dataclass(frozen=True, slots=True)
class Sent:
    """An exchange as it leaves its sender."""

    exchange: Exchange
    shown: Presentation
    capsule: bytes

    @property
    def envelope(self) -> Envelope:
        return envelope.seal_one(
            envelope.PRESENTATION, self.shown.to_bytes(), self.exchange.signer or self.exchange.sender.signing
        )

    @property
    def hash(self) -> bytes:
        return presentation.hash_of(self.shown.to_bytes())

    def meta(self) -> Meta:
        """What an honest broker records."""
        one = self.exchange
        return Meta(
            event="exchange.accepted",
            sender=self.shown.sender,
            recipient=self.shown.recipient,
            purpose=self.shown.purpose,
            schema_hash=one.record.manifest.schema_hash,
            ceilings=self.shown.ceilings,
            released=one.released,
            policy_hash=seed("policy"),
        )

    def detail(self) -> Detail:
        grant = self.exchange.grant
        return Detail(self.hash, self.shown.basis, grant.subject if grant else b"", (self.envelope.to_bytes(),))

    def deliver(self, log: Log | None = None) -> Received:
        """Recorded and gated by an honest broker, and delivered."""
        log = log or Log().fill(5)
        entry = log.append(self.meta(), self.detail())
        one = self.exchange
        g = one.shares()
        return Received(
            presentation=self.envelope,
            manifest=one.record.encoded_manifest,
            released=one.released,
            leaves=sealed.gate(one.record.manifest, one.record.leaves, one.released),
            shares=b"".join(g[i] for i in sealed.released_places(one.schema, one.released)),
            capsule=self.capsule,
            grant=one.grant_envelope,
            entry=entry,
            proven=log.proven(entry.index, entry.index + 1),
        )

    def acknowledged(self, received: Received, reason: str = "") -> Acknowledgement:
        """The recipient's word on it."""
        assert received.entry is not None
        return acknowledge(
            ORIGIN, self.exchange.recipient.id, self.hash, received.entry, received.proven, reason, NOW + 1
        )


def terms() -> Terms:
    """Terms with a cap of 50,000 yuan."""
    return Terms(seed("terms salt"), cbor.encode([1, 5_000_000, "zh", "仅用于本次住院理赔"]))


def grant_for(
    recipient_id: bytes, levels: bytes, encounter: bytes, subject: SigningKey, purpose: str = "commercial-settlement"
) -> Grant:
    """A grant of the hospital's request, valid for a day."""
    return Grant(
        grant_id=seed("grant")[:16],
        subject_key=bytes(subject.verify_key),
        aud=ORIGIN,
        purpose=purpose,
        sender=HOSPITAL.id,
        recipient=recipient_id,
        encounter=encounter,
        scopes=((CLAIM.hash, levels),),
        max_uses=2,
        not_before=NOW - 60,
        expiry=NOW + DAY,
        issued_at=NOW - 60,
        mode=GRANT_MODE_REQUEST,
        cnf=HOSPITAL.id,
        data_erase_at=NOW + 180 * DAY,
        terms=terms().digest,
        request_hash=seed("request"),
        wallet_key=wallet().kem.public.raw,
    )


@cache
def wallet() -> Party:
    """The patient as a recipient: her subject key for the insurer, and an X25519 key."""
    return Party("patient", subject_key(), subject_key(), subject_key(), KemPrivate.generate(Alg.X25519))


CEILINGS: Final[Mapping[str, int]] = {
    "encounter": 0, "name": 1, "birth-date": 1, "sex": 0, "address": 1, "admission": 1, "stay": 0, "diagnosis": 1,
    "item-charges": 0, "totals": 0,
}  # fmt: skip
POLICY: Final[Mapping[str, int]] = {
    "encounter": 0, "birth-date": 2, "sex": 0, "address": 2, "stay": 0, "diagnosis": 2, "item-charges": 1, "totals": 0,
}  # fmt: skip


@cache
def bill() -> SealedRecord:
    """The made-up person's bill, sealed once for everyone."""
    return sealed.seal(CLAIM, PATIENT, HOSPITAL.id, NOW * 1000)


def claim(to: Party = INSURER, ceilings: Mapping[str, int] = CEILINGS, policy: Mapping[str, int] = POLICY) -> Exchange:
    """The hospital's claim to an insurer, on the patient's grant."""
    bound, subject = CLAIM.levels(ceilings), subject_key(to.name)
    handle = sealed.encounter_handle(PATIENT["encounter"], to.id)
    attested = bytes(subject.verify_key)
    return Exchange(
        sender=HOSPITAL,
        recipient=to,
        record=bill(),
        ceilings=bound,
        released=bytes(map(max, bound, CLAIM.levels(policy))),
        purpose="commercial-settlement",
        encounter=handle,
        grant=grant_for(to.id, bound, handle, subject),
        subject=subject,
        pseudonym=seed(f"pseudonym {to.name}"),
        terms=terms(),
        attestations=(HOSPITAL.attests(attested), PAYER.attests(attested)),
        nonce=seed(f"nonce {to.name}")[:16],
        epoch_secret=seed("epoch"),
    )


def with_leaf(record: SealedRecord, unit: str, rank: int, made: bytes) -> SealedRecord:
    """The record with another leaf at one place, listed in its manifest as if it belonged there."""
    schema_ = record.manifest.schema
    place = schema_.leaves.index((schema_.unit(unit).index, rank))
    every = sealed.slices(schema_, record.manifest.size_class, record.leaves)
    every[place] = made
    digests = list(record.manifest.digests)
    digests[place] = leaf.digest(made, record.manifest.rid, *schema_.leaves[place], schema_.hash)
    return SealedRecord(replace(record.manifest, digests=tuple(digests)), b"".join(every), record.key)


def lying(record: SealedRecord, unit: str, rank: int, value: Any) -> SealedRecord:
    """The record with any value sealed at a level: what a hospital that ignores the ladder can do."""
    schema_ = record.manifest.schema
    u = schema_.unit(unit).index
    size = schema_.units[u].levels[rank].sizes[record.manifest.size_class]
    secret = leaf.secret(record.key, record.manifest.rid, u, rank)
    made = leaf.seal(value, size, secret, record.manifest.rid, u, rank, schema_.hash)
    return with_leaf(record, unit, rank, made)


def answer(asked: Sent, values: Mapping[str, Any], schema: str = "decision") -> Exchange:
    """The recipient's answer to an exchange: everything it has is released."""
    kind = load(schema)
    content = {"encounter": PATIENT["encounter"], **values}
    return Exchange(
        sender=asked.exchange.recipient,
        recipient=asked.exchange.sender,
        record=sealed.seal(kind, content, asked.exchange.recipient.id, NOW * 1000),
        ceilings=kind.finest,
        released=kind.finest,
        purpose=asked.shown.purpose,
        encounter=asked.shown.encounter,
        basis_kind=BASIS_KIND_ANSWER,
        basis=asked.hash,
        in_reply_to=asked.hash,
        workflow=asked.shown.workflow,
        nonce=seed("nonce of an answer")[:16],
    )


def asked_of(sent: Sent) -> dict[bytes, Asked]:
    """What a party remembers of an exchange, for `recipient`."""
    grant = sent.exchange.grant
    return {sent.hash: Asked(sent.shown, grant.subject if grant else None)}


# --- values -----------------------------------------------------------------------------------------------------------


def words(most: int) -> st.SearchStrategy[str]:
    """Printable NFC text of 1 to ``most`` characters."""
    alphabet = st.characters(codec="utf-8", exclude_categories=["C"])
    text = st.text(alphabet, min_size=1, max_size=most).map(lambda drawn: unicodedata.normalize("NFC", drawn))
    return text.filter(lambda drawn: len(drawn) <= most and all(unicodedata.category(c)[0] != "C" for c in drawn))


def matching(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True)


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one, max_size=6)


def columns(*one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    """Rows, turned into columns of one length."""
    rows = st.lists(st.tuples(*one), max_size=6)
    return rows.map(lambda drawn: [[row[i] for row in drawn] for i in range(len(one))])


_FEN: Final = st.integers(-(10**9), 10**9)
_TOKEN: Final = matching(r"[A-Za-z0-9._+*/-]{1,64}")
_DATE: Final = st.dates(date(1880, 1, 1), date(2199, 12, 31)).map(date.isoformat)
_ICD10: Final = matching(r"[A-CE-TV-Z][0-8][0-9](\.[0-9A-Za-z+*]{1,12}){0,2}").filter(
    lambda code: any(first <= code[:3] <= last for first, last, _ in chapters._CHAPTERS)
)
_ICD9: Final = matching(r"[0-9]{2}(\.[0-9A-Za-z]{1,12})?")
_BINARY_32: Final = st.binary(min_size=32, max_size=32)
_ADDRESS: Final = st.sampled_from(["测试省样例市", "样例市示范区", "测试自治区样例盟", "", "路"])

VALUES: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "handle": _BINARY_32,
    "hash": _BINARY_32,
    "octets": st.binary(min_size=1, max_size=300),
    "text": words(60),
    "token": _TOKEN,
    "tokens": several(st.none() | _TOKEN),
    "person-name": words(20) | st.sampled_from(["测试患者甲", "欧阳测试", "Test Person"]),
    "surname": words(1) | st.just("欧阳"),
    "citizen-id": matching(r"[0-9]{17}[0-9X]"),
    "phone": matching(r"[0-9+][0-9-]{6,19}"),
    "address": st.builds(str.__add__, _ADDRESS, words(60)),
    "city": st.sampled_from([["测试省", "样例市"], ["北京市", "北京市"], ["测试自治区", "样例盟"]]),
    "province": st.sampled_from(["测试省", "北京市", "测试自治区"]),
    "date": _DATE,
    "month": _DATE.map(lambda day: day[:7]),
    "year": st.integers(1880, 2200),
    "ten-years": st.integers(188, 220).map(lambda tens: tens * 10),
    "days": st.integers(0, 36600),
    "sex": st.integers(0, 9),
    "diagnoses": several(st.tuples(_ICD10, words(20), st.integers(0, 1))),
    "icd-categories": st.lists(matching(r"[A-Z][0-9]{2}"), max_size=6, unique=True),
    "icd-chapters": st.sets(st.integers(1, 22)).map(sorted),
    "departments": several(st.none() | words(20)),
    "names": several(st.none() | words(20)),
    "procedures": several(st.tuples(_ICD9, st.none() | words(20))),
    "procedure-categories": st.lists(matching(r"[0-9]{2}"), max_size=6, unique=True),
    "procedure-chapters": st.sets(st.integers(0, 17)).map(sorted),
    "offsets": several(st.none() | st.integers(-3660, 36600)),
    "free-text": st.tuples(words(60), words(60)),
    "scrubbed-text": words(60),
    "dates": several(st.none() | _DATE),
    "months": several(st.none() | _DATE.map(lambda day: day[:7])),
    "prices": columns(st.integers(0, 10**9), _FEN),
    "charges": columns(matching(r"[0-9]{2}"), _FEN),
    "charge-sums": st.dictionaries(matching(r"[0-9]{2}"), _FEN, max_size=6).map(lambda sums: sorted(sums.items())),
    "catalog": columns(
        matching(r"0[1-4]"), st.integers(0, 10_000), st.none() | st.integers(1, 10**9), st.integers(0, 1)
    ),
    "levels": several(matching(r"0[1-4]")),
    "money": st.lists(st.tuples(matching(r"[a-z]{1,12}"), _FEN), max_size=3),
    "fen": _FEN,
    "clauses": several(st.tuples(_TOKEN, _FEN, words(30), _TOKEN)),
    "payments": several(st.tuples(_TOKEN, words(20), _FEN)),
    "seconds": st.integers(0, 2**40),
    "hospital": st.tuples(_TOKEN, words(60), st.none() | _TOKEN),
    "insurance": st.tuples(*(st.none() | matching(r"[A-Za-z0-9]{1,20}"),) * 3),
}
"""Form -> values that conform to it, small enough for the sizes that schemas give them."""


def records(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    """Finest values of any of the schema's units."""
    return st.fixed_dictionaries({}, optional={unit.name: VALUES[unit.levels[0].form] for unit in schema.units})


def some_levels(schema: Schema) -> st.SearchStrategy[bytes]:
    """One byte a unit: a rank or absent."""
    return st.tuples(*(st.sampled_from([*range(len(unit.levels)), ABSENT]) for unit in schema.units)).map(bytes)
