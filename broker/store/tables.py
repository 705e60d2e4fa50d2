"""What the broker keeps.

Column types are the contract for every store; comments say what a thief of the file learns. Whoever changes a table
adds a migration (`broker/store/migrations/versions`) and its version (`broker.store.versions`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import configure_mappers
from sqlmodel import Field, Index, SQLModel

NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits in every store; SQLite numbers rows by themselves only for a key that is called INTEGER."""


class Participant(SQLModel, table=True):
    """Who is enrolled, under which legal name."""

    id: bytes = Field(primary_key=True)
    role: str
    name: str
    status: str = "active"
    enrolled_ms: int
    # Of an auditor: the participant whose exchanges it may see; empty: all.
    scope: bytes = b""


class Standing(SQLModel, table=True):
    """Of each participant that was ever suspended, an operator's last word on it, as signed; and when (Unix ms)."""

    participant: bytes = Field(primary_key=True)
    envelope: bytes
    issued_ms: int


class Spki(SQLModel, table=True):
    """Which participant a TLS key belongs to."""

    hash: bytes = Field(primary_key=True)
    participant: bytes


class Statement(SQLModel, table=True):
    """The latest key statement of each participant, as signed."""

    participant: bytes = Field(primary_key=True)
    serial: int
    envelope: bytes


class Signer(SQLModel, table=True):
    """Of each key that a participant ever signed with, its last statement of it, as signed: for who reads it later."""

    key_id: bytes = Field(primary_key=True)
    # Of each who states it: whoever states somebody else's key takes nothing from its owner.
    participant: bytes = Field(primary_key=True)
    envelope: bytes


class Invite(SQLModel, table=True):
    """One-time invites: only a hash of the code is here."""

    code_hash: bytes = Field(primary_key=True)
    role: str
    name: str
    expires_ms: int
    used_by: bytes = b""
    scope: bytes = b""


class Epoch(SQLModel, table=True):
    """Offered epoch secrets, sealed to a gate key that is never in this database."""

    id: bytes = Field(primary_key=True)
    node: bytes
    gate_key_id: bytes
    not_before: int
    not_after: int
    sealed_secret: bytes


class Subject(SQLModel, table=True):
    """Enrolled subject keys: one for each (hospital, recipient) pair of a patient."""

    id: bytes = Field(primary_key=True)
    key_id: bytes = Field(index=True, unique=True)
    public_key: bytes
    status: str = "active"
    enrolled_ms: int


class Attested(SQLModel, table=True):
    """The attestations a subject key was enrolled with, as signed: for the hospital that redeems a code."""

    subject: bytes = Field(primary_key=True)
    place: int = Field(primary_key=True)
    document: bytes


class SubjectKey(SQLModel, table=True):
    """Further keys of a subject, never of two: devices, guardians, recovery codes. ``entry`` added or revoked it."""

    __tablename__ = "subject_key"
    key_id: bytes = Field(primary_key=True)
    subject: bytes = Field(index=True)
    public_key: bytes
    role: int
    status: str = "active"
    active_ms: int
    change: bytes
    signer: bytes
    entry: int


class Grant(SQLModel, table=True):
    """Grants as signed, with their state; uses are counted by workflow. ``entry`` recorded that state in the log."""

    hash: bytes = Field(primary_key=True)
    envelope: bytes
    subject: bytes = Field(index=True)
    cnf: bytes
    max_uses: int
    uses: int = 0
    expiry: int
    status: str = "active"
    entry: int


class GrantEnd(SQLModel, table=True):
    """What ended a grant, as it was signed: a revocation, or the change of a key log that revoked its key."""

    __tablename__ = "grant_end"
    grant_hash: bytes = Field(primary_key=True)
    document: bytes


class GrantUse(SQLModel, table=True):
    """One row for each workflow that used a grant."""

    __tablename__ = "grant_use"
    grant_hash: bytes = Field(primary_key=True)
    workflow: bytes = Field(primary_key=True)


class Ticket(SQLModel, table=True):
    """A redeemed ticket and the one workflow that it is bound to, until when (Unix ms)."""

    hash: bytes = Field(primary_key=True)
    nonce: bytes = Field(index=True, unique=True)
    grant_hash: bytes
    workflow: bytes
    until_ms: int
    envelope: bytes
    entry: int


class OnlineCode(SQLModel, table=True):
    """18-digit handles: an HMAC under a pepper that is never in this database; what they stand for is sealed."""

    __tablename__ = "online_code"
    id: int = Field(primary_key=True)
    digest: bytes = Field(index=True, unique=True)
    hospital: bytes
    until_ms: int
    sealed: bytes


class WrongCodes(SQLModel, table=True):
    """How many wrong codes a hospital asked for since a time: guesses are limited."""

    __tablename__ = "wrong_codes"
    hospital: bytes = Field(primary_key=True)
    since_ms: int
    count: int


class Deletion(SQLModel, table=True):
    """A delivery that its recipient was told to erase, and its signed word on it; ``entry`` recorded that word."""

    exchange: bytes = Field(primary_key=True)
    recipient: bytes
    envelope: bytes = b""
    entry: int = -1


