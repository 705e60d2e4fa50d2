"""Columns as migrations write them: as `broker.store.tables` has them, none of them null.

A migration must go on meaning what it meant, so it names its columns itself and never asks the tables of today.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op


def number(name: str, *, counts: bool = False) -> sa.Column[Any]:
    """64 bits, signed; ``counts``: a key that the database numbers by itself."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, nullable=False, autoincrement=counts)


def octets(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), nullable=False)


def add_octets(table: str, name: str) -> None:
    """A column of octets, empty in every row there is."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    empty = sa.text("x''" if is_sqlite else "''")
    op.add_column(table, sa.Column(name, sa.LargeBinary(), nullable=False, server_default=empty))
    if not is_sqlite:
        # SQLite can drop a default only by copying the table; as every row that is inserted names it, it does no harm.
        op.alter_column(table, name, server_default=None)
