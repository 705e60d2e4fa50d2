"""The mark of a database that was restored.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from broker.store.migrations.columns import number

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    op.create_table("restored", number("id"), number("time_ms"), sa.PrimaryKeyConstraint("id"))
