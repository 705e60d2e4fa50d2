"""The pseudonym service as a node sees it: keys that everybody is shown, evaluations with a proof (DESIGN 4.5).

The service's statement must be signed by its pinned identity, stand in its log, and never name another key for the
same recipient and epoch. So it cannot answer one hospital, or one patient, under a key of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from clients import channel, durable, wire
from clients.config import NodeConfig
from clients.keystore import Keystore
from clients.store import Job, Store
from zhifu import cbor, merkle, pseudonym, receipt, strict_json
from zhifu.checkpoint import VerifierKey
from zhifu.envelope import KEY_STATEMENT, Envelope
from zhifu.errors import Error, Malformed, NotAuthentic, Refused
from zhifu.fields import Fields, text
from zhifu.keys import participant_id
from zhifu.receipt import Head
from zhifu.statement import KeyStatement, verify_key_statement
from zhifu.v1 import pseudonym_pb2, pseudonym_pb2_grpc
from zhifu.voprf import Evaluated

CALL_S: Final = 20.0
REFRESH_S: Final = 60.0
RETRY_S: Final = 2.0
_HEAD: Final = "pseudonym-log"
_SILENT: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_MAX_CONTACT: Final = 65_536
_log = logging.getLogger("zhifu.pseudonym")


@dataclass(frozen=True, slots=True)
class Contact:
    """Where the service is and what is pinned of it. ``is_broker``: its log is the one that the node follows."""

    address: str
    log_key: VerifierKey
    authority: bytes
    is_broker: bool

    @property
    def identity(self) -> bytes:
        """The service's participant id: the identity key that signs its statements is its log's key."""
        return participant_id(self.log_key.public_key)


def contact(settings: NodeConfig) -> Contact:
    """The broker's own service, or the one that the operator of this node chose. Raises `Malformed` (usage.file)."""
    if settings.pseudonym_service is None:
        authority = durable.read(settings.authority, _MAX_CONTACT)
        return Contact(settings.node_address, settings.log_key, authority, True)
    document = strict_json.loads(durable.read(settings.pseudonym_service, _MAX_CONTACT), _MAX_CONTACT, "usage.file")
    if not isinstance(document, dict):
        raise Malformed("usage.file", f"{settings.pseudonym_service.name} is not a pseudonym service's contact")
    fields = Fields(document, "", "usage.file")
    key = VerifierKey.parse(fields.need(text(512), "log_key"))
    return Contact(
        fields.need(text(255), "address"), key, fields.need(text(_MAX_CONTACT), "ca").encode() + b"\n", False
    )


