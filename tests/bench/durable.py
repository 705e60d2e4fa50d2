"""Durable accept: frames through the pipeline into SQLite's group commit, without gRPC; beside NATS JetStream.

An accept is counted when its commit returned: `synchronous=FULL`, so each commit waits for the disk. It includes all
that accepting is (signature, consent, policy, gate, log); JetStream only stores a message of as many bytes as are kept.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.core import Core
from broker.services import frames
from broker.services.frames import Known
from broker.services.submitting import submit
from tests.bench import jetstream
from tests.bench.components import frame
from tests.bench.load import claim
from tests.bench.world import Patient
from zhifu import sealed
from zhifu.envelope import MAX_FRAME
from zhifu.receipt import Head
from zhifu.v1 import exchange_pb2

FRAMES: Final = 32
IN_FLIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class Durable:
    """Medians: accepted exchanges a second, what one fsync of the same disk takes, how many shared a commit.

    ``ratio`` is the median of each repetition's accepts over JetStream's acknowledgements of ``message_bytes``.
    """

    per_second: float
    jetstream_per_second: float
    ratio: float
    message_bytes: int
    fsync_ms: float
    each_commit: float


async def measure(core: Core, folder: Path, patients: Sequence[Patient], repeats: int) -> Durable:
    """``repeats`` times `FRAMES` full frames, `IN_FLIGHT` at a time; ``folder`` is on the disk of the store."""
    core.committer.start()
    rates, shared, theirs = [], [], []
    size = kept_bytes(patients[0])
    async with jetstream.stream(folder) as target:
        await jetstream.per_second(target, size, IN_FLIGHT * MAX_FRAME)
        for _ in range(repeats):
            sent = [frame(patients[0].sender, patients, MAX_FRAME) for _ in range(FRAMES)]
            before, begun = core.log.size, time.perf_counter()
            commits = await _submit(core, patients[0].sender.id, sent)
            taken = core.log.size - before
            rates.append(taken / (time.perf_counter() - begun))
            shared.append(taken / len(commits))
            theirs.append(await jetstream.per_second(target, size, IN_FLIGHT * MAX_FRAME))
    await core.committer.close()
    ratios = [ours / other for ours, other in zip(rates, theirs, strict=True)]
    return Durable(
        statistics.median(rates), statistics.median(theirs), statistics.median(ratios), size, fsync_ms(folder),
        statistics.median(shared),
    )  # fmt: skip


def kept_bytes(patient: Patient) -> int:
    """What the broker keeps of a claim: presentation (in the queue and in the log), manifest, leaves and capsule."""
    one = patient.claim
    kept = sealed.gate(one.record.manifest, one.record.leaves, one.ceilings)
    return 2 * len(claim(patient).presentation) + len(one.manifest) + len(kept) + len(one.capsule)


async def _submit(core: Core, sender: bytes, sent: Sequence[exchange_pb2.SubmissionFrame]) -> set[bytes]:
    """The checkpoints that the frames were accepted under. Raises `AssertionError` if one was refused."""
    gate, commits = asyncio.Semaphore(IN_FLIGHT), set[bytes]()

    async def one(each: exchange_pb2.SubmissionFrame) -> None:
        async with gate:
            done = await submit(core, sender, each)
            for found in frames.results(done.told, done.commit, core.log, Known(Head())):
                refused = [result.refusal.reason for result in found.results if result.HasField("refusal")]
                assert not refused, refused[0]
                commits.add(found.proof.checkpoint)

    await asyncio.gather(*(one(each) for each in sent))
    return commits


def fsync_ms(folder: Path, repeats: int = 21) -> float:
    """The median time that a small write takes until it is on the disk."""
    found = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(repeats):
            begun = time.perf_counter()
            file.write(bytes(16_384))
            os.fsync(file.fileno())
            found.append(time.perf_counter() - begun)
    return 1000 * statistics.median(found)
