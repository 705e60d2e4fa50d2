"""Portable proofs that an entry is in the log (C2SP tlog-proof; DESIGN section 7).

A text file of index, inclusion path and checkpoint, which verifiers that nobody here wrote can check offline. It holds
neither the leaf nor its hash: who verifies computes it from the entry itself.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from zhifu import checkpoint as checkpoints
from zhifu.checkpoint import MAX_NOTE, Checkpoint, Note, VerifierKey, parse_base64, parse_decimal
from zhifu.errors import Malformed
from zhifu.merkle import MAX_SIZE, are_hashes, verify_inclusion

HEADER: Final = b"c2sp.org/tlog-proof@v1"
MAX_EXTRA: Final = 1 << 16
"""Bytes of opaque extra data, before base64."""
MAX_HASHES: Final = MAX_SIZE.bit_length()
MAX_PROOF: Final = MAX_NOTE + 2 * MAX_EXTRA
"""Bytes of a whole proof."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Index of the entry, its inclusion path (sibling of the leaf first), the checkpoint's note verbatim.

    ``extra`` is the application's own and is *not* authenticated. Raises Malformed("malformed.field").
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE or len(self.hashes) > MAX_HASHES or not are_hashes(self.hashes):
            raise Malformed("malformed.field", "the index or the inclusion path is out of bounds")
        if len(self.extra) > MAX_EXTRA:
            raise Malformed("malformed.size", "too much extra data")

    def encode(self) -> bytes:
        """The proof as text, conventionally a file ``*.tlog-proof``."""
        lines = [HEADER]
        if self.extra:
            lines.append(b"extra " + b64encode(self.extra))
        lines.append(b"index %d" % self.index)
        lines += map(b64encode, self.hashes)
        return b"\n".join([*lines, b"", self.checkpoint])

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Inverse of `encode`; the checkpoint must be a note, but no signature is verified. Raises Malformed."""
        if len(data) > MAX_PROOF:
            raise Malformed("malformed.size", "the proof is too long")
        head, separator, note = data.partition(b"\n\n")
        header, *lines = head.split(b"\n")
        if not separator or header != HEADER:
            raise Malformed("malformed.encoding", "not a tlog-proof, version 1")
        Note.parse(note)
        extra = _extra(lines.pop(0)) if lines and lines[0].startswith(b"extra ") else b""
        if not lines or not lines[0].startswith(b"index "):
            raise Malformed("malformed.encoding", "the proof has no index")
        index = parse_decimal(lines[0].removeprefix(b"index "))
        return cls(index, tuple(map(parse_base64, lines[1:])), note, extra)


def verify(proof: Proof, leaf: bytes, key: VerifierKey, origin: str | None = None) -> Checkpoint:
    """The log's checkpoint, once it proves the leaf hash: log signature first, then inclusion.

    ``key`` and ``origin`` are the pinned ones (`zhifu.checkpoint.verify`). Cosignatures are a policy of their own:
    `zhifu.checkpoint.verify_cosignatures` over ``proof.checkpoint``. Raises Malformed; NotAuthentic("log.signature");
    NotAuthentic("receipt.invalid").
    """
    head = checkpoints.verify(proof.checkpoint, key, origin)
    verify_inclusion(leaf, proof.index, head.size, proof.hashes, head.root)
    return head


def _extra(line: bytes) -> bytes:
    extra = parse_base64(line.removeprefix(b"extra "))
    if not extra:
        raise Malformed("malformed.encoding", "an empty extra line is left out")
    return extra
