"""A log read over HTTP as tiles (C2SP tlog-tiles), trusting its key alone: every hash is proved before it counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import httpx

from zhifu import checkpoint, merkle
from zhifu.checkpoint import MAX_NOTE, Checkpoint, VerifierKey
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.merkle import HASH_BYTES, Node
from zhifu.receipt import Head

TIMEOUT_S: Final = 20.0
ANSWER_S: Final = 60.0
"""Until an answer is whole, however steadily it comes."""
_WIDTH: Final = 256
_HEIGHT: Final = 8


class Mirror:
    """The log below one URL, as of the checkpoint that it showed first. Used once, then closed."""

    def __init__(self, url: str, log_key: VerifierKey) -> None:
        """Raises `Refused` (unavailable.broker), `Malformed`, `NotAuthentic` (log.signature)."""
        self._client = _client(url)
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
            with self._client.stream("GET", path) as answer:
                found = _read(answer, cap) if answer.is_success else b""
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Refused("unavailable.broker", f"{path}: {type(error).__name__}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotAuthentic("log.corrupt", f"the log does not have {path}, which its checkpoint promises")
        if not answer.is_success:
            raise Refused("unavailable.broker", f"{path}: status {answer.status_code}")
        return found


def _client(url: str) -> httpx.Client:
    try:
        return httpx.Client(
            base_url=url.rstrip("/"), timeout=TIMEOUT_S, trust_env=False, headers={"Accept-Encoding": "identity"}
        )
    except httpx.InvalidURL as error:
        raise Malformed("usage.argument", "the log's address is no URL") from error


def _read(answer: httpx.Response, cap: int) -> bytes:
    """The body, as it stands on the wire and no more than may be there. Raises `Refused` (unavailable.broker)."""
    if "content-encoding" in answer.headers:
        raise Refused("unavailable.broker", "an answer is packed, which was not asked for")
    found, end = b"", time.monotonic() + ANSWER_S
    for part in answer.iter_raw():
        found += part
        if len(found) > cap or time.monotonic() > end:
            raise Refused("unavailable.broker", "an answer has no end")
    return found


def _encode(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups)
