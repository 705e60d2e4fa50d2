"""The service promise: by when a claim of a patient is decided, and what being late costs (SETTLEMENT 3, Clocks).

A day is 24 hours, counted in seconds from when this node had the whole claim: no calendar and no time zone decides
whether a promise was kept. While documents are asked for and have not come, the clock stands still. It stops for good
when the decision is made. What is shown as a date is China Standard Time, and so is the ledger's day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from clients.decision import INPATIENT as INPATIENT
from clients.decision import OUTPATIENT as OUTPATIENT
from clients.insurer.product import Product
from clients.store import Job, Store
from zhifu import cbor
from zhifu.errors import Refused

DAY_S: Final = 86_400
_KIND: Final = "promise"


@dataclass(frozen=True, slots=True)
class Promise:
    """One claim's clock; times are Unix s, 0 while it has not happened.

    ``days`` are promised; ``rate`` is fen for each whole day that it is late. ``paused`` are the seconds that the clock
    stood still before ``waiting``, since when it stands still again.
    """

    filed: int
    days: int
    rate: int
    paused: int = 0
    waiting: int = 0
    stopped: int = 0

    def due(self, now: int) -> int:
        """Until when it is promised, as the clock stands at ``now``."""
        return self.filed + self.days * DAY_S + self.paused + (max(0, now - self.waiting) if self.waiting else 0)

    def pause(self, now: int) -> Promise:
        """Documents are asked for; asking for more changes nothing."""
        return self if self.waiting or self.stopped else replace(self, waiting=now)

    def resume(self, now: int) -> Promise:
        """They came."""
        if not self.waiting:
            return self
        return replace(self, paused=self.paused + max(0, now - self.waiting), waiting=0)

    def stop(self, now: int) -> Promise:
        """It was decided."""
        return self if self.stopped else replace(self.resume(now), stopped=now)

    def late_days(self, now: int) -> int:
        """Whole days beyond the promise, at ``now`` or when it was decided."""
        at = self.stopped or now
        return max(0, at - self.due(at)) // DAY_S

    def compensation(self, now: int) -> int:
        """For being late, fen (心意金): whole days x rate."""
        return self.late_days(now) * self.rate


def start(store: Store, claim: bytes, schema_name: str, product: Product, now: int) -> Promise:
    """The clock of a claim begins, unless it runs; in the open transaction."""
    found = find(store, claim)
    if found is None:
        days = product.promise.outpatient_days if schema_name == OUTPATIENT else product.promise.inpatient_days
        found = put(store, claim, Promise(now, days, product.promise.late_per_day), now)
    return found


def find(store: Store, claim: bytes) -> Promise | None:
    """The clock of a claim; None where none was promised: a settlement at the desk has none."""
    job = store.jobs.get(_KIND, claim)
    return None if job is None else Promise(*cbor.array(job.payload, 1024, 6))


def need(store: Store, claim: bytes) -> Promise:
    """Raises `Refused` (exchange.state)."""
    found = find(store, claim)
    if found is None:
        raise Refused("exchange.state", "nothing was promised about this claim: it is settled at the desk")
    return found


def put(store: Store, claim: bytes, one: Promise, now: int) -> Promise:
    """Durable with the transaction."""
    state = "stopped" if one.stopped else "waiting" if one.waiting else "running"
    fields = [one.filed, one.days, one.rate, one.paused, one.waiting, one.stopped]
    store.jobs.put(Job(_KIND, claim, state, cbor.encode(fields), now * 1000))
    return one
