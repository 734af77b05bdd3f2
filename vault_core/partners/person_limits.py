"""What one person may decide alone, as it stands in the database: the application reads it, and only `vault up` writes it.

A limit in a process's settings can be left out by whoever writes the rows; the tables themselves refuse by this one.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money

_ASSIGN = text("SELECT alone_up_to_cents FROM person_limits WHERE what = 'assign'")


async def load_assign_limit(connection: AsyncConnection) -> Money:
    """Up to which amount one person may say where a payment goes, at every partner."""
    return Money((await connection.execute(_ASSIGN)).scalar_one())
