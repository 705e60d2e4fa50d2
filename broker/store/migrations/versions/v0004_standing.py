"""An operator's last word on each participant that was suspended.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from broker.store.migrations.columns import number, octets

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    op.create_table(
        "standing",
        octets("participant"),
        octets("envelope"),
        number("issued_ms"),
        sa.PrimaryKeyConstraint("participant"),
    )
