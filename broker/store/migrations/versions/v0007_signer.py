"""Who signed with which key: of each, the last statement that the log has.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from broker.store.migrations.columns import octets
from zhifu.envelope import KEY_STATEMENT, from_bytes
from zhifu.keys import Alg, key_id
from zhifu.v1 import signed_pb2

revision: Final = "0007"
down_revision: Final = "0006"
_PLAIN: Final = 1


def upgrade() -> None:
    op.create_table(
        "signer",
        octets("key_id"),
        octets("participant"),
        octets("envelope"),
        sa.PrimaryKeyConstraint("key_id", "participant"),
    )
    _find_stated()


def _find_stated() -> None:
    connection = op.get_bind()
    entry = sa.table("entry", sa.column("index", sa.Integer), sa.column("kind", sa.Integer), sa.column("detail"))
    plain = sa.select(entry.c.detail).where(entry.c.kind == _PLAIN).order_by(entry.c.index)
    found: dict[tuple[bytes, bytes], bytes] = {}
    for (document,) in connection.execute(plain):
        stated = signed_pb2.KeyStatement.FromString(from_bytes(KEY_STATEMENT, bytes(document)).payload)
        found[key_id(Alg.ED25519, stated.signing_key), stated.participant] = bytes(document)
    rows = [{"key_id": key, "participant": whose, "envelope": signed} for (key, whose), signed in found.items()]
    columns = (sa.column(name, sa.LargeBinary) for name in ("key_id", "participant", "envelope"))
    if rows:
        connection.execute(sa.insert(sa.table("signer", *columns)), rows)
