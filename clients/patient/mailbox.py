"""The mailbox and accesses: what reached the patient, and what was shown to others, each checked here (DESIGN 4.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from clients import wire
from clients.patient import calls
from clients.patient.consent import grant_of
from clients.patient.wallet import Pair, Wallet
from zhifu import acknowledgement, consent, deletion, envelope, presentation, schema, statement
from zhifu.cbor import Value
from zhifu.envelope import Envelope
from zhifu.errors import Error, NotAuthentic
from zhifu.presentation import Presentation
from zhifu.receipt import Proven
from zhifu.receive import Asked, Opened, Recipient, receive
from zhifu.statement import KeyStatement
from zhifu.v1 import exchange_pb2, wallet_pb2

_log = logging.getLogger("zhifu.wallet")


@dataclass(frozen=True, slots=True)
class Access:
    """One exchange under one of the patient's grants; the presentation is verified, the state is the broker's word."""

    presentation: Presentation
    hash: bytes
    state: str
    schema_hash: bytes
    released: bytes
    time_ms: int
    preview: Mapping[str, Value]
    deletion: str
    """Empty, due, erased, or kept with the reason: the recipient's signed word after a revocation."""


async def accesses(wallet: Wallet, pair: Pair, now: int) -> list[Access]:
    """Every exchange under this pair's key, oldest first. Raises `NotAuthentic` if the broker made one up.

    `Refused` (unavailable.clock) where this device's clock is too far off to judge.
    """
    listed = await _listed(wallet, pair)
    if not listed:
        return []
    box = await calls.mailbox(wallet, pair)
    wallet.check_clock()
    statements(wallet, box.directory, wallet.sure_now(now))
    return [_access(wallet, one, _previews(pair)) for one in listed]


async def _listed(wallet: Wallet, pair: Pair) -> Sequence[wallet_pb2.Access]:
    """As the broker says; what its signers signed with then is remembered."""
    found = await calls.accesses(wallet, pair)
    earlier(wallet, found.earlier)
    return found.accesses


def _previews(pair: Pair) -> dict[tuple[bytes, str], Mapping[str, Value]]:
    """What the patient was shown, by grant and schema."""
    return {
        (consent.hash_of(grant_of(given).payload), name): values
        for given in pair.grants
        for name, values in given.preview.items()
    }


def _deletion(wallet: Wallet, one: wallet_pb2.Access, shown: Presentation) -> str:
    """The recipient's word is believed where its signature holds. Raises `NotAuthentic`."""
    if not one.HasField("deletion"):
        return "due" if one.deletion_due else ""
    signed = wire.signed(envelope.DELETION, one.deletion)
    payload, signers = wallet.verify(signed)
    said = deletion.parse(payload)
    if (said.presentation_hash, said.recipient) != (one.presentation_hash, shown.recipient):
        raise NotAuthentic("receipt.invalid", "a word on erasing something else")
    if said.issued_at > signers.get(said.recipient, -1):
        raise NotAuthentic("key.unknown", "a word on erasing that another than its recipient signed")
    return "deleted" if said.deleted else f"kept: {said.reason}"


def _access(
    wallet: Wallet, one: wallet_pb2.Access, previews: Mapping[tuple[bytes, str], Mapping[str, Value]]
) -> Access:
    signed = wire.signed(envelope.PRESENTATION, one.presentation)
    payload, signers = wallet.verify(signed)
    shown = presentation.parse(payload)
    # What a replaced key signs after its time is nobody's: whoever has it now could have made it.
    if shown.issued_at > signers.get(shown.sender, -1):
        raise NotAuthentic("presentation.sender")
    digest = presentation.hash_of(signed.payload)
    if digest != one.presentation_hash:
        raise NotAuthentic("receipt.invalid", "an access is not what its sender signed")
    kind = schema.by_hash(one.schema_hash)
    preview = previews.get((one.grant_hash, kind.name), {})
    word = _deletion(wallet, one, shown)
    return Access(shown, digest, one.state, one.schema_hash, one.released, one.time_ms, preview, word)


def statements(wallet: Wallet, directory: Sequence[exchange_pb2.DirectoryEntry], now: int) -> dict[bytes, KeyStatement]:
    """Key statements of the organisations this wallet pinned, verified and remembered; of others, none."""
    found = {}
    for entry in directory:
        if entry.participant.hex() in wallet.parties:
            signed = wire.signed(envelope.KEY_STATEMENT, entry.key_statement)
            found[entry.participant] = statement.verify_key_statement(signed, entry.participant, now)
    wallet.remember(found.values())
    return found


