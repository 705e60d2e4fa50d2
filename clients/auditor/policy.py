"""The policy named by an entry: pinned, and where the auditor has its files, asked again (DESIGN 4.3)."""

from __future__ import annotations

from collections.abc import Collection

from policies.bundle import Bundle, Deny, Request
from policies.decide import release
from zhifu.errors import NotAuthentic, Refused
from zhifu.schema import Schema


class Policies:
    """``pinned`` hashes (none: any is accepted), and bundles whose answers can be recomputed."""

    def __init__(self, pinned: Collection[bytes], bundles: Collection[Bundle]) -> None:
        self._pinned = pinned
        self._bundles = {bundle.hash: bundle for bundle in bundles}

    def check_known(self, policy_hash: bytes) -> None:
        """Raises `NotAuthentic` (policy.invalid)."""
        if len(policy_hash) != 32 or (self._pinned and policy_hash not in self._pinned):
            raise NotAuthentic("policy.invalid", "the entry names a policy that is not pinned")

    def check_released(
        self, policy_hash: bytes, request: Request, schema: Schema, ceilings: bytes, released: bytes
    ) -> None:
        """The policy gives just these levels. A policy whose files are not here is not asked. Raises `Refused`."""
        bundle = self._bundles.get(policy_hash)
        if bundle is None:
            return
        answer = release(bundle, request, schema, ceilings)
        if isinstance(answer, Deny):
            raise Refused(answer.reason, "the exchange was accepted though its policy does not permit it")
        if answer.levels != released:
            raise Refused("policy.denied", "the levels released are not those that policy and ceilings give")
