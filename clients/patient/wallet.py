"""What a wallet keeps: one key pair for each (hospital, recipient), pins, grants and the last tree head.

One file, for its owner only. Keys of different pairs have nothing in common, so neither the broker nor two
insurers can join a patient by them (DESIGN section 5). A signing key may lie elsewhere, in a browser or on another
device: then its seed is empty here, and whoever opens the wallet says how it signs (`Signer`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from clients import desk, durable
from clients.clock import MAX_SKEW_MS
from clients.locking import locked
from zhifu import envelope
from zhifu.checkpoint import VerifierKey
from zhifu.envelope import Envelope, Kind
from zhifu.errors import Malformed, NotAuthentic, Refused
from zhifu.keys import Alg, KemPrivate, key_id, participant_id, sign
from zhifu.receipt import Head
from zhifu.statement import KeyStatement

Signer = Callable[["Pair", Kind, bytes], Awaitable[bytes]]
"""The 64-byte Ed25519 signature of a payload by the pair's signing key (`zhifu.envelope.to_sign`).

It gets the payload, not the bytes to sign: who holds the key reads what it signs.
"""
FILE: Final = "wallet.json"
LOCK: Final = "wallet.lock"
TURN: Final = "command.lock"
PATIENCE_S: Final = 30.0
MAX_BYTES: Final = 64 << 20
_MAX_JSON: Final = 4 << 20
_NOISE_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Contact:
    """Where the broker is, and what is pinned of it. ``log_key`` is the note verifier key."""

    public_address: str
    server_name: str
    origin: str
    log_key: str
    ca: str

    @property
    def vkey(self) -> VerifierKey:
        return VerifierKey.parse(self.log_key)


@dataclass(frozen=True, slots=True)
class Party:
    """An organisation as the patient was told of it, by other means than the broker."""

    id: str
    role: str
    name: str


def check_parties(hospital: Party, recipient: Party) -> None:
    """A key is for a hospital and a payer; swapped, nobody could use it. Raises `Malformed` (usage.argument)."""
    for one, needed in ((hospital, ("hospital",)), (recipient, ("insurer", "public-payer"))):
        if one.role not in needed:
            raise Malformed("usage.argument", f"{one.name} is no {' or '.join(needed)} but {one.role or 'unknown'}")


@dataclass(slots=True)
class Given:
    """A grant that was given: the envelopes in hex, and the values it is about, as the desk showed them.

    ``terms`` are their salt and bytes in hex; ``receipt`` and ``stop`` the broker's answers, proofs included, in hex.
    """

    grant: str
    request: str
    preview: dict[str, dict[str, Any]]
    revoked: bool = False
    terms: list[str] = field(default_factory=list)
    receipt: str = ""
    stop: str = ""


@dataclass(slots=True)
class Pair:
    """The keys for one (hospital, recipient) pair; ids, keys and seeds in hex.

    ``subject_id`` is set where the key is a further key of a subject (another device, a guardian's), with its ``role``.
    """

    hospital: str
    recipient: str
    seed: str = field(repr=False)
    kem: str = field(repr=False)
    enrolled: bool = False
    attestations: list[str] = field(default_factory=list)
    grants: list[Given] = field(default_factory=list)
    public_key: str = ""
    subject_id: str = ""
    role: int = 0
    known_keys: list[str] = field(default_factory=list)

    @property
    def key(self) -> SigningKey:
        """Raises `Refused` (usage.argument) where the key lies elsewhere."""
        if not self.seed:
            raise Refused("usage.argument", "this key lies in a browser or on another device")
        return SigningKey(bytes.fromhex(self.seed))

    @property
    def kem_key(self) -> KemPrivate:
        return KemPrivate(Alg.X25519, bytes.fromhex(self.kem))

    @property
    def public(self) -> bytes:
        return bytes.fromhex(self.public_key) if self.public_key else bytes(self.key.verify_key)

    @property
    def subject(self) -> bytes:
        """The patient's id for this pair: SHA-256 of the subject key."""
        return bytes.fromhex(self.subject_id) if self.subject_id else participant_id(self.public)

    @property
    def grants_here(self) -> bool:
        """Whether this key is the subject's own and enrolled: further keys see and stop, and never grant."""
        return self.enrolled and not self.subject_id

    @property
    def key_id(self) -> bytes:
        return key_id(Alg.ED25519, self.public)


@dataclass(frozen=True, slots=True)
class TheirKey:
    """What a pinned organisation signs with, or did ``until`` (Unix s); its id and the key in hex."""

    participant: str
    key: str
    until: int


async def _sign_here(pair: Pair, kind: Kind, payload: bytes) -> bytes:
    return sign(pair.key, envelope.to_sign(kind, payload))


@dataclass(slots=True)
class Wallet:
    """An open wallet; `save` after every change. ``id`` names its keys in a browser, which may have another's too."""

    path: Path
    contact: Contact
    parties: dict[str, Party] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    head_size: int = 0
    head_root: str = ""
    refused: list[dict[str, Any]] = field(default_factory=list)
    clock_offset_ms: int = 0
    their_keys: list[TheirKey] = field(default_factory=list)
    signer: Signer = field(default=_sign_here, repr=False)
    id: str = ""

    async def sign(self, pair: Pair, kind: Kind, payload: bytes) -> Envelope:
        """A payload signed by the pair's key, wherever that is. Raises `NotAuthentic` (signature.invalid)."""
        signature = await self.signer(pair, kind, payload)
        return envelope.signed_elsewhere(kind, payload, pair.public, signature)

    @property
    def head(self) -> Head:
        return Head(self.head_size, bytes.fromhex(self.head_root)) if self.head_size else Head()

    def move_head(self, head: Head) -> None:
        self.head_size, self.head_root = head.size, head.root.hex()

    def name(self, participant: bytes) -> str:
        """What a party is called; a party that is not pinned has no name here."""
        found = self.parties.get(participant.hex())
        return found.name if found else participant.hex()[:16]

    def remember(self, statements: Iterable[KeyStatement]) -> None:
        """Keep what organisations sign with: their keys are replaced, and what one signed before stays signed."""
        known = {(one.participant, one.key): one for one in self.their_keys}
        stated = [TheirKey(one.participant.hex(), one.signing_key.hex(), one.not_after) for one in statements]
        newer = {(one.participant, one.key): one for one in stated}
        newer = {name: one for name, one in newer.items() if name not in known or known[name].until < one.until}
        if newer:
            self.their_keys = list({**known, **newer}.values())
            if (self.path / FILE).exists():
                self.save()

    def verify(self, signed: Envelope) -> tuple[bytes, Mapping[bytes, int]]:
        """What an organisation signed, and until when (Unix s) each that this wallet knows had that key, by its id:
        anybody can state a key that is another's, so that what was signed says whose it is.

        Raises `NotAuthentic` (key.unknown, signature.invalid).
        """
        known = [one for one in self.their_keys if key_id(Alg.ED25519, bytes.fromhex(one.key)) == signed.key_id]
        if not known:
            raise NotAuthentic("key.unknown")
        payload = envelope.verify(signed, bytes.fromhex(known[0].key))
        return payload, {bytes.fromhex(one.participant): one.until for one in known}

    def pair(self, hospital: bytes, recipient: bytes) -> Pair:
        """Raises `Refused` (consent.key_status) if there is no enrolled key for them."""
        for pair in self.pairs:
            if (pair.hospital, pair.recipient, pair.subject_id) == (hospital.hex(), recipient.hex(), ""):
                return pair
        raise Refused("consent.key_status", "this wallet has no key for that hospital and recipient: enrol first")

    def draw_pair(self, hospital: Party, recipient: Party, public_key: bytes = b"") -> Pair:
        """The pair's keys, drawn now if there are none yet; with ``public_key`` the signing key lies elsewhere.

        Raises as `check_parties`.
        """
        check_parties(hospital, recipient)
        self.parties.update({hospital.id: hospital, recipient.id: recipient})
        for pair in self.pairs:
            if (pair.hospital, pair.recipient, pair.subject_id) == (hospital.id, recipient.id, ""):
                return pair
        seed = "" if public_key else SigningKey.generate().encode().hex()
        kem = KemPrivate.generate(Alg.X25519).raw.hex()
        public = public_key or bytes(SigningKey(bytes.fromhex(seed)).verify_key)
        self.pairs.append(Pair(hospital.id, recipient.id, seed, kem, public_key=public.hex()))
        return self.pairs[-1]

    def find_grant(self, grant_hash: bytes) -> tuple[Pair, Given]:
        """Raises `Refused` (consent.unknown) for a grant that this wallet did not give."""
        for pair in self.pairs:
            for given in pair.grants:
                signed = envelope.from_bytes(envelope.GRANT, bytes.fromhex(given.grant))
                if hashlib.sha256(signed.payload).digest() == grant_hash:
                    return pair, given
        raise Refused("consent.unknown", "this wallet gave no such grant")

    def now(self, clock: int) -> int:
        """``clock`` (Unix s, this device's) moved by what the broker said of it last."""
        return clock + self.clock_offset_ms // 1000

    def sure_now(self, clock: int) -> int:
        """`now` for judging what others signed: moved by 5 minutes at most, since the broker must not date it."""
        return clock + max(-MAX_SKEW_MS, min(MAX_SKEW_MS, self.clock_offset_ms)) // 1000

    def check_clock(self) -> None:
        """Raises `Refused` (unavailable.clock) with the offset where this device's clock is more than 5 minutes off."""
        if abs(self.clock_offset_ms) > MAX_SKEW_MS:
            ahead = self.clock_ahead_s
            side = "ahead of" if ahead > 0 else "behind"
            raise Refused("unavailable.clock", f"this device's clock is {abs(ahead)} s {side} the broker's: set it")

    def learn(self, broker_ms: int, clock_ms: int) -> None:
        """Go by the broker's clock from here on, also offline; ``clock_ms`` is this device's (Unix ms)."""
        before, self.clock_offset_ms = self.clock_offset_ms, broker_ms - clock_ms
        if abs(self.clock_offset_ms - before) >= _NOISE_MS and (self.path / FILE).exists():
            self.save()

    @property
    def clock_ahead_s(self) -> int:
        """By how many seconds this device's clock is ahead of the broker's, as far as it was told; less than two are
        none.
        """
        ahead = -self.clock_offset_ms // 1000
        return ahead if abs(ahead) >= 2 else 0

    def save(self) -> None:
        """On the disk when it returns, whole or not at all, 0600. Raises `Refused` (usage.file)."""
        document = {
            "contact": asdict(self.contact),
            "parties": [asdict(party) for party in self.parties.values()],
            "pairs": [asdict(pair) for pair in self.pairs],
            "head": {"size": self.head_size, "root": self.head_root},
            "refused": self.refused,
            "clock_offset_ms": self.clock_offset_ms,
            "their_keys": [asdict(one) for one in self.their_keys],
            "id": self.id,
        }
        content = json.dumps(document, ensure_ascii=False).encode()
        if len(content) > MAX_BYTES:
            raise Refused("usage.file", f"{FILE} would be larger than {MAX_BYTES} bytes, and is never read then")
        durable.write(self.path / FILE, content)


def create(path: Path, contact: Contact) -> Wallet:
    """A new wallet, saved. Raises `Refused` (usage.file) if there is one."""
    if (path / FILE).exists():
        raise Refused("usage.file", f"{path.name} has a wallet already")
    durable.folder(path)
    wallet = Wallet(path, contact, id=secrets.token_hex(16))
    wallet.save()
    return wallet


@contextmanager
def held(path: Path, contact: Path | None = None) -> Iterator[Wallet]:
    """The wallet, a command's alone within the block; made now if there is none and ``contact`` says where the broker
    is. Who changed it beside another would lose what that one saves, and it may be a key.

    A command waits for another. Raises as `load`, and `Refused` (usage.argument) while its pages hold it.
    """
    _make_room(path, contact)
    pages = locked(path / LOCK, f"this wallet's pages hold {path.name}: do it there, or end them", shared=True)
    turn = locked(path / TURN, f"another command holds {path.name}: let it end", patience_s=PATIENCE_S)
    with pages, turn:
        yield _opened(path, contact)


@contextmanager
def served(path: Path, contact: Path | None = None) -> Iterator[Wallet]:
    """The wallet, its pages' alone within the block: no command opens it meanwhile. Else as `held`."""
    _make_room(path, contact)
    with locked(path / LOCK, f"this wallet's pages or a command hold {path.name}: end them"):
        yield _opened(path, contact)


def _make_room(path: Path, contact: Path | None) -> None:
    if contact is not None:
        durable.folder(path)
    elif not path.is_dir():
        raise Refused("usage.file", f"no wallet in {path}")


def _opened(path: Path, contact_file: Path | None) -> Wallet:
    durable.sweep(path)
    if contact_file is not None and not (path / FILE).exists():
        return create(path, contact(contact_file))
    return load(path)


def load(path: Path) -> Wallet:
    """As it is now, to be looked at. Raises `Refused` (usage.file) if there is none or others can read it, `Malformed`
    (usage.file).
    """
    file = path / FILE
    if not file.is_file():
        raise Refused("usage.file", f"no wallet in {path}")
    document = _object(durable.read_private(file, MAX_BYTES), file)
    try:
        return Wallet(
            path,
            Contact(**document["contact"]),
            {party["id"]: Party(**party) for party in document["parties"]},
            [Pair(**{**pair, "grants": [Given(**one) for one in pair["grants"]]}) for pair in document["pairs"]],
            document["head"]["size"],
            document["head"]["root"],
            document.get("refused", []),
            document.get("clock_offset_ms", 0),
            [TheirKey(**one) for one in document.get("their_keys", [])],
            # One that was made before wallets had an id: its keys have a name of their own in the browser.
            id=str(document.get("id", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed("usage.file", f"{FILE} is not a wallet") from error


def contact(path: Path) -> Contact:
    """A broker's contact file. Raises `Malformed` (usage.file)."""
    document = read_json(path)
    try:
        return Contact(**{name: document[name] for name in Contact.__slots__})
    except KeyError as error:
        raise Malformed("usage.file", f"{path.name} is not a broker's contact") from error


def party(path: Path) -> Party:
    """An organisation's card. Raises `Malformed` (usage.file)."""
    found = desk.read_card(path)
    return Party(found["id"], found["role"], found["name"])


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object in a file of at most 4 MiB. Raises `Malformed` (usage.file)."""
    return _object(durable.read(path, _MAX_JSON), path)


def _object(content: bytes, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed("usage.file", f"{path.name} cannot be read") from error
    if not isinstance(found, dict):
        raise Malformed("usage.file", f"{path.name} is not a JSON object")
    return found
