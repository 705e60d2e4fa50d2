"""A wallet's keys: enrolled by two channels with a way back; further devices, guardians, recovery (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nacl.signing import SigningKey

from clients.patient import calls
from clients.patient.consent import grant_of
from clients.patient.wallet import Pair, Party, Wallet, check_parties
from zhifu import envelope, subject_key
from zhifu.consent import hash_of
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.receipt import Entry
from zhifu.subject_key import SignedChange, SubjectKey
from zhifu.v1 import signed_pb2, wallet_pb2
from zhifu.v1.signed_pb2 import (
    KEY_CHANGE_ADD,
    KEY_CHANGE_REVOKE,
    KEY_ROLE_DEVICE,
    KEY_ROLE_GUARDIAN,
    KEY_ROLE_RECOVERY,
    KEY_ROLE_UNSPECIFIED,
)

ROLES = {"device": KEY_ROLE_DEVICE, "guardian": KEY_ROLE_GUARDIAN, "recovery": KEY_ROLE_RECOVERY}
_NAMES = {role: name for name, role in ROLES.items()}


@dataclass(frozen=True, slots=True)
class Further:
    """A further key of a subject, as its signed line says. ``news``: this wallet did not know of it."""

    key: bytes
    role: str
    status: str
    active_ms: int
    by_recovery: bool
    news: bool

    def told(self) -> Further:
        """The same, once its patient was told."""
        return replace(self, news=False)


async def enrol(wallet: Wallet, pair: Pair, attestations: Sequence[Envelope], recovery: Pair, now: int) -> Entry | None:
    """Enrol a pair's key, attested by two organisations, with the recovery code's (`recovery_pair`) as the way back.

    Its entry; none where it was enrolled before, and only the broker's answer was lost. Raises `Refused` (consent.*),
    `NotAuthentic`, `Malformed` (usage.argument).
    """
    further = await add_line(wallet, pair, recovery.public, KEY_ROLE_RECOVERY, now)
    accepted = await wallet.sign(recovery, envelope.SUBJECT_KEY, further.payload)
    way_back = SignedChange(further, accepted)
    try:
        entry: Entry | None = await calls.enrol(wallet, pair, attestations, [way_back])
    except Refused as error:
        if error.reason != "enrolment.exists":
            raise
        entry = await _give_way_back(wallet, pair, way_back, recovery.public)
    pair.enrolled = True
    pair.attestations = [one.to_bytes().hex() for one in attestations]
    pair.known_keys = [recovery.public.hex()]
    wallet.save()
    return entry


async def _give_way_back(wallet: Wallet, pair: Pair, way_back: SignedChange, key: bytes) -> Entry | None:
    """The recovery code at hand is one of an enrolled key: it is added where it is not listed yet."""
    for one in (await calls.keys(wallet, pair)).keys:
        if one.signer == pair.public and (_further(pair, one).key, one.status) == (key, "active"):
            return None
    return (await calls.change_key(wallet, way_back))[0]


async def add_line(wallet: Wallet, pair: Pair, key: bytes, role: signed_pb2.KeyRole, now: int) -> Envelope:
    """The line that adds ``key`` to the pair's subject, signed by the pair's key; the added key signs it too."""
    line = SubjectKey(wallet.contact.origin, pair.subject, KEY_CHANGE_ADD, key, role, now)
    return await wallet.sign(pair, envelope.SUBJECT_KEY, line.to_bytes())


@dataclass(frozen=True, slots=True)
class Offer:
    """A key that another device or a guardian drew for a subject: the line and its own signature."""

    accepted: Envelope


async def offer(
    wallet: Wallet, hospital: Party, recipient: Party, subject: bytes, role: str, now: int, public: bytes = b""
) -> tuple[Pair, Offer]:
    """On the other device: a key for ``subject`` accepts its line; the pair counts once the patient added it.

    The key is drawn here, unless ``public`` says that it lies elsewhere. Raises `Refused` (usage.argument).
    """
    if role not in ("device", "guardian"):
        raise Refused("usage.argument", "a further key is a device's or a guardian's")
    pair = _further_pair(hospital, recipient, subject, ROLES[role], public or SigningKey.generate())
    line = SubjectKey(wallet.contact.origin, subject, KEY_CHANGE_ADD, pair.public, ROLES[role], now)
    accepted = await wallet.sign(pair, envelope.SUBJECT_KEY, line.to_bytes())
    _keep(wallet, hospital, recipient, pair)
    return pair, Offer(accepted)


def _further_pair(hospital: Party, recipient: Party, subject: bytes, role: int, key: SigningKey | bytes) -> Pair:
    """A pair with a key of its own, or with one that lies elsewhere. Raises as `wallet.check_parties`."""
    check_parties(hospital, recipient)
    seed, public = ("", key) if isinstance(key, bytes) else (key.encode().hex(), bytes(key.verify_key))
    return Pair(hospital.id, recipient.id, seed, "", True, public_key=public.hex(), subject_id=subject.hex(), role=role)


def _keep(wallet: Wallet, hospital: Party, recipient: Party, pair: Pair) -> None:
    wallet.parties.update({hospital.id: hospital, recipient.id: recipient})
    wallet.pairs.append(pair)
    wallet.save()


async def add(wallet: Wallet, pair: Pair, offered: Offer) -> tuple[Entry, int]:
    """On the patient's own device: sign the offered line too, and hand it in: (entry, from when it counts, Unix ms)."""
    change = await wallet.sign(pair, envelope.SUBJECT_KEY, offered.accepted.payload)
    said = subject_key.verify(SignedChange(change, offered.accepted), pair.public, wallet.contact.origin)
    if said.subject != pair.subject:
        raise Refused("consent.not_yours", "the key was offered for another subject")
    done = await calls.change_key(wallet, SignedChange(change, offered.accepted))
    pair.known_keys.append(said.key.hex())
    wallet.save()
    return done


