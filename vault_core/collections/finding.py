"""Finding one payment by its M-Pesa receipt, for people."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.pending import PendingCollection, load_pending
from vault_core.errors import Conflict, NotFound
from vault_core.runtime import Runtime

_FIND = "SELECT id, short_code FROM collections WHERE receipt = :receipt AND (CAST(:code AS text) IS NULL OR short_code = :code)"
_ONE = text(f"{_FIND} ORDER BY id LIMIT 3")
_LOCKED = text(f"{_FIND} ORDER BY id LIMIT 3 FOR UPDATE")


async def find_collection(
    connection: AsyncConnection, runtime: Runtime, receipt: str, *, short_code: str | None = None, lock: bool = False
) -> PendingCollection:
    """The payment of that receipt, locked for the caller's transaction if asked. `short_code`: where two pay bills have one.

    Raises NotFound, and Conflict when the receipt alone does not tell which.
    """
    receipt = receipt.strip().upper()
    rows = (await connection.execute(_LOCKED if lock else _ONE, {"receipt": receipt, "code": short_code})).all()
    if not rows:
        raise NotFound(
            f"there is no payment with receipt {receipt[:20]}: is it M-Pesa's (10 letters and digits), and of a pay bill?"
        )
    if len(rows) > 1:
        codes = ", ".join(row.short_code for row in rows)
        raise Conflict(f"pay bills {codes} each have a payment {receipt}: say which with --short-code")
    return (await load_pending(connection, runtime, [rows[0].id]))[rows[0].id]
