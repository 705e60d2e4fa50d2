"""The public payer at its node: a claim is answered with a split, a notice with what became of it, a question with
what is left of the year.
"""

from __future__ import annotations

import logging
from typing import Final

from clients.decision import CLAIMS, DECISION, ELIGIBILITY, NOTICE, OUTPATIENT, Decision
from clients.ledger import Ledger
from clients.public_payer import eligibility, visit
from clients.public_payer.decision import decide
from clients.public_payer.personal import follow_notice
from clients.public_payer.rules import Table
from clients.role import Draft, Noticed, Transaction
from clients.store import Store
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.errors import Refused
from zhifu.receive import Opened

_PURPOSE: Final = "public-settlement"
_log = logging.getLogger("zhifu.public_payer")


class PublicPayer:
    """Settles by one city's table (SETTLEMENT 2)."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        name = opened.manifest.schema.name
        if opened.presentation.purpose != _PURPOSE:
            raise Refused("policy.denied", "a public payer takes part in the public settlement only")
        if name in CLAIMS:
            found = visit.once(opened, tx, lambda: self._split(opened, tx))
        elif name == ELIGIBILITY:
            found = eligibility.answer(opened.values, self._table, Ledger(tx.store), opened.hash, tx.now)
        elif name == NOTICE:
            found = follow_notice(opened, tx, account_inside=self._table.account_in_fund_total)
        else:
            raise Refused("policy.denied", f"a public payer has no use for a {name}")
        return Draft.answering(opened, DECISION, found.values(opened.values["encounter"]))

    def _split(self, opened: Opened, tx: Transaction) -> Decision:
        outpatient = opened.manifest.schema.name == OUTPATIENT
        return decide(opened.values, self._table, Ledger(tx.store), opened.hash, tx.now, outpatient=outpatient)

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        _log.info("answer.delivered", extra={"about": {"exchange": noticed.exchange, "state": noticed.state}})

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        _log.error("answer.refused", extra={"about": {"exchange": noticed.exchange, "reason": noticed.reason}})

    def on_granted(self, signed: Envelope, grant: Grant, tx: Transaction) -> None:
        """The public payer presents nothing."""

    def keeps_parcel(self, digest: bytes, tx: Transaction) -> str:
        """Nobody leaves a parcel here."""
        return ""

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        """Settles by statute, which no revocation ends."""
        return "statute"

    def holds(self, opened: Opened, store: Store) -> str:
        """The policy's time is the statute's: nothing holds it up."""
        return ""
