"""How long what came is kept: unit by unit, by the policy in force and the patient's grant, whichever is shorter.

The days of each unit are written down when a record arrives. A policy that shortens them later applies to what is
there; one that lengthens them does not: the patient agreed under the shorter time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clients.outbox import KEEP_S
from clients.store.incoming import GONE, UNBOUND, Batch
from policies.bundle import Bundle
from policies.decide import days
from zhifu import schema
from zhifu.receive import Opened

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Retention:
    """The policy in force, as it speaks to the participant with this role."""

    bundle: Bundle
    role: str

    def periods(self, opened: Opened) -> tuple[int, ...]:
        """Days for each unit in schema order; `UNBOUND` where only the grant bounds it, `GONE` where nothing came."""
        purpose = opened.presentation.purpose
        return tuple(
            self._days(purpose, unit.name) if unit.name in opened.values else GONE
            for unit in opened.manifest.schema.units
        )

    def erase_at(self, opened: Opened, now: int) -> int:
        """When nothing of it is kept any longer, Unix s: the grant's time, or without one the longest of the policy."""
        if opened.grant is not None:
            return opened.grant.data_erase_at
        bound = [one for one in self.periods(opened) if one not in (GONE, UNBOUND)]
        return now + (max(bound) * DAY_S if bound else KEEP_S)

    def now_in_force(self, batch: Batch) -> tuple[int, ...]:
        """The days of a batch, shortened where the policy that is in force now is shorter."""
        units = schema.by_hash(batch.schema).units
        return tuple(
            GONE if kept == GONE else min(kept, self._days(batch.purpose, unit.name))
            for unit, kept in zip(units, batch.periods, strict=True)
        )

    def _days(self, purpose: str, unit: str) -> int:
        found = days(self.bundle, purpose, self.role, unit)
        return UNBOUND if found is None else found
