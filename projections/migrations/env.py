"""Alembic's entry: runs migrations on the connection, and in the transaction, of `projections.migrate`."""

from alembic import context

from projections.migrate import configured
from projections.tables import metadata

context.configure(target_metadata=metadata, **configured(context.config.attributes["connection"]))
context.run_migrations()
