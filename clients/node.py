"""A node: dials out, stays attached, and survives the broker's and its own restarts (DESIGN sections 6 and 9).

Role code asks it to seal and submit, and awaits results and answers; whatever was queued is in the store, so that
awaiting can be taken up again by another process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from clients import channel, config, deletion, durable, parcel_jobs, rotation, trimming
from clients.clock import Clock
from clients.config import NodeConfig
from clients.counts import COUNTS
from clients.directory import Directory
from clients.keystore import Keystore
from clients.live_keys import LiveKeystore
from clients.locking import alone
from clients.outbox import Outbox
from clients.renewal import Renewal
from clients.retention import Retention
from clients.role import Draft, Parts, Role, Transaction
from clients.session import Session
from clients.steady import steady
from clients.store import Mandate, Sent, Store
from policies import load
from zhifu import envelope, statement
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.receive import Opened
from zhifu.statement import PolicyStatement
from zhifu.v1 import signed_pb2

T = TypeVar("T")
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
TIMEOUT_S: Final = 30.0
HOUSEKEEPING_S: Final = 600.0
_MAX_STATEMENT: Final = 4096
_MAY_PASS: Final = ("internal", "participant.suspended", "participant.certificate")
"""A mistake inside the broker is mended, a suspension lifted, a certificate renewed."""
_log = logging.getLogger("zhifu.node")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The broker's result: ``released`` is one byte a unit, 0xff absent; ``exchange`` the name that was awaited."""

    exchange: bytes
    released: bytes


