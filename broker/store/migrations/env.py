"""Run by Alembic: the connection, inside a transaction that `broker.store.migrating` began and will commit."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import broker.store.tables  # noqa: F401  # it declares them

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
context.run_migrations()