async def strike(wallet: Wallet, pair: Pair, key: bytes, now: int) -> Entry:
    """Revoke a further key, or the pair's own: that ends its grants."""
    line = SubjectKey(wallet.contact.origin, pair.subject, KEY_CHANGE_REVOKE, key, KEY_ROLE_UNSPECIFIED, now)
    change = await wallet.sign(pair, envelope.SUBJECT_KEY, line.to_bytes())
    entry, _ = await calls.change_key(wallet, SignedChange(change, None))
    return entry


async def recover(
    wallet: Wallet, hospital: Party, recipient: Party, vouching: Pair, now: int, public: bytes = b""
) -> tuple[Pair, int]:
    """On a new device, with the recovery code alone: a key that sees and stops once the delay is over.

    ``vouching`` is the recovery code's key (`recovery_pair`). The other devices are told at once and can strike the new
    key until then. (pair, from when it counts, Unix ms). Raises `Refused`, `NotAuthentic` (consent.key_status) where
    the code is not this subject's.
    """
    subject = vouching.subject
    pair = _begun(wallet, hospital, recipient, subject, public)
    line = SubjectKey(wallet.contact.origin, subject, KEY_CHANGE_ADD, pair.public, KEY_ROLE_DEVICE, now).to_bytes()
    change = await wallet.sign(vouching, envelope.SUBJECT_KEY, line)
    accepted = await wallet.sign(pair, envelope.SUBJECT_KEY, line)
    try:
        _, active_ms = await calls.change_key(wallet, SignedChange(change, accepted))
    except Refused as error:
        if error.reason != "enrolment.exists":
            raise
        active_ms = await _listed_from(wallet, vouching, pair.public)
    pair.enrolled = True
    wallet.save()
    return pair, active_ms