class Parcel(SQLModel, table=True):
    """What a subject sends a recipient of her own, as she signed it; ``state`` is open, complete, taken, withdrawn,
    expired. ``entry`` recorded that it was left, -1 before.
    """

    hash: bytes = Field(primary_key=True)
    subject: bytes = Field(index=True)
    recipient: bytes
    envelope: bytes
    chunks: int
    state: str = Field(index=True)
    until_ms: int
    entry: int = -1


class Chunk(SQLModel, table=True):
    """A sealed chunk of a parcel, until its recipient took it."""

    parcel: bytes = Field(primary_key=True)
    place: int = Field(primary_key=True)
    content: bytes


class Exchange(SQLModel, table=True):
    """An accepted exchange, under the index of its audit entry: keys rise with time."""

    __table_args__ = (
        Index("exchange_nonce", "sender", "nonce", unique=True),
        Index("exchange_subject", "subject", "entry"),
    )
    entry: int = Field(primary_key=True)
    hash: bytes = Field(index=True, unique=True)
    sender: bytes
    recipient: bytes
    nonce: bytes
    purpose: str
    state: str
    payload: bytes
    schema_hash: bytes
    released: bytes
    grant_hash: bytes = b""
    subject: bytes = b""


class Delivery(SQLModel, table=True):
    """What waits for a recipient: released leaves and a capsule that only the recipient can open."""

    __table_args__ = (
        Index("delivery_recipient", "recipient", "entry"),
        Index("delivery_not_after", "not_after"),
    )
    entry: int = Field(primary_key=True)
    recipient: bytes
    sender: bytes
    not_after: int
    envelope: bytes
    manifest: bytes
    released: bytes
    leaves: bytes
    capsule: bytes
    grant_hash: bytes = b""
    ticket_hash: bytes = b""


class Notice(SQLModel, table=True):
    """What became of an exchange, until its sender has stored it."""

    # A reused id would hide behind the cursor of a node that read the first.
    __table_args__ = (Index("notice_node", "node", "id"), {"sqlite_autoincrement": True})
    id: int = Field(primary_key=True)
    node: bytes
    exchange: bytes
    state: str
    acknowledgement: bytes = b""
    entry: int = -1


class Entry(SQLModel, table=True):
    """An audit entry: contents and the keys of their commitments. Plain entries have kind 1 and no keys."""

    index: int = Field(primary_key=True)
    kind: int = 0
    time_ms: int
    meta_key: bytes
    meta: bytes
    detail_key: bytes
    detail: bytes


class Erasure(SQLModel, table=True):
    """What stays of an erased detail: its commitment; and the entry that records that it was erased."""

    entry: int = Field(primary_key=True)
    commitment: bytes
    recorded: int


class Hold(SQLModel, table=True):
    """Legal holds that stand: about a subject, a grant or an exchange."""

    target: bytes = Field(primary_key=True)
    entry: int


class TreeNode(SQLModel, table=True):
    """Every complete subtree of the log's Merkle tree."""

    __tablename__ = "tree_node"
    level: int = Field(primary_key=True)
    index: int = Field(primary_key=True)
    hash: bytes


class Checkpoint(SQLModel, table=True):
    """Every signed tree head, one a commit."""

    size: int = Field(primary_key=True)
    root: bytes
    note: bytes
    time_ms: int


class Witness(SQLModel, table=True):
    """What each witness cosigned last, by the name that it cosigns under."""

    witness: str = Field(primary_key=True)
    size: int
    time_ms: int


class Cosignature(SQLModel, table=True):
    """Of each witness the signature line of the largest checkpoint that it cosigned."""

    size: int = Field(primary_key=True)
    witness: str = Field(primary_key=True)
    line: bytes
    time_ms: int


class Head(SQLModel, table=True):
    """The one current tree head; swapped only from the value it was read with."""

    id: int = Field(primary_key=True)
    size: int
    root: bytes


class Restored(SQLModel, table=True):
    """There while the database is one that was restored and no majority of witnesses has been heard since."""

    id: int = Field(primary_key=True)
    time_ms: int


class PseudonymStatement(SQLModel, table=True):
    """The service's latest key statement with pseudonym keys, and its place in the log."""

    __tablename__ = "pseudonym_statement"
    id: int = Field(primary_key=True)
    serial: int
    envelope: bytes
    entry: int
    time_ms: int


class PseudonymKey(SQLModel, table=True):
    """Every public key that was ever announced: a name that was used is never given to another key."""

    __tablename__ = "pseudonym_key"
    recipient: bytes = Field(primary_key=True)
    epoch: int = Field(primary_key=True)
    public_key: bytes


class PseudonymQuota(SQLModel, table=True):
    """How many evaluations a recipient may ask for itself under one epoch, and how many it asked."""

    __tablename__ = "pseudonym_quota"
    recipient: bytes = Field(primary_key=True)
    epoch: int = Field(primary_key=True)
    allowed: int
    used: int = 0
    issued_at: int


class PseudonymDay(SQLModel, table=True):
    """How many evaluations a hospital asked for in one day (Unix days): numbers only, never for whom."""

    __tablename__ = "pseudonym_day"
    caller: bytes = Field(primary_key=True)
    day: int = Field(primary_key=True)
    used: int


for _table in SQLModel.metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, Integer):
            _column.type = NUMBER

# Rows are made without the ORM's constructor (`broker.store.sqlite`); their attributes need the mapping all the same.
configure_mappers()
