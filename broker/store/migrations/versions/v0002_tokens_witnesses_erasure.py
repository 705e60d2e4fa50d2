"""Tokens, witnesses, erasure, auditors of one participant, and every pseudonym key that was announced.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from broker.store.migrations.columns import add_octets, number, octets, text
from zhifu.envelope import KEY_STATEMENT, from_bytes
from zhifu.v1 import signed_pb2

revision: Final = "0002"
down_revision: Final = "0001"
_PLAIN: Final = 1
"""The kind of entries that all may read."""


def upgrade() -> None:
    for table, column in (("participant", "scope"), ("invite", "scope"), ("delivery", "ticket_hash")):
        add_octets(table, column)
    op.create_table(
        "attested", octets("subject"), number("place"), octets("document"), sa.PrimaryKeyConstraint("subject", "place")
    )
    op.create_table(
        "cosignature",
        number("size"),
        text("witness"),
        octets("line"),
        number("time_ms"),
        sa.PrimaryKeyConstraint("size", "witness"),
    )
    op.create_table(
        "deletion",
        octets("exchange"),
        octets("recipient"),
        octets("envelope"),
        number("entry"),
        sa.PrimaryKeyConstraint("exchange"),
    )
    op.create_table(
        "erasure", number("entry"), octets("commitment"), number("recorded"), sa.PrimaryKeyConstraint("entry")
    )
    op.create_table("grant_end", octets("grant_hash"), octets("document"), sa.PrimaryKeyConstraint("grant_hash"))
    op.create_table("hold", octets("target"), number("entry"), sa.PrimaryKeyConstraint("target"))
    op.create_table(
        "online_code",
        number("id"),
        octets("digest"),
        octets("hospital"),
        number("until_ms"),
        octets("sealed"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_online_code_digest", "online_code", ["digest"], unique=True)
    op.create_table(
        "pseudonym_key",
        octets("recipient"),
        number("epoch"),
        octets("public_key"),
        sa.PrimaryKeyConstraint("recipient", "epoch"),
    )
    op.create_table(
        "subject_key",
        octets("key_id"),
        octets("subject"),
        octets("public_key"),
        number("role"),
        text("status"),
        number("active_ms"),
        octets("change"),
        octets("signer"),
        number("entry"),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_index("ix_subject_key_subject", "subject_key", ["subject"])
    op.create_table(
        "ticket",
        octets("hash"),
        octets("nonce"),
        octets("grant_hash"),
        octets("workflow"),
        number("until_ms"),
        octets("envelope"),
        number("entry"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("ix_ticket_nonce", "ticket", ["nonce"], unique=True)
    op.create_table("witness", text("witness"), number("size"), number("time_ms"), sa.PrimaryKeyConstraint("witness"))
    op.create_table(
        "wrong_codes", octets("hospital"), number("since_ms"), number("count"), sa.PrimaryKeyConstraint("hospital")
    )
    _find_announced()


def _find_announced() -> None:
    """Every pseudonym key that the log announces, under the name it was first announced with."""
    connection = op.get_bind()
    entry = sa.table("entry", sa.column("index", sa.Integer), sa.column("kind", sa.Integer), sa.column("detail"))
    plain = sa.select(entry.c.detail).where(entry.c.kind == _PLAIN).order_by(entry.c.index)
    found: dict[tuple[bytes, int], bytes] = {}
    for (document,) in connection.execute(plain):
        stated = signed_pb2.KeyStatement.FromString(from_bytes(KEY_STATEMENT, bytes(document)).payload)
        for key in stated.pseudonym_keys:
            found.setdefault((key.recipient, key.epoch), key.public_key)
    rows = [{"recipient": name[0], "epoch": name[1], "public_key": public} for name, public in found.items()]
    kinds = (sa.LargeBinary, sa.Integer, sa.LargeBinary)
    names = ("recipient", "epoch", "public_key")
    table = sa.table("pseudonym_key", *(sa.column(name, kind) for name, kind in zip(names, kinds, strict=True)))
    if rows:
        connection.execute(sa.insert(table), rows)
