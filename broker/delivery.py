"""Delivery: what waits for whom, leases, acknowledgements, notices (DESIGN section 6).

"Delivered" is what a recipient signed, never what was pulled. A row stays until its acknowledgement, its expiry or
the withdrawal of its grant; until then it is sent again when its lease ran out or its recipient connects anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Final, NamedTuple

from broker.audit import Sequence
from broker.bell import Bell
from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import acknowledgement, presentation
from zhifu.acknowledgement import Acknowledgement
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic
from zhifu.receipt import Detail, Entry, Meta
from zhifu.v1 import signed_pb2

LEASE_S: Final = 30.0
MAX_FRAME: Final = 64
FRESH_BYTES: Final = 16 << 20
_REST_BYTES: Final = 4096
NOTICE_S: Final = 0.25
"""How long a notice that all is well may wait for others, in seconds: each frame costs its sender a message and its
reader a commit."""
_SLICE: Final = 1024
WINDOW: Final = 16 * MAX_FRAME
"""Deliveries that are under way to one stream before the first of them must be acknowledged."""


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that is handed out for the ``attempt``-th time on this stream."""

    row: tables.Delivery
    attempt: int
    opening: Entry | None = None
    """Its audit entry, where that is at hand."""


class Fresh:
    """Deliveries of the last commits, as they were accepted, so that what goes out at once is not read again.

    The store says what waits; this only saves to ask it for the bodies. Each is given out once.
    """

    def __init__(self, most: int = FRESH_BYTES) -> None:
        self._most = most
        self._bytes = 0
        self._rows: OrderedDict[int, Leased] = OrderedDict()

    def put(self, row: tables.Delivery, entry: Entry) -> None:
        """Remember what was committed; the oldest are forgotten once there are ``most`` bytes of bodies."""
        if row.entry in self._rows:
            return
        self._rows[row.entry] = Leased(row, 1, entry)
        self._bytes += _size(row)
        while self._bytes > self._most:
            self.take(next(iter(self._rows)))

    def take(self, entry: int) -> Leased | None:
        """A delivery that was not given out yet."""
        found = self._rows.pop(entry, None)
        if found is not None:
            self._bytes -= _size(found.row)
        return found


def _size(row: tables.Delivery) -> int:
    return len(row.leaves) + len(row.capsule) + _REST_BYTES


