"""A paid bill is an event: the patient's wallet is told that she may claim, and from whom (DESIGN section 5).

The notice is a record of her own, sealed to her wallet's key: the broker sees that this hospital has something for her,
never what. It carries the request that she answers with one tap; her grant comes back through the log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from nacl.signing import SigningKey

from clients import naming
from clients.hospital import afterwards, listing, record, request, wallets
from clients.hospital import case as cases
from clients.hospital.case import DIRECT, Case, Desk, QuickClaim
from clients.hospital.coordination import Compensation
from clients.hospital.openbill import AnyBill, head_of, split_of
from clients.hospital.request import Asked
from clients.hospital.wallets import Reach
from clients.outbox import Outbox
from clients.store import Job, Mandate, Store
from policies.bundle import Bundle
from zhifu import cbor, consent, schema, sealed
from zhifu.cbor import Value
from zhifu.errors import Error
from zhifu.presentation import OFFER

OFFERED_S: Final = 30 * 86_400
"""How long a patient may file what she was offered."""
_PLACE: Final = "quick-claim"
_REQUEST: Final = "offer"
_IN_VAIN: Final = ("lapsed", "failed", "cancelled", "reversed")
_log = logging.getLogger("zhifu.hospital")


class Offers:
    """One hospital's. ``me`` is its participant id, ``key`` its signing key, ``origin`` the log."""

    def __init__(
        self, store: Store, outbox: Outbox, bundle: Bundle, key: SigningKey, origin: str, me: bytes,
        clock_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._store = store
        self._outbox = outbox
        self._bundle = bundle
        self._key = key
        self._origin = origin
        self._me = me
        self._clock_ms = clock_ms

    def after(self, case: Case, bill: AnyBill, rows: tuple[tuple[str, str, int], ...]) -> list[Case]:
        """Offer what the patient may claim of a bill that she paid; ``rows`` are who paid what before her.

        One offer for each insurer that she has a key for and that was not part of ``case``: asked twice, it decides
        the same. In the open transaction. What cannot be told is logged, and never stops a settlement.
        """
        asked = {one.read_grant.recipient for one in case.policies} if case.state == "confirmed" else set()
        made = []
        for reach in wallets.of(self._store, bill):
            place = naming.name(self._store, _PLACE, case.encounter.hex(), reach.insurer.hex())
            if reach.insurer in asked or self._stands(place):
                continue
            try:
                with self._store.transaction():
                    made.append(self._offer(case, bill, reach, rows, place))
            except Error as error:
                _log.error("offer.failed", extra={"about": {"settlement": case.id, "reason": error.reason}})
        return made

    def _stands(self, place: bytes) -> bool:
        """Whether there is an offer of this bill for this insurer that was not in vain."""
        job = self._store.jobs.get(_PLACE, place)
        return job is not None and cases.get(self._store, job.payload).state not in (
            "lapsed",
            "failed",
            "cancelled",
            "reversed",
        )

    def _offer(
        self, case: Case, bill: AnyBill, reach: Reach, rows: tuple[tuple[str, str, int], ...], place: bytes
    ) -> Case:
        now_ms, before = self._clock_ms(), _before(case)
        cash = split_of(bill).total - before.total if bill.split else None
        asked = self._ask(bill, reach, cash, case.bill, now_ms // 1000)
        digest, until = consent.hash_of(asked.signed.payload), now_ms // 1000 + OFFERED_S
        quick = QuickClaim(reach.insurer, digest, until, case.id, before, rows)
        route = case.route if case.state == "confirmed" else DIRECT
        opened = Case(
            os.urandom(16), "offered", route, case.bill, case.encounter, case.record, (), b"", now_ms,
            Desk(order=case.desk.order, patient=True), quick=quick,
        )  # fmt: skip
        sealed_offer = self._outbox.seal(OFFER, _values(case, bill, before, cash, asked))
        mandate = Mandate.own_record(
            self._bundle.hash,
            (reach.subject_key, reach.wallet_key),
            schema.load(OFFER).finest,
            encounter=sealed.encounter_handle(case.encounter, reach.subject),
            until=until,
        )
        opened = opened.with_exchange("offer", self._outbox.present(sealed_offer, mandate))
        cases.put(self._store, opened, now_ms)
        listing.put(self._store, opened, head_of(bill))
        afterwards.remember(self._store, opened, now_ms)
        self._store.jobs.put(Job(_PLACE, place, "made", opened.id, now_ms))
        self._store.jobs.put(Job(_REQUEST, digest, "made", opened.id, now_ms))
        return opened

    def _ask(self, bill: AnyBill, reach: Reach, cash: int | None, file: bytes, now: int) -> Asked:
        return request.ask(
            self._store,
            self._bundle,
            self._key,
            origin=self._origin,
            sender=self._me,
            recipient=reach.insurer,
            subject_key=reach.subject_key,
            bill=bill,
            cap=cash,
            language="zh",
            now=now,
            stands_s=OFFERED_S,
            file=file,
        )


def claimed_by(store: Store, request_hash: bytes) -> bytes | None:
    """The quick claim that a grant for this request files; None where it is of another kind."""
    job = store.jobs.get(_REQUEST, request_hash)
    return job.payload if job is not None else None


def lapse(store: Store, now_ms: int) -> int:
    """End the offers that nobody took in time; how many."""
    over = [one for one in cases.offered(store) if one.quick is not None and one.quick.until * 1000 < now_ms]
    with store.transaction():
        for one in over:
            cases.put(store, cases.lapsed(one, now_ms), now_ms)
    return len(over)


def _before(case: Case) -> Compensation:
    """What others paid of a bill: nothing, where its settlement came to nothing."""
    if case.state != "confirmed":
        return Compensation()
    sums = case.amounts
    return Compensation(sums["public"], sums.get("in_catalog", 0), sums.get("out_of_catalog", 0))


def _values(case: Case, bill: AnyBill, before: Compensation, cash: int | None, asked: Asked) -> dict[str, Value]:
    head = head_of(bill)
    name = record.schema_of(bill).name
    values = asked.preview[name]
    paid = {"public": before.public, "commercial": before.in_catalog + before.out_of_catalog, "patient": cash or 0}
    return {
        "encounter": case.encounter,
        "hospital": record.hospital(bill),
        "stay": [day.isoformat() if day else None for day in (head.begndate, head.enddate)],
        "totals": record.totals(bill.split) if bill.split else None,
        "paid": [[token, fen] for token, fen in paid.items() if fen] or None,
        "request": asked.signed.to_bytes(),
        "preview": cbor.encode([name, [[unit, value] for unit, value in values.items()]]),
    }
