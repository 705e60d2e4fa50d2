"""A wallet's keys: enrolled by two channels with a way back; further devices, guardians, recovery (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nacl.signing import SigningKey

from clients.patient import calls
from clients.patient.wallet import Pair, Party, Wallet
from zhifu import envelope, subject_key
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.keys import participant_id
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


def ids(pair: Pair) -> tuple[bytes, bytes]:
    """(hospital id, recipient id)."""
    return bytes.fromhex(pair.hospital), bytes.fromhex(pair.recipient)


async def enrol(wallet: Wallet, pair: Pair, attestations: Sequence[Envelope], code: str, now: int) -> Entry:
    """Enrol a pair's key, attested by two organisations, with the recovery code as the way back.

    Raises `Refused` (consent.*), `NotAuthentic`, `Malformed` (usage.argument).
    """
    recovery = subject_key.recovery_key(code, *ids(pair))
    further = await add_line(wallet, pair, bytes(recovery.verify_key), KEY_ROLE_RECOVERY, now)
    accepted = envelope.seal_one(envelope.SUBJECT_KEY, further.payload, recovery)
    entry = await calls.enrol(wallet, pair, attestations, [SignedChange(further, accepted)])
    pair.enrolled = True
    pair.attestations = [one.to_bytes().hex() for one in attestations]
    pair.known_keys = [bytes(recovery.verify_key).hex()]
    wallet.save()
    return entry


async def add_line(wallet: Wallet, pair: Pair, key: bytes, role: signed_pb2.KeyRole, now: int) -> Envelope:
    """The line that adds ``key`` to the pair's subject, signed by the pair's key; the added key signs it too."""
    line = SubjectKey(wallet.contact.origin, pair.subject, KEY_CHANGE_ADD, key, role, now)
    return await wallet.sign(pair, envelope.SUBJECT_KEY, line.to_bytes())


@dataclass(frozen=True, slots=True)
class Offer:
    """A key that another device or a guardian drew for a subject: the line and its own signature."""

    accepted: Envelope


def offer(wallet: Wallet, hospital: Party, recipient: Party, subject: bytes, role: str, now: int) -> tuple[Pair, Offer]:
    """On the other device: draw a key for ``subject`` and accept its line; the pair counts once the patient added it.

    Raises `Refused` (usage.argument).
    """
    if role not in ("device", "guardian"):
        raise Refused("usage.argument", "a further key is a device's or a guardian's")
    pair = _further_pair(wallet, hospital, recipient, subject, ROLES[role], SigningKey.generate())
    line = SubjectKey(wallet.contact.origin, subject, KEY_CHANGE_ADD, pair.public, ROLES[role], now)
    wallet.save()
    return pair, Offer(envelope.seal_one(envelope.SUBJECT_KEY, line.to_bytes(), pair.key))


def _further_pair(
    wallet: Wallet, hospital: Party, recipient: Party, subject: bytes, role: int, key: SigningKey
) -> Pair:
    wallet.parties.update({hospital.id: hospital, recipient.id: recipient})
    pair = Pair(
        hospital.id, recipient.id, key.encode().hex(), "", True, public_key=bytes(key.verify_key).hex(),
        subject_id=subject.hex(), role=role,
    )  # fmt: skip
    wallet.pairs.append(pair)
    return pair


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
    wallet: Wallet, hospital: Party, recipient: Party, subject_public: bytes, code: str, now: int
) -> tuple[Pair, int]:
    """On a new device, with the recovery code alone: a key that sees and stops once the delay is over.

    The other devices are told at once and can strike it until then. (pair, from when it counts, Unix ms). Raises
    `Refused`, `NotAuthentic` (consent.key_status) where the code is not this subject's.
    """
    subject = participant_id(subject_public)
    vouching = recovery_pair(wallet, hospital, recipient, subject, code)
    pair = _further_pair(wallet, hospital, recipient, subject, KEY_ROLE_DEVICE, SigningKey.generate())
    line = SubjectKey(wallet.contact.origin, subject, KEY_CHANGE_ADD, pair.public, KEY_ROLE_DEVICE, now).to_bytes()
    accepted = envelope.seal_one(envelope.SUBJECT_KEY, line, pair.key)
    change = envelope.seal_one(envelope.SUBJECT_KEY, line, vouching.key)
    _, active_ms = await calls.change_key(wallet, SignedChange(change, accepted))
    wallet.save()
    return pair, active_ms


def recovery_pair(wallet: Wallet, hospital: Party, recipient: Party, subject: bytes, code: str) -> Pair:
    """The recovery code as a key that can stop and look, for one call; it is not kept. Raises `Malformed`."""
    key = subject_key.recovery_key(code, bytes.fromhex(hospital.id), bytes.fromhex(recipient.id))
    wallet.parties.update({hospital.id: hospital, recipient.id: recipient})
    return Pair(
        hospital.id, recipient.id, key.encode().hex(), "", True, public_key=bytes(key.verify_key).hex(),
        subject_id=subject.hex(), role=KEY_ROLE_RECOVERY,
    )  # fmt: skip


async def listed(wallet: Wallet, pair: Pair) -> list[Further]:
    """The subject's further keys, each line's signature verified; what this wallet did not know is news.

    News is shown once: it is what tells a patient that somebody uses her recovery code. Raises `NotAuthentic`.
    """
    found = [_further(pair, one) for one in (await calls.keys(wallet, pair)).keys]
    pair.known_keys = [one.key.hex() for one in found]
    wallet.save()
    return found


def _further(pair: Pair, one: wallet_pb2.KeyEntry) -> Further:
    signed = envelope.from_proto(envelope.SUBJECT_KEY, one.change)
    envelope.verify(signed, one.signer)
    said = signed_pb2.SubjectKey.FromString(signed.payload)
    return Further(
        said.key, _NAMES.get(said.role, "revoked"), one.status, one.active_ms, one.status == "pending",
        said.key.hex() not in pair.known_keys,
    )  # fmt: skip
