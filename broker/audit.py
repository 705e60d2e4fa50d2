"""The audit log's writing side: entries, indices, tree and checkpoint in the transaction of what they record
(DESIGN section 7).

A `Sequence` lives for one transaction. It gives each entry its index, and `Sequence.seal` hashes the batch, stores
every complete subtree, swaps the head, reads back what it wrote and signs. Nothing signed leaves before the commit.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Final

from nacl.signing import SigningKey

from broker.store import tables
from broker.store.interface import Reader, Transaction
from zhifu import checkpoint, merkle, ranges, receipt
from zhifu.checkpoint import Checkpoint, SignatureType, VerifierKey
from zhifu.envelope import Envelope
from zhifu.errors import NotAuthentic, Refused
from zhifu.merkle import Frontier, Node
from zhifu.receipt import Detail, Entry, Erased, Head, LogProof, Meta

COMMITTED: Final = 0
PLAIN: Final = 1
_CACHED_NODES: Final = 65_536
_RECENT: Final = 64
_SKEW_MS: Final = 300_000
"""By which an auditor lets an entry be older than one before it."""
_LEAVES_GRANTS: Final = ("exchange.", "ticket.", "epoch.")
"""Events that leave standing what was read of grants and of subjects' keys; after any other it is read again."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction appended: leaves [begin, size) under a signed note."""

    begin: int
    size: int
    root: bytes
    note: bytes


class Log:
    """The log's head and key; one for each broker process. Every write goes through `begin`."""

    def __init__(self, origin: str, key: SigningKey, reader: Reader) -> None:
        self.origin = origin
        self.vkey = VerifierKey(origin, SignatureType.ED25519, bytes(key.verify_key))
        self._key = key
        self.reader = reader
        self._nodes: OrderedDict[Node, bytes] = OrderedDict()
        self.no_commit = Commit(0, 0, merkle.EMPTY, b"")
        self.frontier = Frontier()
        self.generation = 0
        """Another number: a grant or a key may have ended since, here, at another broker or in a commit in doubt."""
        self._recent: deque[Commit] = deque(maxlen=_RECENT)
        self.latest_ms = 0
        """When the newest entry was made."""
        self.reload()

    @property
    def size(self) -> int:
        return self.frontier.size

    def reload(self) -> None:
        """Take the head from the store again, after a commit whose fate is unknown."""
        self._nodes.clear()
        self.generation += 1
        self.frontier = self._stored_frontier(self.reader)

    def _stored_frontier(self, reader: Reader) -> Frontier:
        """The frontier at the stored head, which our own note must have signed, and which never moves back.

        Raises `NotAuthentic` (log.corrupt).
        """
        head = reader.get(tables.Head, 1)
        if (head.size if head else 0) < self.frontier.size:
            raise NotAuthentic("log.corrupt", "the stored log is shorter than it was")
        if head is None or head.size == 0:
            return Frontier()
        frontier = Frontier(head.size, tuple(reader.nodes(merkle.frontier_nodes(head.size))))
        signed = reader.get(tables.Checkpoint, head.size)
        if signed is None or frontier.root() != head.root:
            raise NotAuthentic("log.corrupt", "the stored head is not the root of the stored tree")
        if checkpoint.verify(signed.note, self.vkey) != Checkpoint(self.origin, head.size, head.root):
            raise NotAuthentic("log.corrupt", "the stored head is not the one that was signed")
        self.latest_ms = signed.time_ms
        return frontier

    def begin(self, state: Reader) -> Sequence:
        """Start sequencing the entries of the transaction ``state``, where the log ends now: another broker on the
        same database may have written since.

        Raises `NotAuthentic` (log.corrupt).
        """
        head = state.get(tables.Head, 1)
        if head is not None and head.size != self.frontier.size:
            self.generation += 1
            self.frontier = self._stored_frontier(state)
        return Sequence(self, self.frontier)

    def committed(self, done: Sequence) -> None:
        """The transaction is durable: its tree is the head now."""
        self.frontier = done.frontier
        self.latest_ms = done.time_ms or self.latest_ms
        if done.ends_grants:
            # Once more: whoever read committed rows while it was under way saw grants that do not stand any more.
            self.generation += 1
        if done.commit is not None:
            self._recent.append(done.commit)
        for level, index, node in done.nodes:
            self._nodes[level, index] = node
        while len(self._nodes) > _CACHED_NODES:
            self._nodes.popitem(last=False)

    def sign(self, head: Head) -> bytes:
        return checkpoint.sign(Checkpoint(self.origin, head.size, head.root), self.origin, self._key)

    def fetch(self, wanted: Seq[Node]) -> list[bytes]:
        """Nodes of the committed tree, recent ones from memory."""
        missing = [node for node in wanted if node not in self._nodes]
        found = dict(zip(missing, self.reader.nodes(missing), strict=True)) if missing else {}
        return [self._nodes[node] if node in self._nodes else found[node] for node in wanted]

    def proof(self, commit: Commit, begin: int, end: int, known: Head) -> LogProof:
        """Leaves [begin, end) under ``commit``'s checkpoint, and its consistency with the receiver's ``known`` head."""
        leaves = ranges.build_range(begin, end, commit.size, self.fetch)
        return LogProof(commit.note, leaves, known.size, self.consistency(known, commit))

    def consistency(self, known: Head, commit: Commit) -> tuple[bytes, ...]:
        """Between the receiver's head and a checkpoint of ours, whichever is older."""
        old, new = sorted((min(known.size, self._reach(known.size, commit.size)), commit.size))
        return tuple(merkle.consistency_proof(old, new, self.fetch)) if old else ()

    def _reach(self, *sizes: int) -> int:
        """How far the log goes, as far as ``sizes`` make it matter: another broker may have written since."""
        if max(sizes) > self.size:
            head = self.reader.get(tables.Head, 1)
            return max(self.size, head.size if head else 0)
        return self.size

    def commit_of(self, entry: int) -> Commit:
        """The commit that accepted an entry: the smallest checkpoint above its index.

        Raises `NotAuthentic` (log.corrupt).
        """
        for commit in reversed(self._recent):
            if commit.begin <= entry < commit.size:
                return commit
        found = self.reader.find(tables.Checkpoint, after=entry, limit=1)
        if not found:
            raise NotAuthentic("log.corrupt", "an entry without a checkpoint")
        return Commit(0, found[0].size, found[0].root, found[0].note)

    def is_newest(self) -> bool:
        """Whether the stored head is this one: neither another broker nor a commit under way has moved it."""
        head = self.reader.get(tables.Head, 1)
        return (head.size if head else 0) == self.size

    def commit_at(self, size: int) -> Commit:
        """The commit whose checkpoint has this size. Raises `NotAuthentic` (log.corrupt)."""
        row = self.reader.get(tables.Checkpoint, size)
        if row is None:
            raise NotAuthentic("log.corrupt", "a checkpoint is missing")
        return Commit(0, row.size, row.root, row.note)


