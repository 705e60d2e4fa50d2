"""The gate: decides with its half of every key how much can be opened, and can open nothing itself (DESIGN 4.3).

At rest there are epoch secrets sealed to the gate key only; the gate key lives outside the database and its backups.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from broker.stages import Consented, Gated, Submission
from broker.store import tables
from broker.store.interface import Reader
from zhifu import epoch, sealed
from zhifu.epoch import EpochOffer
from zhifu.errors import Refused
from zhifu.keys import KemPrivate, KemPublic
from zhifu.leaf import Mac
from zhifu.manifest import Manifest
from zhifu.presentation import MAX_LIFETIME_S, Presentation

_CACHED: Final = 4096
SKEW_S: Final = 300


class Gate:
    """Holds the gate keys in memory, and the epoch secrets it unwrapped."""

    def __init__(self, keys: Mapping[bytes, KemPrivate]) -> None:
        self._keys = keys
        self._epochs: OrderedDict[tuple[bytes, bytes], tuple[Mac, int, int]] = OrderedDict()

    @property
    def public_keys(self) -> list[KemPublic]:
        """What nodes seal their epochs to."""
        return [key.public for key in self._keys.values()]

    def check(self, one: Submission, state: Reader, now: int) -> None:
        """The sender's epoch gives the gate root that it signed.

        Raises `Refused` (gate.epoch), `NotAuthentic` (gate.*).
        """
        root = self._root(one.presentation, one.manifest.rid, state, now)
        sealed.check_gate_root(one.presentation.gate_commitment, one.manifest.rid, root)

    def gone(self, state: Reader, now: int) -> frozenset[bytes]:
        """Epochs whose records may still be queued and whose gate key is not here any more: it was lost."""
        rows = state.scan(tables.Epoch)
        return frozenset(r.id for r in rows if r.gate_key_id not in self._keys and now <= r.not_after + MAX_LIFETIME_S)

    @staticmethod
    def release(one: Consented, released: bytes, policy_hash: bytes) -> Gated:
        """Drop every leaf that is not released and check the digests of the rest.

        Raises `Malformed`, `NotAuthentic`.
        """
        kept = sealed.gate(one.submission.manifest, one.submission.leaves, released)
        return Gated(one, released, kept, policy_hash)

    def shares(self, shown: Presentation, manifest: Manifest, released: bytes, state: Reader) -> bytes:
        """The broker's shares of the released leaves, 32 bytes each in schema order: derived only to be written out."""
        root = self._root(shown, manifest.rid, state, None)
        return sealed.released_shares(root, manifest.schema, released)

    def _root(self, shown: Presentation, rid: bytes, state: Reader, now: int | None) -> bytes:
        mac, begin, end = self._epoch(shown.sender, shown.epoch_id, state)
        if now is not None and not begin - SKEW_S <= now <= end:
            raise Refused("gate.epoch", "the epoch is over")
        return sealed.gate_root(mac, rid, shown.recipient, shown.nonce)

    def _epoch(self, node: bytes, epoch_id: bytes, state: Reader) -> tuple[Mac, int, int]:
        """What an epoch's roots are made with, from and until when (Unix s)."""
        found = self._epochs.get((node, epoch_id))
        if found is None:
            row = state.get(tables.Epoch, epoch_id)
            key = None if row is None else self._keys.get(row.gate_key_id)
            if row is None or key is None or row.node != node:
                raise Refused("gate.epoch")
            offer = EpochOffer(row.node, row.id, row.gate_key_id, row.not_before, row.not_after, row.sealed_secret)
            found = (Mac(epoch.unwrap(offer, key)), row.not_before, row.not_after)
            self._epochs[node, epoch_id] = found
            if len(self._epochs) > _CACHED:
                self._epochs.popitem(last=False)
        return found
