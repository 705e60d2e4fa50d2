"""The hospital at its node: it gets decisions only.

What it does with them is the settlement's (`clients.hospital.settlement`).
"""

from __future__ import annotations

import logging

from clients.decision import DECISION
from clients.hospital import filing, late, offers
from clients.role import Draft, Noticed, Transaction
from clients.store import Store
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.receive import Opened

_log = logging.getLogger("zhifu.hospital")


class Hospital:
    """Takes what passed the eight checks, if it is a decision that can be read; what comes too late is freed."""

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        name = opened.manifest.schema.name
        if name != DECISION:
            raise Refused("policy.denied", f"a hospital has no use for a {name}")
        return late.free(opened, tx)

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        _log.info("exchange.ended", extra={"about": {"exchange": noticed.exchange, "state": noticed.state}})

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        _log.error("exchange.refused", extra={"about": {"exchange": noticed.exchange, "reason": noticed.reason}})

    def on_granted(self, signed: Envelope, grant: Grant, tx: Transaction) -> None:
        """Kept where it files what was offered: other grants are handed in at the desk."""
        if offers.claimed_by(tx.store, grant.request_hash) is not None:
            filing.keep(tx.store, signed, tx.now)

    def keeps_parcel(self, digest: bytes, tx: Transaction) -> str:
        """Nobody leaves a parcel here."""
        return ""

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        """A hospital is never a grant's recipient."""
        return "statute"

    def holds(self, opened: Opened, store: Store) -> str:
        """A settlement is over long before."""
        return ""