class Sequence:
    """The entries of one transaction, in order. Indices are final once the transaction commits."""

    def __init__(self, log: Log, frontier: Frontier) -> None:
        self._log = log
        self._before = frontier
        self._rows: list[tuple[int, int, int, bytes, bytes, bytes, bytes]] = []
        self._leaves: list[bytes] = []
        self.frontier = frontier
        self.nodes: list[tuple[int, int, bytes]] = []
        self.commit: Commit | None = None
        """What was appended, once it is sealed."""
        self.ends_grants = False
        """Whether an entry of it may have ended a grant or a key."""
        self.time_ms = 0
        """When its entries were made, once it is sealed."""

    @property
    def next_index(self) -> int:
        return self._before.size + len(self._leaves)

    @property
    def generation(self) -> int:
        """`Log.generation`, in this transaction."""
        return self._log.generation

    def time(self, clock_ms: int) -> int:
        """The time of this transaction (Unix ms): the clock's, but in the order of the log.

        One that was put right, by more than is tolerated, makes an entry of its own: else the log would look as if what
        comes now had been written in before.
        """
        latest = self._log.latest_ms
        if latest - _SKEW_MS <= clock_ms < latest:
            return latest
        if clock_ms < latest:
            self.record(Meta("clock.set"), Detail(), clock_ms)
        return clock_ms

    def mark(self) -> int:
        """How many entries there are; `rewind` goes back to that number."""
        return len(self._leaves)

    def rewind(self, mark: int) -> None:
        del self._rows[mark:], self._leaves[mark:]

    def record(self, meta: Meta, detail: Detail, now_ms: int) -> Entry:
        """Append an entry that commits to ``meta`` and ``detail`` under fresh keys."""
        if not meta.event.startswith(_LEAVES_GRANTS):
            self._log.generation += 1
            self.ends_grants = True
        one = receipt.entry(self.next_index, now_ms, meta.to_bytes(), detail.to_bytes())
        self._rows.append((one.index, COMMITTED, now_ms, one.meta_key, one.meta, one.detail_key, one.detail))
        self._leaves.append(one.leaf_hash)
        return one

    def entry(self, index: int, state: Reader) -> Entry:
        """An entry of this transaction, or one of before. Raises `NotAuthentic` (log.corrupt)."""
        if index < self._before.size:
            return stored_entry(index, state)
        _, _, time_ms, meta_key, meta, detail_key, detail = self._rows[index - self._before.size]
        return Entry(index, time_ms, meta_key, meta, detail_key, detail)

    def publish(self, signed: Envelope, now_ms: int) -> int:
        """Append a plain entry for all to read: key statements (DESIGN 4.4). Returns its index."""
        document, index = signed.to_bytes(), self.next_index
        self._rows.append((index, PLAIN, now_ms, b"", b"", b"", document))
        self._leaves.append(merkle.leaf_hash(receipt.statement_leaf(index, now_ms, document)))
        return index

    def seal(self, transaction: Transaction, now_ms: int) -> Commit:
        """Write the batch, swap the head, read back, sign. Raises `NotAuthentic` (log.corrupt) if the store disagrees.

        A transaction without entries keeps the head and its note.
        """
        if not self._leaves:
            return self._log.commit_at(self._before.size) if self._before.size else self._log.no_commit
        self.frontier, self.nodes = merkle.grow(self._before, self._leaves)
        head = Head(self.frontier.size, self.frontier.root())
        transaction.insert(tables.Entry, self._rows)
        transaction.insert(tables.TreeNode, self.nodes)
        self._swap_head(transaction, head)
        self._read_back(transaction)
        note = self._log.sign(head)
        transaction.insert(tables.Checkpoint, [(head.size, head.root, note, now_ms)])
        self.commit = Commit(self._before.size, head.size, head.root, note)
        self.time_ms = now_ms
        return self.commit

    def _swap_head(self, transaction: Transaction, head: Head) -> None:
        """Compare-and-swap: another sequencer's head is never overwritten."""
        if self._before.size == 0 and transaction.get(tables.Head, 1) is None:
            transaction.insert(tables.Head, [(1, 0, merkle.EMPTY)])
        before = Head(self._before.size, self._before.root())
        changes: dict[str, object] = {"size": head.size, "root": head.root}
        if transaction.update(tables.Head, changes, id=1, size=before.size, root=before.root) != 1:
            raise NotAuthentic("log.corrupt", "the head was moved by another writer")

    def _read_back(self, transaction: Transaction) -> None:
        first = self._before.size
        stored = transaction.row(0, first, len(self._leaves))
        if stored != self._leaves:
            raise NotAuthentic("log.corrupt", "the store returned other leaves than were written")


def stored_entry(index: int, reader: Reader) -> Entry:
    """Raises `NotAuthentic` (log.corrupt), `Refused` (erasure.erased)."""
    row = reader.get(tables.Entry, index)
    if row is None:
        raise NotAuthentic("log.corrupt", "an entry is missing")
    if row.kind == COMMITTED and not row.detail_key:
        raise Refused("erasure.erased")
    return Entry(row.index, row.time_ms, row.meta_key, row.meta, row.detail_key, row.detail)


def stored_leaf(index: int, reader: Reader) -> bytes:
    """What the tree hashes for an entry: committed, plain or erased. Raises `NotAuthentic` (log.corrupt)."""
    row = reader.get(tables.Entry, index)
    if row is not None and row.kind == PLAIN:
        return receipt.statement_leaf(index, row.time_ms, row.detail)
    if row is not None and not row.detail_key:
        kept = reader.get(tables.Erasure, index)
        if kept is None:
            raise NotAuthentic("log.corrupt", "a detail is missing that was not erased")
        return Erased(index, row.time_ms, row.meta_key, row.meta, kept.commitment).leaf
    return stored_entry(index, reader).leaf
