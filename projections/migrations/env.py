"""Alembic's entry: runs migrations on the connection, and in the transaction, of `projections.migrate`."""

from alembic import context

from projections.migrate import alembic_options
from projections.table_sets import ALL_TABLES

context.configure(target_metadata=ALL_TABLES, **alembic_options(context.config.attributes["connection"]))
context.run_migrations()
