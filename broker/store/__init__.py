"""The only place that knows the database (DESIGN section 8)."""