def earlier(wallet: Wallet, entries: Iterable[exchange_pb2.DirectoryEntry]) -> list[KeyStatement]:
    """What organisations that this wallet pinned stated of keys that they replaced since, verified and remembered.

    A wallet that was not opened while they were in force never saw them. Raises `NotAuthentic`.
    """
    found = [
        statement.verify_stated(wire.signed(envelope.KEY_STATEMENT, entry.key_statement), entry.participant)
        for entry in entries
        if entry.participant.hex() in wallet.parties
    ]
    wallet.remember(found)
    return found


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: ``basis`` is the grant whose claim it answers, empty where it answers none.

    ``key_statement`` is the sender's, verified.
    """

    opened: Opened
    basis: bytes
    key_statement: Envelope


@dataclass(frozen=True, slots=True)
class Box:
    """What was opened, and the verified key statements of the organisations that this wallet knows, as signed."""

    opened: tuple[Opened, ...]
    statements: Mapping[bytes, Envelope]


async def fetch(wallet: Wallet, pair: Pair, now: int, keep: Callable[[Fetched], None]) -> Box:
    """Fetch, check in the eight steps, open, ``keep`` and acknowledge what waits for this pair.

    One that does not pass, or that ``keep`` refuses, is acknowledged as refused, with its reason. The key statements of
    the organisations that this wallet knows come along, verified. Raises `NotAuthentic` (log.*, receipt.*)
    where the log itself does not hold: then nothing is opened.
    """
    box = await calls.mailbox(wallet, pair)
    wallet.check_clock()
    now = wallet.sure_now(now)
    known = statements(wallet, box.directory, now)
    me = await _recipient(wallet, pair, known, earlier(wallet, box.earlier))
    every = {one.participant: wire.signed(envelope.KEY_STATEMENT, one.key_statement) for one in box.directory}
    signed = {participant: one for participant, one in every.items() if participant in known}
    opened: list[Opened] = []

    def take(one: Opened) -> None:
        asked = me.asked(one.presentation.in_reply_to)
        keep(Fetched(one, asked.presentation.basis if asked else b"", signed[one.presentation.sender]))
        opened.append(one)

    for frame in box.frames:
        proven = wire.prove(frame.proof, wallet.head, wallet.contact.vkey)
        wallet.move_head(proven.head_after(wallet.head))
        wallet.save()
        payloads = [_open(parcel, proven, me, take, now) for parcel in frame.deliveries]
        await calls.acknowledge(wallet, pair, payloads)
    return Box(tuple(opened), signed)


def _open(
    parcel: exchange_pb2.Delivery, proven: Proven, me: Recipient, take: Callable[[Opened], None], now: int
) -> bytes:
    one = wire.received(parcel, proven)
    entry = wire.proven_entry(parcel.entry, proven)
    reason = ""
    try:
        take(receive(one, me, now))
    except Error as error:
        _log.warning("mail.refused", extra={"about": {"reason": error.reason}})
        reason = error.reason
    digest = presentation.hash_of(one.presentation.payload)
    return acknowledgement.acknowledge(me.aud, me.participant, digest, entry, proven, reason, now).to_bytes()


async def _recipient(
    wallet: Wallet, pair: Pair, known: Mapping[bytes, KeyStatement], replaced: Sequence[KeyStatement]
) -> Recipient:
    """What the wallet knows: its grants say which exchanges a statement may answer."""
    granted = {consent.hash_of(grant_of(given).payload) for given in pair.grants}
    listed: list[Access] = []
    for one in await _listed(wallet, pair) if granted else ():
        # One that cannot be verified is answered by nothing, and keeps nothing else from being opened.
        with suppress(NotAuthentic):
            listed.append(_access(wallet, one, {}))
    asked = {one.hash: Asked(one.presentation, pair.subject) for one in listed if one.presentation.basis in granted}
    return Recipient(
        participant=pair.subject,
        aud=wallet.contact.origin,
        kem_keys={pair.kem_key.public.id: pair.kem_key},
        statements=known,
        earlier=replaced,
        policy_hashes=frozenset(),
        seen=lambda _: False,
        asked=asked.get,
        pseudonyms=lambda *_: {},
        parties=(bytes.fromhex(pair.recipient),),
        is_subject=True,
    )
