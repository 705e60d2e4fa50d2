"""A patient's grant came back for what she was offered: her claim is filed, and driven like a settlement."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from clients.code_service import CodeService
from clients.hospital import coordination, offers
from clients.hospital.consented import Consented
from clients.hospital.driving import Driving
from clients.hospital.settlement import Settlements
from clients.store import Job, Store
from zhifu import consent, envelope
from zhifu.envelope import Envelope
from zhifu.errors import Error

LOOK_S: Final = 0.25
AGAIN_S: Final = 5.0
LAPSE_S: Final = 600.0
_KIND: Final = "granted"
_NEW: Final = "new"
_log = logging.getLogger("zhifu.hospital")


def keep(store: Store, signed: Envelope, now: int) -> None:
    """Keep a grant until its claim is filed; in the open transaction, since its notice does not come again."""
    digest = consent.hash_of(signed.payload)
    if store.jobs.get(_KIND, digest) is None:
        store.jobs.put(Job(_KIND, digest, _NEW, signed.to_bytes(), now * 1000))


class Filing:
    """Files what was granted: the attestations that go with a grant come from the broker, and are checked later."""

    def __init__(
        self,
        settlements: Settlements,
        driving: Driving,
        service: CodeService,
        store: Store,
        clock_ms: Callable[[], int],
    ) -> None:
        self._settlements = settlements
        self._driving = driving
        self._service = service
        self._store = store
        self._clock_ms = clock_ms

    async def run(self) -> None:
        """Until cancelled."""
        lapse_at = 0
        while True:
            pause = LOOK_S
            for job in self._store.jobs.find(_KIND, _NEW):
                pause = max(pause, await self._file(job))
            if self._clock_ms() >= lapse_at:
                offers.lapse(self._store, self._clock_ms())
                lapse_at = self._clock_ms() + int(LAPSE_S * 1000)
            await asyncio.sleep(pause)

    async def _file(self, job: Job) -> float:
        """File one; how long to wait before the next look (s)."""
        grant = consent.verify_grant(envelope.from_bytes(envelope.GRANT, job.payload))
        case_id = offers.claimed_by(self._store, grant.request_hash) or b""
        try:
            found = await self._service.grant(job.id)
            self._settlements.file(case_id, Consented(coordination.USUAL, found.signed, found.attestations))
        except Error as error:
            _log.warning("claim.not_filed", extra={"about": {"grant": job.id, "reason": error.reason}})
            if error.retryable:
                return AGAIN_S
            self._settlements.give_up(case_id, error)
            self._done(job, "refused")
            return LOOK_S
        self._done(job, "filed")
        self._driving.drive(case_id)
        return LOOK_S

    def _done(self, job: Job, state: str) -> None:
        with self._store.transaction():
            self._store.jobs.put(Job(_KIND, job.id, state, job.payload, self._clock_ms()))