def _begun(wallet: Wallet, hospital: Party, recipient: Party, subject: bytes, public: bytes) -> Pair:
    """The pair of a recovery, kept before the broker hears of its key; one that was begun before goes on."""
    names = hospital.id, recipient.id, subject.hex()
    for pair in wallet.pairs:
        fits = pair.public == public if public else bool(pair.seed)
        if fits and not pair.enrolled and (pair.hospital, pair.recipient, pair.subject_id) == names:
            return pair
    pair = _further_pair(hospital, recipient, subject, KEY_ROLE_DEVICE, public or SigningKey.generate())
    pair.enrolled = False
    _keep(wallet, hospital, recipient, pair)
    return pair


async def _listed_from(wallet: Wallet, vouching: Pair, key: bytes) -> int:
    """From when (Unix ms) a key counts that is listed already: the answer was lost. Raises `Refused`
    (enrolment.exists) where it was revoked.
    """
    for one in (await calls.keys(wallet, vouching)).keys:
        found = _further(vouching, one)
        if found.key == key and found.status != "revoked":
            return found.active_ms
    raise Refused("enrolment.exists", "the key of this recovery was revoked")


def recovery_pair(hospital: Party, recipient: Party, subject: bytes, code: str | bytes) -> Pair:
    """The recovery code as a key that can stop and look; it is not kept. Raises `Malformed` (usage.argument).

    ``code`` is the code, or the public key that somebody made from it elsewhere.
    """
    key = code if isinstance(code, bytes) else subject_key.recovery_key(code, _id(hospital), _id(recipient))
    return _further_pair(hospital, recipient, subject, KEY_ROLE_RECOVERY, key)


async def subject_of(wallet: Wallet, vouching: Pair) -> bytes:
    """Whose the recovery code is, as the key log that lists its key says: a lost device needs not be remembered.

    Raises `NotAuthentic` (consent.key_status) where the broker knows no such key.
    """
    for one in (await calls.keys(wallet, vouching)).keys:
        signed = envelope.from_proto(envelope.SUBJECT_KEY, one.change)
        said = signed_pb2.SubjectKey.FromString(envelope.verify(signed, one.signer))
        if said.key == vouching.public:
            return said.subject
    raise NotAuthentic("consent.key_status")


def _id(party: Party) -> bytes:
    return bytes.fromhex(party.id)


async def listed(wallet: Wallet, pair: Pair, *, shown: bool = True) -> list[Further]:
    """The subject's further keys, each line's signature verified; what this wallet did not know is news.

    News is what tells a patient that somebody uses her recovery code: it stays news until it was ``shown``. Grants that
    others ended are noted. Raises `NotAuthentic`.
    """
    answer = await calls.keys(wallet, pair)
    found = [_further(pair, one) for one in answer.keys]
    if _note_ended(pair, answer.grants):
        wallet.save()
    if shown:
        note(wallet, pair, found)
    return found


def _note_ended(pair: Pair, said: Iterable[wallet_pb2.GrantEntry]) -> bool:
    """Grants that a guardian, the recovery code, the hospital or the hotline ended; whether there are such.

    The broker's word is believed: one that says so wrongly delivers nothing any more, which is its to decide.
    """
    ended = {hash_of(one.grant.payload) for one in said if one.status != "active"}
    found = [one for one in pair.grants if not one.revoked and hash_of(grant_of(one).payload) in ended]
    for one in found:
        one.revoked = True
    return bool(found)


def note(wallet: Wallet, pair: Pair, found: Sequence[Further]) -> None:
    """These keys are known to whoever holds this wallet."""
    pair.known_keys = [one.key.hex() for one in found]
    wallet.save()


def _further(pair: Pair, one: wallet_pb2.KeyEntry) -> Further:
    signed = envelope.from_proto(envelope.SUBJECT_KEY, one.change)
    envelope.verify(signed, one.signer)
    said = signed_pb2.SubjectKey.FromString(signed.payload)
    return Further(
        said.key, _NAMES.get(said.role, "revoked"), one.status, one.active_ms, one.status == "pending",
        said.key.hex() not in pair.known_keys,
    )  # fmt: skip
