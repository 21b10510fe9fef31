"""Alembic's entry: runs migrations on the connection, and in the transaction, of `projections.migrate`."""

from alembic import context

from projections.migrate import alembic_options
from projections.tables import metadata

context.configure(target_metadata=metadata, **alembic_options(context.config.attributes["connection"]))
context.run_migrations()
