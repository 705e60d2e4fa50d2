"""A frame of submissions through the pipeline, for the stream and for the unary way in: quota, verification, commit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from broker import pipeline
from broker.audit import Commit
from broker.core import Core
from broker.counts import COUNTS
from broker.pipeline import Frame, delivery_row
from broker.services import frames
from broker.services.frames import Told
from broker.stages import Outcome, Recorded, Refusal, Rejected, Submission
from zhifu import envelope, presentation
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.v1 import exchange_pb2

_AFTERWARDS: Final = "statement"


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of submissions, and the commit that recorded them; of what was not recorded, the one of nothing."""

    told: Sequence[Told]
    commit: Commit

    @staticmethod
    def of(outcomes: Iterable[Outcome], commit: Commit) -> Answered:
        return Answered([frames.told(one) for one in outcomes], commit)


async def submit(core: Core, sender: bytes, frame: exchange_pb2.SubmissionFrame) -> Answered:
    """A submission frame through the pipeline, committed. Raises `Malformed`; what else fails is an outcome."""
    if not 1 <= len(frame.submissions) <= envelope.MAX_FRAME:
        raise Malformed("malformed.size", f"a frame holds 1 to {envelope.MAX_FRAME} submissions")
    begun = time.monotonic()
    try:
        core.witnesses.check_age()
        # Before it is verified: what is refused costs as much.
        core.quotas.admit(sender, len(frame.submissions), frame.ByteSize(), begun)
        verified, full = _with_room(core, _verify(core, sender, frame))
        if not verified:
            return Answered.of(full, core.log.no_commit)
        done = await core.committer.join(
            core.pipeline.accept,
            Frame(sender, verified),
            weight=len(verified),
            lane=sender,
            bulk=_is_bulk(verified),
        )
    except Error as error:
        hashes = [presentation.hash_of(one.presentation) for one in frame.submissions]
        refused: list[Outcome] = [Refusal(digest, error) for digest in hashes]
        COUNTS.answered(refused, [None] * len(refused))
        return Answered.of(refused, core.log.no_commit)
    COUNTS.answered(done.result, [one.presentation for one in verified])
    COUNTS.frame_seconds.add(time.monotonic() - begun)
    core.mailroom.accepted((delivery_row(one), one.entry) for one in done.result if isinstance(one, Recorded))
    return Answered.of([*done.result, *full], done.commit)


def _with_room(
    core: Core, verified: list[Submission | Rejected]
) -> tuple[list[Submission | Rejected], list[Refusal]]:  # fmt: skip
    """What is taken, and what is not because too much waits for its recipient: the others of a frame do not wait."""
    if not core.quotas.any_full:
        return verified, []
    taken, full = [], []
    for one in verified:
        try:
            if isinstance(one, Submission):
                core.quotas.check_room(one.presentation.recipient)
            taken.append(one)
        except Refused as error:
            full.append(Refusal(one.hash, error))
            COUNTS.answered(full[-1:], [one.presentation])
    return taken, full


def _is_bulk(verified: Sequence[Submission | Rejected]) -> bool:
    """Statements are for reading afterwards; everything else has a patient waiting at the desk."""
    return all(one.presentation is not None and one.presentation.purpose == _AFTERWARDS for one in verified)


def _verify(
    core: Core, sender: bytes, frame: exchange_pb2.SubmissionFrame
) -> list[Submission | Rejected]:  # fmt: skip
    try:
        key = core.directory.signing_key(sender, core.now())
    except NotAuthentic as error:
        # Refused like any other, so that it is in the log.
        return [Rejected(presentation.hash_of(one.presentation), error) for one in frame.submissions]
    return pipeline.verify(frame, sender, key, core.log.origin)
