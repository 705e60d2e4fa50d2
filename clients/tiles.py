"""A log read over HTTP as tiles (C2SP tlog-tiles), trusting its key alone: every hash is proved before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import httpx

from zhifu import checkpoint, merkle
from zhifu.checkpoint import MAX_NOTE, Checkpoint, VerifierKey
from zhifu.errors import Error, NotAuthentic, Refused
from zhifu.merkle import HASH_BYTES, Node
from zhifu.receipt import Head

TIMEOUT_S: Final = 20.0
_WIDTH: Final = 256
_HEIGHT: Final = 8


class Mirror:
    """The log below one URL, as of the checkpoint that it showed first. Used once, then closed."""

    def __init__(self, url: str, log_key: VerifierKey) -> None:
        """Raises `Refused` (unavailable.broker), `Malformed`, `NotAuthentic` (log.signature)."""
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT_S, trust_env=False)
        self._tiles: dict[tuple[int, int], bytes] = {}
        try:
            self.note = self._get("/checkpoint", MAX_NOTE)
            self.checkpoint: Checkpoint = checkpoint.verify(self.note, log_key)
        except Error:
            self.close()
            raise

    def close(self) -> None:
        self._client.close()

    def nodes(self, wanted: Sequence[Node]) -> list[bytes]:
        """Hashes of complete subtrees, not proved yet: a `zhifu.merkle.Fetch`."""
        return [self._node(level, index) for level, index in wanted]

    def check_extends(self, head: Head) -> None:
        """The mirror's tree extends ``head``, or is a prefix of it. Raises `NotAuthentic` (log.inconsistent)."""
        shown = Head(self.checkpoint.size, self.checkpoint.root)
        if shown.size < head.size:
            raise NotAuthentic(
                "log.inconsistent", f"the log ends at {shown.size}; {head.size} entries were seen before"
            )
        if head.size:
            proof = merkle.consistency_proof(head.size, shown.size, self.nodes)
            merkle.verify_consistency(head.size, shown.size, head.root, shown.root, proof)

    def inclusion(self, leaf_hash: bytes, index: int, size: int, root: bytes) -> list[bytes]:
        """The proof that a leaf stands in the tree of this size and root. Raises `NotAuthentic` (receipt.invalid)."""
        if size > self.checkpoint.size or not 0 <= index < size:
            raise NotAuthentic("receipt.invalid", "the log does not reach as far")
        proof = merkle.inclusion_proof(index, size, self.nodes)
        merkle.verify_inclusion(leaf_hash, index, size, proof, root)
        return proof

    def _node(self, level: int, index: int) -> bytes:
        rest = level % _HEIGHT
        tile, place = divmod(index << rest, _WIDTH)
        hashes = self._tile(level // _HEIGHT, tile)
        below = [
            hashes[at : at + HASH_BYTES]
            for at in range(place * HASH_BYTES, (place + (1 << rest)) * HASH_BYTES, HASH_BYTES)
        ]
        return merkle.root(below)

    def _tile(self, level: int, index: int) -> bytes:
        if (level, index) not in self._tiles:
            width = min(_WIDTH, (self.checkpoint.size >> _HEIGHT * level) - index * _WIDTH)
            partial = "" if width == _WIDTH else f".p/{width}"
            found = self._get(f"/tile/{level}/{_encode(index)}{partial}", _WIDTH * HASH_BYTES)
            if len(found) != width * HASH_BYTES:
                raise NotAuthentic("log.corrupt", "a tile has another size than it must have")
            self._tiles[level, index] = found
        return self._tiles[level, index]

    def _get(self, path: str, cap: int) -> bytes:
        try:
            answer = self._client.get(path)
        except httpx.HTTPError as error:
            raise Refused("unavailable.broker", f"{path}: {type(error).__name__}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotAuthentic("log.corrupt", f"the log does not have {path}, which its checkpoint promises")
        if not answer.is_success or len(answer.content) > cap:
            raise Refused("unavailable.broker", f"{path}: status {answer.status_code}")
        return answer.content


def _encode(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups)
