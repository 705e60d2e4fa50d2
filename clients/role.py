"""What a role plugs into a node: it sees records that passed every check, and answers with drafts.

A role is called inside the node's own transaction: what it stores, and the answer it gives, become durable
together with the acknowledgement, or not at all. It is synchronous, quick and repeatable: it may be called again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from clients.clock import Clock
from clients.directory import Directory
from clients.keystore import Keystore
from clients.outbox import KEEP_S, Outbox
from clients.retention import Retention
from clients.store import Mandate, Store
from zhifu import schema
from zhifu.cbor import Value
from zhifu.checkpoint import VerifierKey
from zhifu.consent import Grant
from zhifu.envelope import Envelope
from zhifu.presentation import Presentation
from zhifu.receive import Opened
from zhifu.tlogpolicy import Policy


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to be sealed and presented: ``values`` maps unit names to finest values."""

    schema: str
    values: Mapping[str, Value] = field(repr=False)
    mandate: Mandate
    keep_s: int = KEEP_S

    @staticmethod
    def answering(
        opened: Opened, schema_name: str, values: Mapping[str, Value], ceilings: bytes | None = None
    ) -> Draft:
        """The answer to a delivery, back to who sent it, about the same encounter; finest levels by default."""
        finest = schema.load(schema_name).finest
        mandate = Mandate.answering(opened.presentation, opened.hash, finest if ceilings is None else ceilings)
        return Draft(schema_name, {"encounter": opened.values["encounter"], **values}, mandate)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What became of an exchange of ours. ``exchange`` is the name that presenting it returned.

    ``state`` is delivered, expired or withdrawn, or refused with a ``reason``: by the recipient or else by the broker.
    """

    exchange: bytes
    state: str
    reason: str
    by_recipient: bool
    presentation: Presentation


@dataclass(frozen=True, slots=True)
class Transaction:
    """The open transaction, as a role sees it. ``now`` is Unix s."""

    store: Store
    outbox: Outbox
    now: int

    def queue(self, draft: Draft) -> bytes:
        """Seal and present a record within this transaction; the exchange's hash. Raises what `Outbox` raises."""
        record = self.outbox.seal(draft.schema, draft.values, keep_s=draft.keep_s)
        return self.outbox.present(record, draft.mandate)


class Role(Protocol):
    """What a participant does with what it gets.

    ``on_opened`` may raise `zhifu.errors.Error`: the delivery is then refused with that reason, signed, and nothing of
    the role's is kept; where the error is retryable it is not acknowledged and comes again.
    """

    def on_opened(self, opened: Opened, tx: Transaction) -> Draft | None:
        """A record passed the eight checks. The draft, if any, is sealed and queued in this very transaction."""
        ...

    def on_notice(self, noticed: Noticed, tx: Transaction) -> None:
        """An exchange of ours was delivered, or ended as expired or withdrawn."""
        ...

    def on_refused(self, noticed: Noticed, tx: Transaction) -> None:
        """An exchange of ours was refused for good."""
        ...

    def on_granted(self, signed: Envelope, grant: Grant, tx: Transaction) -> None:
        """A patient registered a grant that this participant may present; its entry in the log was proven."""
        ...

    def keeps_parcel(self, digest: bytes, tx: Transaction) -> str:
        """A patient took back what she left: why it is kept all the same, or empty where it was erased now."""
        ...

    def keeps(self, opened: Opened, tx: Transaction) -> str:
        """The grant of a record was revoked: why it is kept all the same, or empty where it is to be erased now."""
        ...

    def holds(self, opened: Opened, store: Store) -> str:
        """A unit's time by the policy is over and the grant's is not: why the record is kept whole, or empty."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the frames of a stream are handled with: what the node pinned, what it remembers, and its role."""

    origin: str
    log_key: VerifierKey
    policy_hashes: frozenset[bytes]
    keystore: Keystore
    store: Store
    directory: Directory
    outbox: Outbox
    role: Role
    clock_ms: Clock
    retention: Retention
    witnesses: Policy

    def now(self) -> int:
        """Unix s."""
        return self.clock_ms() // 1000

    def transaction(self) -> Transaction:
        """The open transaction, for the role."""
        return Transaction(self.store, self.outbox, self.now())
