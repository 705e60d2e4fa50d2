"""``python -m tests.bench.log [--entries N]``: what a long log costs (DESIGN section 7).

Append cost at N entries beside an empty log, an inclusion proof, and the hashes and the tree of the whole log anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from nacl.signing import SigningKey

from broker import verification
from broker.audit import Log
from broker.store.sqlite import SqliteStore
from zhifu import merkle
from zhifu.receipt import Detail, Meta

BATCH: Final = 512
WINDOW: Final = 40
PROOFS: Final = 500
_META: Final = Meta("exchange.accepted", b"s" * 32, b"r" * 32, "commercial-settlement", b"h" * 32, bytes(27), bytes(27))
_DOCUMENT: Final = bytes(700)


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU an entry appended, of an empty log and of a long one; a proof in ms; entries/s verified."""

    entries: int
    append_empty_us: float
    append_long_us: float
    ratio: float
    proof_p50_ms: float
    proof_p99_ms: float
    verified_per_s: int


def grow(store: SqliteStore, log: Log, batches: int) -> float:
    """Commit so many batches; the median CPU time of one, in microseconds an entry."""
    took = []
    for number in range(batches):
        begun = time.process_time()
        state = store.begin()
        sequence = log.begin(state)
        for place in range(BATCH):
            exchange = sha256(b"%d %d %d" % (log.size, number, place)).digest()
            sequence.record(_META, Detail(exchange, b"g" * 32, b"p" * 32, (_DOCUMENT,)), number)
        sequence.seal(state, number)
        store.commit()
        log.committed(sequence)
        took.append((time.process_time() - begun) / BATCH * 1e6)
    return median(took)


def proofs(log: Log) -> list[float]:
    """Milliseconds of inclusion proofs of entries anywhere, none of them in memory."""
    random, took, root = Random(1), [], log.frontier.root()
    log.reload()
    for _ in range(PROOFS):
        index = random.randrange(log.size)
        begun = time.perf_counter()
        proof = merkle.inclusion_proof(index, log.size, log.fetch)
        took.append((time.perf_counter() - begun) * 1e3)
        (leaf,) = log.fetch([(0, index)])
        merkle.verify_inclusion(leaf, index, log.size, proof, root)
    return sorted(took)


def verify(database: Path, size: int) -> float:
    """Entries a second: every leaf and every node recomputed and compared, by a process a core. Wall-clock time."""
    begun = time.perf_counter()
    if verification.verify(database, "") != size:
        raise AssertionError("the log does not verify")
    return size / (time.perf_counter() - begun)


def measure(folder: Path, entries: int) -> Costs:
    """Fill a log in ``folder`` and look at both ends of it."""
    store = SqliteStore(folder / "log.db")
    log = Log("bench.example/log", SigningKey.generate(), store.reader)
    empty = grow(store, log, WINDOW)
    while log.size < entries:
        grow(store, log, min(100, -(-(entries - log.size) // BATCH)))
        print(f"{log.size} entries", file=sys.stderr)
    long, took = grow(store, log, WINDOW), proofs(log)
    rate = verify(folder / "log.db", log.size)
    store.close()
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    return Costs(
        log.size, round(empty, 1), round(long, 1), round(long / empty, 3), round(p50, 3), round(p99, 3), int(rate)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object; the exit code says whether the bounds hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.log", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="zhifu-bench-log-") as folder:
        found = measure(Path(folder), given.entries)
    print(json.dumps(asdict(found)))
    return int(not (found.ratio <= 1.2 and found.proof_p50_ms <= 1.0 and found.verified_per_s >= 100_000))


if __name__ == "__main__":
    sys.exit(main())