class Outgoing:
    """What one attached node has not acknowledged yet. Rows are read from the store when they are sent."""

    def __init__(self, node: bytes, reader: Reader, lease_s: float = LEASE_S, fresh: Fresh | None = None) -> None:
        self._node = node
        self._reader = reader
        self._fresh = fresh or Fresh()
        self._lease_s = lease_s
        # In the order in which they run out, since every lease is as long as the others.
        self._leases: OrderedDict[int, tuple[float, int]] = OrderedDict()
        self._through = -1
        self._notices_through = -1
        self.mail = self.news = True
        """Whether deliveries, or notices, may wait that were not looked for yet."""
        self._telling: asyncio.TimerHandle | None = None
        self.wake = Bell(rung=True)

    def expect(self) -> None:
        """Something may wait, of either kind."""
        self.mail = self.news = True
        self.wake.set()

    def tell(self) -> None:
        """Notices wait that nobody stands at a desk for: they go together, soon."""
        if self._telling is None and not self.news:
            self._telling = asyncio.get_running_loop().call_later(NOTICE_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self.news = True
        self.wake.set()

    def take(self, now: float) -> list[Leased]:
        """At most `MAX_FRAME` deliveries whose lease is free, oldest first; they are leased from ``now`` (s)."""
        taken = self._lapsed(now)
        # What waits stays in the store: a node that does not acknowledge gets no more of it than this.
        if len(self._leases) >= WINDOW:
            return self._leased(taken, now)
        # Entries become visible in their order: what was handed out once need not be looked through again.
        room = MAX_FRAME - len(taken)
        waiting = self._reader.keys(tables.Delivery, limit=room, after=self._through, recipient=self._node)
        self._through = waiting[-1] if waiting else self._through
        return self._leased([*taken, *self._bodies(waiting)], now)

    def _bodies(self, waiting: list[int]) -> list[Leased]:
        found = {entry: one for entry in waiting if (one := self._fresh.take(entry)) is not None}
        missing = tuple(entry for entry in waiting if entry not in found)
        found |= {row.entry: Leased(row, 1) for row in self._reader.find(tables.Delivery, entry=missing)}
        return [found[entry] for entry in waiting if entry in found]

    def _leased(self, taken: list[Leased], now: float) -> list[Leased]:
        for one in taken:
            self._leases[one.row.entry] = (now + self._lease_s, one.attempt)
        return taken

    def _lapsed(self, now: float) -> list[Leased]:
        found: list[Leased] = []
        while self._leases and len(found) < MAX_FRAME:
            entry, (until, attempt) = next(iter(self._leases.items()))
            if until > now:
                break
            del self._leases[entry]
            row = self._reader.get(tables.Delivery, entry)
            if row is not None:
                found.append(Leased(row, attempt + 1))
        return sorted(found, key=lambda one: one.row.entry)

    def settled(self, entries: Seq[int]) -> None:
        """Acknowledged: forget their leases."""
        was_full = len(self._leases) >= WINDOW
        for entry in entries:
            self._leases.pop(entry, None)
        if was_full:
            self.mail = True
            self.wake.set()

    @property
    def leased(self) -> int:
        return len(self._leases)

    def next_lease(self, now: float) -> float | None:
        """Seconds until the earliest lease runs out; None if nothing is leased."""
        for until, _ in self._leases.values():
            return max(0.0, until - now)
        return None

    def read_through(self, notice: int) -> None:
        self._notices_through = max(self._notices_through, notice)

    def take_notices(self) -> list[tables.Notice]:
        """Notices that were not sent on this stream yet, oldest first."""
        found = self._reader.find(tables.Notice, limit=MAX_FRAME, after=self._notices_through, node=self._node)
        if found:
            self._notices_through = found[-1].id
        return found


class Mailroom:
    """Which nodes are attached here. Waking is a hint; the rows are what counts.

    ``ring`` tells the other brokers on the same database, where a node may be attached as well.
    """

    def __init__(self, ring: Callable[[Seq[bytes]], None] = lambda nodes: None) -> None:
        self._attached: dict[bytes, list[Outgoing]] = {}
        self.ring = ring
        self.fresh = Fresh()

    def accepted(self, deliveries: Iterable[tuple[tables.Delivery, Entry]]) -> None:
        """These were committed: who is attached here gets them."""
        found = list(deliveries)
        for row, entry in found:
            for outgoing in self._attached.get(row.recipient, ()):
                self.fresh.put(row, entry)
                outgoing.mail = True
                outgoing.wake.set()
        self.ring([row.recipient for row, _ in found])

    def attach(self, node: bytes, outgoing: Outgoing) -> None:
        self._attached.setdefault(node, []).append(outgoing)

    def detach(self, node: bytes, outgoing: Outgoing) -> None:
        self._attached[node].remove(outgoing)

    @property
    def attached(self) -> list[bytes]:
        """The node of every stream."""
        return [node for node, streams in self._attached.items() for _ in streams]

    @property
    def every(self) -> list[Outgoing]:
        return [outgoing for streams in self._attached.values() for outgoing in streams]

    def wake_all(self) -> None:
        """Every stream has something to send that is in no row."""
        for outgoing in self.every:
            outgoing.wake.set()

    def told(self, nodes: Seq[bytes]) -> None:
        """Notices wait for ``nodes`` that exchanges were delivered."""
        for node in nodes:
            for outgoing in self._attached.get(node, ()):
                outgoing.tell()
        self.ring(nodes)

    def wake(self, nodes: Seq[bytes]) -> None:
        """Something waits for ``nodes``, by a commit of this broker."""
        self.heard(nodes)
        self.ring(nodes)

    def heard(self, nodes: Iterable[bytes] | None) -> None:
        """Something may wait for ``nodes``; None: for any."""
        for node in list(self._attached) if nodes is None else nodes:
            for outgoing in self._attached.get(node, ()):
                outgoing.expect()


@dataclass(frozen=True, slots=True)
class Said:
    """A frame of acknowledgements, verified: what one recipient said of deliveries, beside each as it was signed."""

    recipient: bytes
    words: tuple[tuple[Acknowledgement, bytes], ...]

    @property
    def refuses(self) -> bool:
        """Whether one of them says that a delivery could not be taken."""
        return not all(one.opened for one, _ in self.words)


@dataclass(frozen=True, slots=True)
class Settled:
    """What acknowledgements did: the rows that are gone, and the senders who have a notice now."""

    entries: tuple[int, ...]
    senders: tuple[bytes, ...]
    refused: int = 0


def said(signed: Seq[Envelope], recipient: bytes, origin: str) -> Said:
    """Read verified acknowledgements. Raises `Malformed`, `NotAuthentic` (presentation.recipient)."""
    return Said(recipient, tuple((_said(one, recipient, origin), one.to_bytes()) for one in signed))


def acknowledge(frames: Seq[Said], state: Transaction, sequence: Sequence, now_ms: int) -> list[Settled]:
    """Take acknowledgements: state, notice to the sender, an audit entry for each frame; bodies are deleted.

    One for a row that is gone already changes nothing. As `broker.joint.Joint` says.
    """
    named = {one.index for frame in frames for one, _ in frame.words}
    waiting = state.keys(tables.Delivery, entry=tuple(named))
    exchanges = {row.entry: row for row in state.find(tables.Exchange, entry=tuple(waiting))}
    done: dict[int, _Word] = {}
    settled = [_first_words(frame, exchanges, done) for frame in frames]
    _settle(done, state)
    for frame, entries in zip(frames, settled, strict=True):
        if entries:
            documents = tuple(done[entry].document for entry in entries)
            meta = Meta("exchange.acknowledged", sender=frame.recipient)
            sequence.record(meta, Detail(documents=documents), now_ms)
    return [_settled([done[entry] for entry in entries]) for entries in settled]


def _first_words(frame: Said, exchanges: dict[int, tables.Exchange], done: dict[int, _Word]) -> list[int]:
    """The entries that a frame settles: of two words on the same delivery the first one counts."""
    entries = []
    for one, document in frame.words:
        row = exchanges.get(one.index)
        is_its = row is not None and (row.recipient, row.hash) == (frame.recipient, one.presentation_hash)
        if row is not None and is_its and one.index not in done:
            done[one.index] = _Word(row.sender, one, document)
            entries.append(one.index)
    return entries


def _settled(words: Seq[_Word]) -> Settled:
    entries, senders = tuple(word.said.index for word in words), tuple({word.sender for word in words})
    return Settled(entries, senders, sum(not word.said.opened for word in words))


class _Word(NamedTuple):
    """What a recipient said of a delivery, as it signed it, and who sent that."""

    sender: bytes
    said: Acknowledgement
    document: bytes

    @property
    def outcome(self) -> str:
        return "delivered" if self.said.opened else "refused"


def _said(one: Envelope, recipient: bytes, origin: str) -> Acknowledgement:
    found = acknowledgement.parse(one.payload)
    if found.recipient != recipient or found.aud != origin:
        raise NotAuthentic("presentation.recipient", "an acknowledgement in another's name")
    return found


def _settle(done: dict[int, _Word], state: Transaction) -> None:
    """Bodies go, states and notices tell; a statement for each kind of row, however many there are."""
    state.delete(tables.Delivery, entry=tuple(done))
    for outcome in {word.outcome for word in done.values()}:
        entries = tuple(entry for entry, word in done.items() if word.outcome == outcome)
        state.update(tables.Exchange, {"state": outcome}, state="accepted", entry=entries)
    told = [(None, one.sender, one.said.presentation_hash, one.outcome, one.document, -1) for one in done.values()]
    state.insert(tables.Notice, told)


def notify(state: Transaction, node: bytes, exchange: bytes, outcome: str, entry: int) -> None:
    """Queue a notice of what the broker recorded, for the sender of an exchange; ids rise for all nodes together."""
    state.insert(tables.Notice, [(None, node, exchange, outcome, b"", entry)])


def expire(state: Transaction, sequence: Sequence, now_ms: int) -> Seq[bytes]:
    """End the deliveries that outlived their presentation; the senders who have a notice now."""
    overdue = [state.get(tables.Delivery, entry) for entry in state.overdue(now_ms // 1000)]
    return [_end(row, "expired", state, sequence, now_ms) for row in overdue if row is not None]


def strand(
    gone: Collection[bytes], after: int, state: Transaction, sequence: Sequence, now_ms: int
) -> tuple[int | None, Seq[bytes]]:
    """End deliveries of epochs that no gate key here opens any more: their senders, told so, present them anew.

    Looks at 1,024 behind the entry ``after``: the entry to go on behind, None where that was all, and the senders.
    """
    looked = state.find(tables.Delivery, limit=_SLICE, after=after)
    found = [row for row in looked if _epoch(row) in gone]
    told = [_end(row, "expired", state, sequence, now_ms, "gate.epoch") for row in found]
    return (looked[-1].entry if len(looked) == _SLICE else None), told


def _epoch(row: tables.Delivery) -> bytes:
    return presentation.parse(signed_pb2.Envelope.FromString(row.envelope).payload).epoch_id


def withdraw(grant: tables.Grant, state: Transaction, sequence: Sequence, now_ms: int) -> Seq[bytes]:
    """Delete what is queued under a revoked grant; the senders who have a notice now (DESIGN 4.3)."""
    # By the patient's own exchanges, which are few, and not among all that waits for anybody; of whatever state, since
    # one that is answered may not be acknowledged yet.
    under_it = state.find(tables.Exchange, subject=grant.subject, grant_hash=grant.hash)
    queued = state.find(tables.Delivery, entry=tuple(one.entry for one in under_it), grant_hash=grant.hash)
    return [_end(row, "withdrawn", state, sequence, now_ms) for row in queued]


def _end(
    row: tables.Delivery, outcome: str, state: Transaction, sequence: Sequence, now_ms: int, reason: str = ""
) -> bytes:
    exchange = state.get(tables.Exchange, row.entry)
    if exchange is None:
        raise NotAuthentic("log.corrupt", "a delivery without its exchange")
    meta = Meta(
        f"exchange.{outcome}", sender=row.sender, recipient=row.recipient, purpose=exchange.purpose, reason=reason
    )
    detail = Detail(exchange.hash, exchange.grant_hash, exchange.subject)
    entry = sequence.record(meta, detail, now_ms)
    state.delete(tables.Delivery, entry=row.entry)
    state.update(tables.Exchange, {"state": outcome}, entry=row.entry)
    notify(state, row.sender, exchange.hash, outcome, entry.index)
    return row.sender
