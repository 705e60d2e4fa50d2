"""What changed in the broker's tables from one version to the next (Alembic); `broker.store.migrating` runs them."""
