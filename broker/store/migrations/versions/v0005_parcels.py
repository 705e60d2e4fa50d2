"""Parcels that patients leave for insurers, in sealed chunks.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from broker.store.migrations.columns import number, octets, text

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    op.create_table(
        "parcel",
        octets("hash"),
        octets("subject"),
        octets("recipient"),
        octets("envelope"),
        number("chunks"),
        text("state"),
        number("until_ms"),
        number("entry"),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("ix_parcel_subject", "parcel", ["subject"], unique=False)
    op.create_table(
        "chunk", octets("parcel"), number("place"), octets("content"), sa.PrimaryKeyConstraint("parcel", "place")
    )