class PseudonymService:
    """One connection to the service, dialled when it is first needed. Used on one event loop."""

    def __init__(
        self,
        settings: NodeConfig,
        keystore: Keystore,
        store: Store,
        statement: Callable[[], Envelope],
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``statement`` gives our own key statement, which a service that is not the broker asks for."""
        self._contact = contact(settings)
        self._settings = settings
        self._keystore = keystore
        self._store = store
        self._statement = statement
        self._clock_ms = clock_ms
        self._channel: grpc.aio.Channel | None = None
        self._certificate = b""
        self._dialling = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> PseudonymService:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    # Keys

    async def keys(self, recipient: bytes) -> dict[int, bytes]:
        """The public keys that are announced for a recipient, by epoch; asked for where none is known.

        Raises `Refused` (pseudonym.epoch, unavailable.*), and as `refresh`.
        """
        found = self._store.pseudonyms.listed(recipient)
        if not found:
            await self.refresh()
            found = self._store.pseudonyms.listed(recipient)
        if not found:
            raise Refused("pseudonym.epoch", "the service has no key for this recipient")
        return found

    async def refresh(self) -> KeyStatement:
        """Fetch the service's statement, check it, and remember its keys; durable on return.

        Raises `NotAuthentic` (key.*, signature.invalid, log.*, receipt.invalid, pseudonym.key), `Malformed`: the
        answer is kept as evidence then; `Refused` (unavailable.*).

        Two may ask at once, here or in a command beside the node. An answer that was overtaken by another is no lie,
        and proves nothing from where the other left off: it is asked for again.
        """
        while True:
            before, head = self._left_off(), self._head()
            asked = pseudonym_pb2.FetchKeysRequest(
                head_size=head.size, head_root=head.root if head.size else b"", key_statement=self._shown()
            )
            answer = await self._call("FetchKeys", asked)
            if self._left_off() == before:
                break
        try:
            return self._take(answer, head)
        except (Malformed, NotAuthentic) as error:
            with self._store.transaction():
                at = self._clock_ms()
                self._store.receipts.keep_evidence(at, error.reason, head, answer.SerializeToString())
            raise

    def _take(self, answer: pseudonym_pb2.FetchKeysResponse, head: Head) -> KeyStatement:
        signed = wire.signed(KEY_STATEMENT, answer.key_statement)
        found = verify_key_statement(signed, self._contact.identity, self._clock_ms() // 1000)
        proven = wire.prove(answer.proof, head, self._contact.log_key)
        leaf = receipt.statement_leaf(proven.leaves.begin, answer.time_ms, signed.to_bytes())
        if tuple(proven.leaves.leaves) != (merkle.leaf_hash(leaf),):
            raise NotAuthentic("receipt.invalid", "the statement is not the entry that is proven")
        if found.serial < self._store.trust.cursor(self._cursor):
            raise NotAuthentic("key.rollback")
        with self._store.transaction():
            self._store.pseudonyms.announce(found.pseudonym_keys)
            self._store.trust.move_cursor(self._cursor, found.serial)
            self._move_head(proven.head_after(head))
        return found

    @property
    def _cursor(self) -> str:
        return f"pseudonym {self._contact.identity.hex()}"

    def _left_off(self) -> tuple[int, Head]:
        """The serial that was taken last, and the head where only this moves it."""
        return self._store.trust.cursor(self._cursor), Head() if self._contact.is_broker else self._head()

    def _head(self) -> Head:
        """The last head of the service's log. The broker's is the stream's to move: its proofs start there."""
        if self._contact.is_broker:
            return self._store.trust.head()
        job = self._store.jobs.get(_HEAD, self._contact.identity)
        return Head(*cbor.array(job.payload, 64, 2)) if job is not None else Head()

    def _move_head(self, head: Head) -> None:
        if not self._contact.is_broker:
            payload = cbor.encode([head.size, head.root])
            self._store.jobs.put(Job(_HEAD, self._contact.identity, "verified", payload, self._clock_ms()))

    async def keep_fresh(self) -> None:
        """Refresh now and every minute, for as long as the node runs: a rotation is known before it matters."""
        while True:
            try:
                await self.refresh()
                pause = REFRESH_S
            except Error as error:
                level = logging.WARNING if error.retryable else logging.CRITICAL
                _log.log(level, "keys.refused", extra={"about": {"reason": error.reason}})
                pause = RETRY_S if error.retryable else REFRESH_S
            await asyncio.sleep(pause)

    # Evaluations

    async def evaluate(self, recipient: bytes, epoch: int, identifiers: Sequence[bytes]) -> list[bytes]:
        """The pseudonyms of 1 to 256 persons (`zhifu.pseudonym.identifier`) for a recipient, in order.

        Raises `Refused` (pseudonym.*, policy.denied, unavailable.*), `NotAuthentic` (pseudonym.proof), `Malformed`.
        """
        public = (await self.keys(recipient)).get(epoch)
        if public is None:
            raise Refused("pseudonym.epoch")
        blinded = pseudonym.blind(identifiers)
        asked = pseudonym_pb2.EvaluateRequest(
            recipient=recipient, epoch=epoch, blinded=[one.element for one in blinded], key_statement=self._shown()
        )
        answer = await self._call("Evaluate", asked)
        return pseudonym.finish(blinded, Evaluated(tuple(answer.evaluated), answer.proof), public)

    async def raise_quota(self, signed: Sequence[Envelope]) -> tuple[int, int]:
        """Hand in a quota that two operators signed: (allowed, used) under its epoch.

        Raises `Refused` (pseudonym.quota, unavailable.*), `NotAuthentic`.
        """
        asked = pseudonym_pb2.RaiseQuotaRequest(quota=[one.to_proto() for one in signed], key_statement=self._shown())
        answer = await self._call("RaiseQuota", asked)
        return answer.allowed, answer.used

    def _shown(self) -> Any:
        return None if self._contact.is_broker else self._statement().to_proto()

    async def _dialled(self) -> grpc.aio.Channel:
        """The connection; another one where the certificate was renewed, and calls on the one before it end there.

        Of several brokers the one that is alive: a connection that was lost would be waited for.
        """
        async with self._dialling:
            certificate = durable.read(self._settings.certificate, _MAX_CONTACT)
            addresses = self._contact.address.split(",")
            lost = self._channel is not None and len(addresses) > 1 and not channel.is_open(self._channel)
            if self._channel is None or lost or certificate != self._certificate:
                self._leave()
                allowed = channel.mutual(self._contact.authority, self._keystore, certificate)
                self._channel = await channel.dial(addresses, allowed)
                self._certificate = certificate
            return self._channel

    def _leave(self) -> None:
        """The next call dials anew; those that are under way end on the connection that they have."""
        if self._channel is not None:
            ending = asyncio.create_task(self._channel.close(CALL_S))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._channel = None

    async def _call(self, method: str, asked: Any) -> Any:
        dialled = await self._dialled()
        try:
            return await getattr(pseudonym_pb2_grpc.PseudonymServiceStub(dialled), method)(asked, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if dialled is self._channel and error.code() in _SILENT:
                # Another broker may answer.
                self._leave()
            raise channel.refusal(error) from error
