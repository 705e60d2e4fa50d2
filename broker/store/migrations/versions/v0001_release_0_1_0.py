"""The tables of release 0.1.0.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from broker.store.migrations.columns import number, octets, text

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    op.create_table(
        "checkpoint",
        number("size"),
        octets("root"),
        octets("note"),
        number("time_ms"),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "delivery",
        number("entry"),
        octets("recipient"),
        octets("sender"),
        number("not_after"),
        octets("envelope"),
        octets("manifest"),
        octets("released"),
        octets("leaves"),
        octets("capsule"),
        octets("grant_hash"),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index("delivery_not_after", "delivery", ["not_after"])
    op.create_index("delivery_recipient", "delivery", ["recipient", "entry"])
    op.create_table(
        "entry",
        number("index"),
        number("kind"),
        number("time_ms"),
        octets("meta_key"),
        octets("meta"),
        octets("detail_key"),
        octets("detail"),
        sa.PrimaryKeyConstraint("index"),
    )
    op.create_table(
        "epoch",
        octets("id"),
        octets("node"),
        octets("gate_key_id"),
        number("not_before"),
        number("not_after"),
        octets("sealed_secret"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "exchange",
        number("entry"),
        octets("hash"),
        octets("sender"),
        octets("recipient"),
        octets("nonce"),
        text("purpose"),
        text("state"),
        octets("payload"),
        octets("schema_hash"),
        octets("released"),
        octets("grant_hash"),
        octets("subject"),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index("exchange_nonce", "exchange", ["sender", "nonce"], unique=True)
    op.create_index("exchange_subject", "exchange", ["subject", "entry"])
    op.create_index("ix_exchange_hash", "exchange", ["hash"], unique=True)
    op.create_table(
        "grant",
        octets("hash"),
        octets("envelope"),
        octets("subject"),
        octets("cnf"),
        number("max_uses"),
        number("uses"),
        number("expiry"),
        text("status"),
        number("entry"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("ix_grant_subject", "grant", ["subject"])
    op.create_table(
        "grant_use", octets("grant_hash"), octets("workflow"), sa.PrimaryKeyConstraint("grant_hash", "workflow")
    )
    op.create_table("head", number("id"), number("size"), octets("root"), sa.PrimaryKeyConstraint("id"))
    op.create_table(
        "invite",
        octets("code_hash"),
        text("role"),
        text("name"),
        number("expires_ms"),
        octets("used_by"),
        sa.PrimaryKeyConstraint("code_hash"),
    )
    op.create_table(
        "notice",
        number("id", counts=True),
        octets("node"),
        octets("exchange"),
        text("state"),
        octets("acknowledgement"),
        number("entry"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("notice_node", "notice", ["node", "id"])
    op.create_table(
        "participant",
        octets("id"),
        text("role"),
        text("name"),
        text("status"),
        number("enrolled_ms"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "pseudonym_day", octets("caller"), number("day"), number("used"), sa.PrimaryKeyConstraint("caller", "day")
    )
    op.create_table(
        "pseudonym_quota",
        octets("recipient"),
        number("epoch"),
        number("allowed"),
        number("used"),
        number("issued_at"),
        sa.PrimaryKeyConstraint("recipient", "epoch"),
    )
    op.create_table(
        "pseudonym_statement",
        number("id"),
        number("serial"),
        octets("envelope"),
        number("entry"),
        number("time_ms"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table("spki", octets("hash"), octets("participant"), sa.PrimaryKeyConstraint("hash"))
    op.create_table(
        "statement",
        octets("participant"),
        number("serial"),
        octets("envelope"),
        sa.PrimaryKeyConstraint("participant"),
    )
    op.create_table(
        "subject",
        octets("id"),
        octets("key_id"),
        octets("public_key"),
        text("status"),
        number("enrolled_ms"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_subject_key_id", "subject", ["key_id"], unique=True)
    op.create_table(
        "tree_node", number("level"), number("index"), octets("hash"), sa.PrimaryKeyConstraint("level", "index")
    )