class Node:
    """One participant's connection to the broker. Used on one event loop; its methods do not block but for the disk."""

    def __init__(
        self,
        settings: NodeConfig,
        keystore: Keystore,
        store: Store,
        role: Role,
        policy_hashes: frozenset[bytes],
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.config = settings
        self.store = store
        self.clock_ms = Clock(clock_ms)
        self.directory = Directory(settings.pins, keystore, store)
        self.outbox = Outbox(store, keystore, self.directory, settings.origin, self.clock_ms)
        self.keystore = keystore
        self._parts = Parts(
            settings.origin,
            settings.log_key,
            policy_hashes,
            keystore,
            store,
            self.directory,
            self.outbox,
            role,
            self.clock_ms,
            Retention(load.load(settings.policies), settings.role),
            settings.witnesses,
        )
        self._renewal = Renewal(settings, keystore, self.clock_ms)
        self._session: Session | None = None
        self._stopping = asyncio.Event()
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._open = asyncio.Event()
        self._is_alone = False
        self.failure: Error | None = None
        """What `run` ended with, where no retry could mend it."""
        store.on_commit(self._committed)

    @staticmethod
    def open(directory: Path, role: Role) -> Node:
        """The node of a folder; its policy bundle must be in force by the word of the pinned registrar.

        Raises `Malformed` (usage.file, policy.invalid), `NotAuthentic` (policy.invalid, key.*, signature.invalid),
        `Refused` (usage.file, unavailable.store).
        """
        settings = config.load(directory)
        rotation.settle(settings.keys, settings.certificate)
        keystore = LiveKeystore(settings.keys)
        in_force = policy_in_force(settings, int(time.time()))
        # Statute is a basis towards the public payer only; anyone else asks for the patient's grant.
        hashes = frozenset([in_force] if settings.role == "public-payer" else [])
        return Node(settings, keystore, Store(settings.database, keystore), role, hashes)

    @property
    def participant(self) -> bytes:
        return self.directory.participant

    async def attached(self, timeout_s: float = TIMEOUT_S) -> None:
        """Await a stream on which exchanges flow. Raises `Refused` (unavailable.broker), or what `run` ended with."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._open.wait()
        except TimeoutError as error:
            raise Refused("unavailable.broker") from error
        if self.failure is not None:
            raise self.failure

    @property
    def is_attached(self) -> bool:
        """Whether exchanges flow now."""
        return self._open.is_set() and self.failure is None

    def close(self) -> None:
        """Close the store, after `run` ended."""
        self.store.close()

    # For roles

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Store and queue in one: durable when the block ends, sent after that. Never await inside."""
        with self.store.transaction():
            yield self._parts.transaction()

    async def submit(self, record: bytes, mandate: Mandate, timeout_s: float = TIMEOUT_S) -> Accepted:
        """Present a sealed record and await the broker's result. Raises as `Outbox.present` and `result_of` do."""
        return await self.result_of(self.outbox.present(record, mandate), timeout_s)

    async def send(self, draft: Draft, timeout_s: float = TIMEOUT_S) -> Accepted:
        """Seal and present in one transaction, and await the broker's result."""
        with self.transaction() as tx:
            exchange = tx.queue(draft)
        return await self.result_of(exchange, timeout_s)

    async def result_of(self, exchange: bytes, timeout_s: float = TIMEOUT_S) -> Accepted:
        """Await the result of an exchange, also one that another process presented.

        Raises `Refused` with the broker's reason; unavailable.deadline where there is none yet (it stays queued);
        exchange.unknown. After an alarm, `NotAuthentic` or `Malformed` with the alarm's reason.
        """
        return await self._until(exchange, lambda: self._result(exchange), timeout_s)

    async def answer_to(
        self, exchange: bytes, timeout_s: float = TIMEOUT_S, after: int = 0, *, beside: bytes | None = None
    ) -> Opened:
        """Await the first answer to an exchange, or where a payer decides later the one with ``after`` before it.

        ``beside`` is an exchange that it goes with: where that one ended, no answer will come. Raises as `result_of`,
        and `Refused` with the recipient's reason.
        """
        return await self._until(exchange, lambda: self._answer(exchange, after, beside), timeout_s, beside)

    def _result(self, exchange: bytes) -> Accepted | None:
        released = self.store.outgoing.released(exchange)
        if released is None:
            _raise_if_ended(self._latest(exchange))
        return None if released is None else Accepted(exchange, released)

    def _answer(self, exchange: bytes, after: int, beside: bytes | None) -> Opened | None:
        found = self.store.incoming.answers(exchange)
        if not found:
            for one in (exchange, beside):
                if one is not None:
                    _raise_if_ended(self._latest(one))
        return found[after] if len(found) > after else None

    def _latest(self, exchange: bytes) -> Sent:
        found = self.store.outgoing.latest(exchange)
        if found is None:
            raise Refused("exchange.unknown")
        return found

    async def _until(
        self, exchange: bytes, look: Callable[[], T | None], timeout_s: float, beside: bytes | None = None
    ) -> T:
        """What ``look`` finds, asked again after every commit that touched one of the exchanges."""
        keys = {self._latest(one).first for one in (exchange, beside) if one is not None}
        event = asyncio.Event()
        for key in keys:
            self._waiting.setdefault(key, set()).add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while (found := look()) is None:
                    if self.failure is not None:
                        raise self.failure
                    event.clear()
                    await event.wait()
                return found
        except TimeoutError as error:
            raise Refused("unavailable.deadline") from error
        finally:
            for key in keys:
                self._forget(key, event)

    def _forget(self, key: bytes, event: asyncio.Event) -> None:
        self._waiting[key].discard(event)
        if not self._waiting[key]:
            del self._waiting[key]

    def _committed(self, touched: frozenset[bytes]) -> None:
        for exchange in touched & self._waiting.keys():
            for event in self._waiting[exchange]:
                event.set()
        if self._session is not None:
            self._session.wake()

    # Running

    def stop(self) -> None:
        """End `run` once what was opened is acknowledged; what waits is sent by the next process."""
        self._stopping.set()
        if self._session is not None:
            self._session.stop()

    async def run(self) -> None:
        """Stay attached until `stop`: connect, serve the stream, connect again with jittered back-off.

        Raises what no retry can mend: `NotAuthentic` or `Malformed` where the broker lied (the evidence is kept),
        `Refused` (unavailable.clock, participant.*, usage.argument where another process runs this node).
        """
        with self.alone():
            kept = (self._keep_house, "housekeeping"), (self._renewal.run, "renewal")
            keepers = [asyncio.create_task(steady(run, name)) for run, name in kept]
            try:
                await self._stay_attached()
            except Error as error:
                self._fail(error)
                raise
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What serves beside `run` begins within this, which `run` then finds held. Raises as `alone` does."""
        if self._is_alone:
            yield
            return
        with alone(self.config.directory):
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    async def _stay_attached(self) -> None:
        pause, attempt = FIRST_PAUSE_S, 0
        while not self._stopping.is_set():
            was_open = await self._attach(attempt)
            # Where there are several brokers, the next one: this one is gone, draining, or did not answer.
            attempt += 1
            pause = FIRST_PAUSE_S if was_open else min(2 * pause, LONGEST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await self._stopping.wait()

    async def _attach(self, attempt: int) -> bool:
        """One stream; whether exchanges flowed on it. Raises what no retry can mend."""
        self._session = Session(self._parts, self._open.set)
        try:
            async with channel.node_channel(self.config, self.keystore, attempt) as opened:
                await self._session.run(opened)
        except Error as error:
            if _is_final(error):
                raise
            COUNTS.streams_lost[error.reason] += 1
            _log.warning("stream.lost", extra={"about": {"reason": error.reason}})
        finally:
            was_open, self._session = self._open.is_set(), None
            COUNTS.streams += was_open
            self._open.clear()
        return was_open

    def _fail(self, error: Error) -> None:
        self.failure = error
        self._open.set()
        _log.critical("node.stopped", extra={"about": {"reason": error.reason}})
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def _keep_house(self) -> None:
        # A wrong clock erases what is to be kept, so the broker's is compared first; and it may be set at any time.
        await self._open.wait()
        while True:
            try:
                await self.keep_house()
            except Refused as error:
                _log.error("erasing.postponed", extra={"about": {"reason": error.reason}})
            await asyncio.sleep(HOUSEKEEPING_S)

    async def keep_house(self) -> None:
        """Erase what is over, once: whole, and by unit. Raises `Refused` (unavailable.store, unavailable.clock)."""
        self.clock_ms.check()
        erased = self.store.erase_overdue(self._parts.now())
        erased += deletion.resume(self._parts)
        erased += parcel_jobs.lapse(self.config.directory, self.store, self.clock_ms())
        while looked := trimming.sweep(self._parts):
            erased += looked
            await asyncio.sleep(0)
        gone = self.store.leave_no_trace()
        _log.info("erased", extra={"about": {"count": erased, "log_emptied": gone}})


def policy_in_force(settings: NodeConfig, now: int) -> bytes:
    """The hash of the node's own policy bundle, 32 bytes. Raises as `policy_statement`."""
    return policy_statement(settings, now).policy_hash


def policy_statement(settings: NodeConfig, now: int) -> PolicyStatement:
    """The pinned registrar's word that the node's own policy bundle is in force. ``now`` is Unix s.

    Raises `Refused` (policy.invalid, unavailable.clock), `NotAuthentic` (policy.invalid, key.*, signature.*),
    `Malformed` (usage.file).
    """
    if settings.registrar is None:
        raise Malformed("usage.file", f"{config.FILE} pins no registrar")
    found = load.load(settings.policies).hash
    signed = envelope.from_bytes(envelope.POLICY, durable.read(settings.policy_statement, _MAX_STATEMENT))
    try:
        return statement.verify_policy(signed, settings.registrar, found, now)
    except NotAuthentic as error:
        # Its signature holds. What was signed later than now has not expired: then this is not the time.
        ahead = signed_pb2.PolicyStatement.FromString(signed.payload).issued_at - now
        if error.reason == "key.expired" and ahead > 0:
            raise Refused("unavailable.clock", f"this clock is at least {ahead} s behind the registrar's") from error
        raise


async def serve(node: Node) -> None:
    """`Node.run` until SIGTERM or SIGINT. Raises as `Node.run` does."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    try:
        await node.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_process(main: Coroutine[Any, Any, T]) -> T:
    """Run a process's coroutine to its end, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _raise_if_ended(latest: Sent) -> None:
    if latest.reason == "log.fork":
        raise NotAuthentic(latest.reason)
    if latest.is_final:
        raise Refused(latest.reason)


def _is_final(error: Error) -> bool:
    """Whether connecting again cannot help."""
    return error.reason == "unavailable.clock" or not (error.retryable or error.reason in _MAY_PASS)
