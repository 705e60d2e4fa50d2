"""Parcels that wait at the broker for this node, or were taken: what it remembers of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from clients import durable, holding, wire
from clients.role import Parts
from clients.store import Job, Store
from clients.store.jobs import ALL
from zhifu import cbor, envelope, parcel
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic
from zhifu.parcel import Parcel
from zhifu.receipt import Proven, parse_detail, parse_meta
from zhifu.v1 import exchange_pb2

NOTICE: Final = "parcel"
WAITING: Final = "waiting"
TAKEN: Final = "taken"
REFUSED: Final = "refused"
ERASED: Final = "erased"
_KIND: Final = "parcel"
_MAX_BYTES: Final = 65_536
_MAX_CHUNK: Final = parcel.CHUNK + 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """One parcel: its signed word, and once it was opened the patient's key and the content's (32 bytes each)."""

    hash: bytes
    state: str
    envelope: bytes
    subject_key: bytes = b""
    secret: bytes = field(default=b"", repr=False)
    claim: bytes = b""

    @property
    def signed(self) -> Envelope:
        return envelope.from_bytes(parcel.PARCEL, self.envelope)

    @property
    def shown(self) -> Parcel:
        return parcel.parse(self.signed.payload)


def noticed(parts: Parts, notice: exchange_pb2.Notice, proven: Proven | None) -> None:
    """A patient left something, with the entry that says so; in the open transaction.

    Raises `NotAuthentic` (receipt.*), `Malformed`.
    """
    entry = wire.proven_entry(notice.entry, proven) if notice.HasField("entry") else None
    if entry is None:
        raise NotAuthentic("receipt.missing", "a parcel without the entry that it was left")
    meta, detail = parse_meta(entry.meta), parse_detail(entry.detail)
    if (meta.event, meta.recipient) != ("parcel.left", parts.directory.participant) or len(detail.documents) != 1:
        raise NotAuthentic("receipt.invalid", "the entry is about another parcel")
    signed = envelope.from_bytes(parcel.PARCEL, detail.documents[0])
    digest = parcel.hash_of(signed.payload)
    if digest != notice.presentation_hash:
        raise NotAuthentic("receipt.invalid", "the entry is about another parcel")
    if parts.store.jobs.get(_KIND, digest) is None:
        put(parts.store, Kept(digest, WAITING, signed.to_bytes()), parts.clock_ms())


def put(store: Store, one: Kept, now_ms: int) -> None:
    """Durable with the transaction."""
    payload = cbor.encode([one.envelope, one.subject_key, one.secret, one.claim])
    store.jobs.put(Job(_KIND, one.hash, one.state, payload, now_ms))


def find(store: Store, *states: str) -> list[Kept]:
    """Parcels in one of ``states``, the longest unchanged first."""
    return [_read(job) for job in store.jobs.find(_KIND, *states, limit=ALL)]


def get(store: Store, digest: bytes) -> Kept | None:
    job = store.jobs.get(_KIND, digest)
    return None if job is None else _read(job)


def of_claim(store: Store, claim: bytes) -> list[Kept]:
    """Every parcel about a claim that was taken, its report first."""
    return [one for one in find(store, TAKEN) if claim in (one.hash, one.claim)]


def content(folder: Path, one: Kept) -> parcel.Message:
    """What is in a parcel that was taken. Raises `NotAuthentic` (leaf.*), `Malformed`."""
    chunks = [durable.read(path, _MAX_CHUNK) for path in _paths(folder, one)]
    return parcel.decode(parcel.unpack(one.shown, one.secret, chunks))


def keep_chunk(folder: Path, one: Kept, place: int, chunk: bytes) -> None:
    """A sealed chunk, whole or not at all, for the node's owner only."""
    place_ = chunk_path(folder, one.hash, place)
    place_.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write(place_, chunk)


def make_durable(folder: Path, one: Kept) -> None:
    """Nothing that `keep_chunk` kept of it is lost with the machine's power. Raises `Refused` (usage.file)."""
    place = chunk_path(folder, one.hash, 0).parent
    for each in (place, place.parent, folder):
        durable.sync_folder(each)


def chunk_path(folder: Path, digest: bytes, place: int) -> Path:
    return folder / "parcels" / digest.hex() / f"{place:04d}"


def _paths(folder: Path, one: Kept) -> Iterator[Path]:
    return (chunk_path(folder, one.hash, place) for place in range(len(one.shown.digests)))


def erase(folder: Path, store: Store, one: Kept, now_ms: int) -> None:
    """Its chunks and its key go; that it was there stays. In the open transaction."""
    for path in _paths(folder, one):
        path.unlink(missing_ok=True)
    put(store, replace(one, state=ERASED, secret=b""), now_ms)


def lapse(folder: Path, store: Store, now_ms: int) -> int:
    """Erase what came to the end that its patient signed, but for what a legal hold stands on; how many."""
    over = [one for one in find(store, WAITING, TAKEN, REFUSED) if one.shown.erase_at * 1000 <= now_ms]
    due = [one for one in over if not holding.is_held(store, one.hash)]
    with store.transaction():
        for one in due:
            erase(folder, store, one, now_ms)
    return len(due)


def _read(job: Job) -> Kept:
    signed, subject_key, secret, claim = cbor.array(job.payload, _MAX_BYTES, 4)
    return Kept(job.id, job.state, signed, subject_key, secret, claim)
