"""Ledger entries and statements as files, streamed: a ledger of any size needs the memory of one chunk."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.identifiers import lowest_id_at
from vault_core.ledger.account_names import account_name, partner_names
from vault_core.ledger.as_of import BOOKED_WITHIN, By
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.statement import Statement, require_span, statement_lines
from vault_core.ledger.table_files import TableColumn, table_file
from vault_core.money import ZERO, Money

_CHUNK = 10_000

ENTRY_COLUMNS = (
    TableColumn("booked_at", "moment", "when we wrote it"),
    TableColumn("effective_at", "moment", "when it happened, or the first open instant if that period was closed"),
    TableColumn("carried_from", "moment", "when it really happened, where that period was closed before it was told of"),
    TableColumn("transaction_id", "text", "the transaction; its entries sum to zero"),
    TableColumn("leg", "count", "the entry's number in its transaction, from 1"),
    TableColumn("account", "text", "owner and account, as in alpha/wallet or house/fees:mpesa"),
    TableColumn("debit", "cents", "the amount if it is a debit, else 0"),
    TableColumn("credit", "cents", "the amount if it is a credit, else 0"),
    TableColumn("kind", "text", "what kind of event it was"),
    TableColumn("reference", "text", "M-Pesa receipt, bank reference, or our own id"),
    TableColumn("key", "text", "the key under which it was posted once"),
    TableColumn("description", "text", "free words"),
    TableColumn("reverses", "text", "the transaction that this one undoes"),
    TableColumn("account_row", "count", "the row of the account; a hot house account has several"),
    TableColumn("account_version", "count", "the entry's number in its row, from 1, gap-free"),
    TableColumn("row_balance_after", "cents", "debits less credits of the row after the entry"),
)
STATEMENT_COLUMNS = (
    TableColumn("effective_at", "moment", "when it happened, or the first open instant if that period was closed"),
    TableColumn("booked_at", "moment", "when we wrote it"),
    TableColumn("carried_from", "moment", "when it really happened, where that period was closed before it was told of"),
    TableColumn("kind", "text", "what kind of event it was; the first line is the opening balance, the last the closing one"),
    TableColumn("reference", "text", "M-Pesa receipt, bank reference, or our own id"),
    TableColumn("description", "text", "free words"),
    TableColumn("debit", "cents", "the amount if it is a debit"),
    TableColumn("credit", "cents", "the amount if it is a credit"),
    TableColumn("balance", "cents", "the account's balance after the line, positive in its normal side"),
    TableColumn("transaction_id", "text", "the ledger transaction"),
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What was written: entries, and the sums of both sides."""

    entries: int = 0
    debit: Money = ZERO
    credit: Money = ZERO

    def plus(self, debit: Money, credit: Money) -> "Totals":
        """These, and one entry more."""
        return Totals(self.entries + 1, self.debit + debit, self.credit + credit)


_COLUMNS = """
    t.booked_at, t.effective_at, t.carried_from, t.id, e.leg, e.amount_cents, t.kind, t.reference, t.key, t.description,
    t.reverses, e.account_id, e.account_version, e.balance_after_cents
    """
# Ids follow the time of booking, so that a period is a range of them, and of partitions.
_BOOKED = """
    SELECT {columns} FROM ledger_entries e JOIN ledger_transactions t ON t.id = e.transaction_id
    WHERE e.transaction_id >= :low_id AND e.transaction_id < :high_id AND t.id >= :low_id AND t.id < :high_id
          AND t.booked_at >= :start AND t.booked_at < :end
    ORDER BY e.transaction_id, e.leg
    """
_EFFECTIVE = """
    SELECT {columns} FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
    WHERE t.effective_at >= :start AND t.effective_at < :end ORDER BY t.effective_at, t.id, e.leg
    """
_QUERIES = {"booked": text(_BOOKED.format(columns=_COLUMNS)), "effective": text(_EFFECTIVE.format(columns=_COLUMNS))}
_ACCOUNTS = text("SELECT id, partner_id, code FROM ledger_accounts")


async def export_entries(connection: AsyncConnection, path: Path, start: datetime, end: datetime, by: By) -> Totals:
    """Writes every entry of [start, end), once, to a .csv or .parquet file, in the order of booking or of happening.

    On a `ledger_snapshot` the same period of a ledger that has not changed gives the same file. Raises InvalidInput for another
    ending or a period that ends before it starts, ConfigurationError if the file cannot be written.
    """
    require_span(start, end)
    totals = Totals()
    names = await _account_names(connection)
    with table_file(path, ENTRY_COLUMNS, workbook=False) as write:
        async for entry in _entries(connection, start, end, by):
            cents = entry.amount_cents
            debit, credit = (Money(cents), ZERO) if cents > 0 else (ZERO, Money(-cents))
            write(
                (
                    *(entry.booked_at, entry.effective_at, entry.carried_from, entry.id, entry.leg, names[entry.account_id]),
                    *(debit, credit, entry.kind, entry.reference, entry.key, entry.description, entry.reverses),
                    *(entry.account_id, entry.account_version, Money(entry.balance_after_cents)),
                )
            )
            totals = totals.plus(debit, credit)
    return totals


async def export_statement(connection: AsyncConnection, path: Path, statement: Statement) -> Totals:
    """Writes the statement to a .xlsx, .csv or .parquet file: the opening balance, every line, the closing balance.

    Raises as `export_entries`, and InvalidInput for a workbook that would have too many lines.
    """
    totals = Totals()
    nothing = (None,) * 3
    with table_file(path, STATEMENT_COLUMNS, workbook=True) as write:
        write((statement.start, *nothing[:2], "opening balance", *nothing, None, statement.opening, None))
        async for line in statement_lines(connection, statement):
            debit, credit = line.debit or None, line.credit or None
            write(
                (
                    *(line.effective_at, line.booked_at, line.carried_from, line.kind, line.reference, line.description),
                    *(debit, credit, line.balance, line.transaction_id),
                )
            )
            totals = totals.plus(line.debit, line.credit)
        write((statement.end, *nothing[:2], "closing balance", *nothing, None, statement.closing, None))
    return totals


async def _entries(connection: AsyncConnection, start: datetime, end: datetime, by: By) -> AsyncIterator[Row[Any]]:
    bounds: dict[str, UUID] = {}
    if by == "booked":
        bounds = {"low_id": lowest_id_at(start - BOOKED_WITHIN), "high_id": lowest_id_at(end + BOOKED_WITHIN)}
    values = {"start": start, "end": end, **bounds}
    async with connection.stream(_QUERIES[by], values, execution_options={"yield_per": _CHUNK}) as result:
        async for chunk in result.partitions():
            for entry in chunk:
                yield entry


async def _account_names(connection: AsyncConnection) -> Mapping[int, str]:
    names = await partner_names(connection)
    rows = await connection.execute(_ACCOUNTS)
    return {row.id: account_name(AccountRef(row.partner_id, row.code), names) for row in rows}
