"""Parcels that wait are found by their state: those that are over stay, and are not looked through.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    op.create_index("ix_parcel_state", "parcel", ["state"], unique=False)
