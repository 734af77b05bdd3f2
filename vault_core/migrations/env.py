"""Alembic's entry: runs the revisions on the connection that `vault_core.schema` hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
