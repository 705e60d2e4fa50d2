"""Acknowledgements: a recipient's signed word on what it got and which log it was shown (DESIGN section 7).

The sender compares them with the receipt it holds itself: two parties who were shown different logs find out between
themselves, at once.
"""

from __future__ import annotations

import hmac
import operator
from dataclasses import dataclass
from typing import Final

from zhifu import strict
from zhifu.checkpoint import Checkpoint
from zhifu.errors import CATALOGUE, Malformed, NotAuthentic
from zhifu.keys import SUITE, VERSION
from zhifu.receipt import Entry, Proven
from zhifu.v1 import signed_pb2
from zhifu.v1.signed_pb2 import OUTCOME_OPENED, OUTCOME_REFUSED, OUTCOME_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What ``recipient`` did with one delivery.

    ``index``, ``size`` and ``root`` are those of the accepting checkpoint.
    """

    aud: str
    recipient: bytes
    presentation_hash: bytes
    leaf_hash: bytes
    index: int
    size: int
    root: bytes
    outcome: signed_pb2.Outcome
    reason: str
    issued_at: int

    @property
    def opened(self) -> bool:
        return self.outcome == OUTCOME_OPENED

    def to_bytes(self) -> bytes:
        """The canonical payload, to be signed."""
        message = signed_pb2.Acknowledgement(version=VERSION, suite=SUITE)
        for name in self.__slots__:
            setattr(message, name, getattr(self, name))
        return message.SerializeToString(deterministic=True)


def acknowledge(
    aud: str, recipient: bytes, presentation_hash: bytes, entry: Entry, proven: Proven, reason: str, now: int
) -> Acknowledgement:
    """An acknowledgement of a delivery whose receipt was proven; ``reason`` is empty if it was opened."""
    return Acknowledgement(
        aud,
        recipient,
        presentation_hash,
        entry.leaf_hash,
        entry.index,
        proven.checkpoint.size,
        proven.checkpoint.root,
        OUTCOME_REFUSED if reason else OUTCOME_OPENED,
        reason,
        now,
    )


def parse(payload: bytes) -> Acknowledgement:
    """A verified payload, strictly. Raises `Malformed`."""
    message = strict.parse(signed_pb2.Acknowledgement, payload, 1024)
    strict.all_exactly(message, _HASHES, 32)
    if message.outcome == OUTCOME_UNSPECIFIED or (message.outcome == OUTCOME_REFUSED) != bool(message.reason):
        raise Malformed("malformed.field", "a refusal has a reason, and only a refusal")
    if message.index >= message.size:
        raise Malformed("malformed.field", "the entry lies outside the tree")
    if message.reason and message.reason not in CATALOGUE:
        raise Malformed("malformed.field", "the reason is not in the catalogue")
    return Acknowledgement(*_FIELDS(message))


_FIELDS: Final = operator.attrgetter(*Acknowledgement.__slots__)
_HASHES: Final = strict.Fields("recipient", "presentation_hash", "leaf_hash", "root")


def check_same_log(theirs: Acknowledgement, entry: Entry, ours: Checkpoint) -> None:
    """The recipient was shown the log that we were: same accepting checkpoint, same leaf. ``entry`` is proven in ours.

    Raises `NotAuthentic` (log.fork).
    """
    same = (
        theirs.index == entry.index
        and theirs.size == ours.size
        and hmac.compare_digest(theirs.root, ours.root)
        and hmac.compare_digest(theirs.leaf_hash, entry.leaf_hash)
        and theirs.aud == ours.origin
    )
    if not same:
        raise NotAuthentic("log.fork")
