"""Bringing in a statement: the payments that no confirmation and no pull told of are booked, and the rest is known already.

The file went through one person's hands, who may have changed it. So a payment of more than one person assigns alone goes to
suspense, whatever reference the file has for it, until M-Pesa itself tells its reference or two people assign it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.clock import NAIROBI
from vault_core.collections.booking import Booking, IncomingPayment, book_payments
from vault_core.collections.deciding import alone_up_to
from vault_core.collections.statement_file import StatementRow, read_statement
from vault_core.collections.statement_rules import BadRow, NoPayment, StatementPayment, read_row
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money
from vault_core.partners.collection_settings import load_collection_settings
from vault_core.partners.partner import Partner
from vault_core.partners.person_limits import load_assign_limit
from vault_core.runtime import Runtime

_AT_ONCE = 500
_MOST_BAD_SHOWN = 50
_CLOCKS_DIFFER = timedelta(minutes=10)

_IMPORT = text(
    """
    INSERT INTO statement_imports (id, partner_id, short_code, file_name, sha256, imported_by, imported_at, skipped_bad)
    VALUES (:id, :partner_id, :short_code, :file_name, :sha256, :by, :now, :skipped)
    ON CONFLICT (partner_id, sha256) DO NOTHING RETURNING id
    """
)
_IMPORTED = text("SELECT id FROM statement_imports WHERE partner_id = :partner_id AND sha256 = :sha256")
_ROWS = text(
    """
    INSERT INTO statement_rows (id, import_id, line, receipt, row_sealed)
    SELECT new.id, :import_id, new.line, new.receipt, new.sealed
    FROM unnest(CAST(:ids AS uuid[]), CAST(:lines AS integer[]), CAST(:receipts AS text[]), CAST(:sealed AS bytea[]))
         AS new(id, line, receipt, sealed)
    ON CONFLICT (import_id, line) DO NOTHING RETURNING id
    """
)
_KNOWN = text("SELECT receipt, amount_cents FROM collections WHERE short_code = :short_code AND receipt = ANY(:receipts)")


@dataclass(slots=True)
class ImportReport:
    """What a statement holds, and what importing it did or (dry run) would do."""

    rows: int = 0
    booked: int = 0
    booked_amount: Money = ZERO
    known: int = 0
    above_limit: list[str] = field(default_factory=list)  # receipts of the booked ones that people must assign
    conflicts: list[str] = field(default_factory=list)  # receipts that are booked with another amount
    not_payments: Counter[str] = field(default_factory=Counter)  # by the statement's own words
    bad: list[BadRow] = field(default_factory=list)  # the first of them
    bad_count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    def count(self, read: StatementPayment | NoPayment | BadRow) -> None:
        """Counts one row of the file."""
        self.rows += 1
        match read:
            case BadRow():
                self.bad_count += 1
                if len(self.bad) < _MOST_BAD_SHOWN:
                    self.bad.append(read)
            case NoPayment(kind=kind):
                self.not_payments[kind] += 1
            case StatementPayment(at=at):
                self.first_at = min(self.first_at or at, at)
                self.last_at = max(self.last_at or at, at)


@dataclass(frozen=True, slots=True)
class Statement:
    """A file as a person gives it."""

    name: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> bytes:
        """What it is known by, whatever it is called."""
        return hashlib.sha256(self.content).digest()


async def preview_statement(runtime: Runtime, partner: Partner, statement: Statement) -> ImportReport:
    """What importing it would do; writes nothing. Raises InvalidInput for a file that is no statement of the pay bill."""
    now = runtime.clock.now()
    report = _read_through(partner, statement, now)
    seen: set[str] = set()
    async with runtime.engine.connect() as connection:
        limit = await _limit(runtime, partner, connection)
        for some in _batches(partner, statement, now):
            receipts = [payment.receipt for payment, _ in some]
            rows = await connection.execute(_KNOWN, {"short_code": partner.c2b_short_code, "receipts": receipts})
            known = {row.receipt: Money(row.amount_cents) for row in rows}
            for payment, _ in some:
                repeated = payment.receipt in known or payment.receipt in seen
                differs = payment.receipt in known and known[payment.receipt] != payment.amount
                _add(report, payment, Booking.CONFLICT if differs else Booking.DUPLICATE if repeated else Booking.BOOKED, limit)
                seen.add(payment.receipt)
    return report


async def import_statement(
    runtime: Runtime, partner: Partner, statement: Statement, *, actor: str, skip_bad: bool = False
) -> ImportReport:
    """Books the payments of the statement, each receipt once whoever told of it before, and keeps file hash and rows. Audited.

    Rows that cannot be read: InvalidInput names them and nothing is done, unless `skip_bad`. Cut off anywhere, or repeated, it is
    simply run again: some rows a transaction, each with its evidence.
    """
    now = runtime.clock.now()
    report = _read_through(partner, statement, now)
    if report.bad_count and not skip_bad:
        raise InvalidInput(bad_rows_text(report))
    import_id = await in_transaction(runtime.engine, partial(_begin, runtime, partner, statement, report, actor))
    limit = await in_transaction(runtime.engine, partial(_limit, runtime, partner))
    for some in _batches(partner, statement, now):
        done = await in_transaction(runtime.engine, partial(_book, runtime, partner, import_id, some, limit))
        for payment, booking in done:
            _add(report, payment, booking, limit)
    return report


def bad_rows_text(report: ImportReport) -> str:
    """The rows that cannot be read, for a person."""
    lines = [f"  line {row.line}: {row.cause}" for row in report.bad]
    more = report.bad_count - len(report.bad)
    rest = [f"  and {more} more"] if more else []
    one = "1 row of the statement" if report.bad_count == 1 else f"{report.bad_count} rows of the statement"
    return "\n".join(
        [f"{one} cannot be read; nothing was booked. Download it again, or leave them out with --skip-bad:", *lines, *rest]
    )


async def _limit(runtime: Runtime, partner: Partner, connection: AsyncConnection) -> Money:
    """Up to which amount the word of one person sends a payment to an account."""
    settings = (await load_collection_settings(connection, [partner.id]))[partner.id]
    return alone_up_to(settings, runtime.pace, await load_assign_limit(connection))


def _read_through(partner: Partner, statement: Statement, now: datetime) -> ImportReport:
    report = ImportReport()
    for _, read in _read(partner, statement, now):
        report.count(read)
    return report


def _read(
    partner: Partner, statement: Statement, now: datetime
) -> Iterator[tuple[StatementRow, StatementPayment | NoPayment | BadRow]]:
    begins_at = partner.created_at.replace(microsecond=0)
    for row in read_statement(statement.content, partner.c2b_short_code):
        read = read_row(row)
        if isinstance(read, StatementPayment):
            read = _of_its_time(read, begins_at, now)
        yield row, read


def _of_its_time(payment: StatementPayment, begins_at: datetime, now: datetime) -> StatementPayment | NoPayment | BadRow:
    if payment.at < begins_at:
        # Whatever program had the pay bill then may have entered them in Mifos X: booked here they would be there twice.
        return NoPayment("payments from before the lender was added here")
    if payment.at > now + _CLOCKS_DIFFER:
        when = f"{payment.at.astimezone(NAIROBI):%d %B %Y, %H:%M}"
        return BadRow(
            payment.line, f"{payment.receipt}: completion time {when} is yet to come: did a spreadsheet swap day and month?"
        )
    return payment


def _payments(partner: Partner, statement: Statement, now: datetime) -> Iterator[tuple[StatementPayment, StatementRow]]:
    for row, read in _read(partner, statement, now):
        if isinstance(read, StatementPayment):
            yield read, row


def _batches(partner: Partner, statement: Statement, now: datetime) -> Iterator[list[tuple[StatementPayment, StatementRow]]]:
    payments = _payments(partner, statement, now)
    while some := list(islice(payments, _AT_ONCE)):
        yield some


async def _begin(
    runtime: Runtime, partner: Partner, statement: Statement, report: ImportReport, actor: str, connection: AsyncConnection
) -> UUID:
    """The import of this file: the one that was begun before, if it was."""
    file = {"partner_id": partner.id, "sha256": statement.sha256}
    values = {
        "id": runtime.new_id(),
        "short_code": partner.c2b_short_code,
        "file_name": statement.name[:200],
        "by": actor,
        "now": runtime.clock.now(),
        "skipped": report.bad_count,
    }
    made: UUID | None = (await connection.execute(_IMPORT, values | file)).scalar_one_or_none()
    import_id: UUID = made or (await connection.execute(_IMPORTED, file)).scalar_one()
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act="collections.statement_imported",
        subject=f"{partner.name} pay bill {partner.c2b_short_code}",
        partner_id=partner.id,
        after={
            "import": str(import_id),
            "sha256": statement.sha256.hex(),
            "rows": report.rows,
            "bad_rows_left_out": report.bad_count,
            "imported_before": made is None,
        },
    )
    return import_id


async def _book(
    runtime: Runtime,
    partner: Partner,
    import_id: UUID,
    some: Sequence[tuple[StatementPayment, StatementRow]],
    limit: Money,
    connection: AsyncConnection,
) -> list[tuple[StatementPayment, Booking]]:
    ids = [runtime.new_id() for _ in some]
    kept = await connection.execute(
        _ROWS,
        {
            "import_id": import_id,
            "ids": ids,
            "lines": [payment.line for payment, _ in some],
            "receipts": [payment.receipt for payment, _ in some],
            "sealed": [_sealed(runtime, row_id, row.cells) for row_id, (_, row) in zip(ids, some, strict=True)],
        },
    )
    new = set(kept.scalars())
    fresh = [(row_id, payment) for row_id, (payment, _) in zip(ids, some, strict=True) if row_id in new]
    bookings = await book_payments(connection, runtime, [_incoming(partner, payment, row_id, limit) for row_id, payment in fresh])
    did = {payment.line: booking for (_, payment), booking in zip(fresh, bookings, strict=True)}
    return [(payment, did.get(payment.line, Booking.DUPLICATE)) for payment, _ in some]


def _sealed(runtime: Runtime, row_id: UUID, cells: Mapping[str, str]) -> bytes:
    return runtime.sealer.seal(orjson.dumps(dict(cells)), bound_to=f"statement_rows:{row_id}:row")


def _incoming(partner: Partner, payment: StatementPayment, row_id: UUID, limit: Money) -> IncomingPayment:
    return IncomingPayment(
        partner_id=partner.id,
        short_code=partner.c2b_short_code,
        receipt=payment.receipt,
        amount=payment.amount,
        happened_at=payment.at,
        source="statement",
        event_id=row_id,
        org_balance=payment.balance,
        bill_reference=payment.reference,
        payer_phone=payment.phone,
        payer_name=payment.payer_name,
        reference_doubted=payment.amount > limit,
    )


def _add(report: ImportReport, payment: StatementPayment, booking: Booking, limit: Money) -> None:
    if booking is Booking.BOOKED:
        report.booked += 1
        report.booked_amount += payment.amount
        if payment.amount > limit:
            report.above_limit.append(payment.receipt)
    elif booking is Booking.CONFLICT:
        report.conflicts.append(payment.receipt)
    else:
        report.known += 1
