"""Reading the statement that a person downloads from the M-Pesa portal, row by row: CSV or XLSX.

The columns and the lines in front of them are those that others who import it read (docs/feeds.md lists them); a file without
them is refused with the line. Of the lines about the account the short code is checked.
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from vault_core.errors import InvalidInput

LARGEST = 256 * 2**20
_LOOKS_FOR_COLUMNS = 40  # lines, before the file is taken for something else
_XLSX = b"PK\x03\x04"
_XLS = b"\xd0\xcf\x11\xe0"
_LARGEST_CELL = 10_000

RECEIPT, COMPLETED_AT, STATUS, PAID_IN, WITHDRAWN = "receipt", "completed_at", "status", "paid_in", "withdrawn"
BALANCE, REASON, DETAILS, PARTY, REFERENCE, CURRENCY = "balance", "reason", "details", "party", "reference", "currency"

# What each column is headed, in small letters without dots; older downloads have other words.
_HEADINGS: Mapping[str, tuple[str, ...]] = {
    RECEIPT: ("receipt no", "receipt"),
    COMPLETED_AT: ("completion time", "date"),
    STATUS: ("transaction status", "status"),
    PAID_IN: ("paid in",),
    WITHDRAWN: ("withdrawn",),
    BALANCE: ("balance",),
    REASON: ("reason type", "transaction type"),
    DETAILS: ("details",),
    PARTY: ("other party info",),
    REFERENCE: ("a/c no", "transaction party details"),
    CURRENCY: ("currency",),
}
_NEEDED = (RECEIPT, COMPLETED_AT, STATUS, PAID_IN, WITHDRAWN)
_OR_DETAILS = (REASON, REFERENCE)  # Details says both, too, in a sentence
# "Short Code:,600100", "Shortcode: 600100 - UMOJA", "Paybill,600100".
_SHORT_CODE = re.compile(r"(?:organi[sz]ation )?(?:short ?code|pay ?bill)(?: no| number)?\.?\s*:?\s*(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StatementRow:
    """One row under the columns. `cells` are as in the file, as text; those of one row of columns it lacks are empty."""

    line: int
    cells: Mapping[str, str] = field(repr=False)
    whole: bool  # it has as many cells as there are columns

    def text(self, column: str) -> str:
        """The cell, stripped."""
        return self.cells.get(column, "")


def read_statement(content: bytes, short_code: str) -> Iterator[StatementRow]:
    """The rows of the file, one by one. Empty lines are passed by.

    Raises InvalidInput, with the line: for another kind of file, one without the columns, one of another short code.
    """
    if len(content) > LARGEST:
        raise InvalidInput(f"the statement is larger than {LARGEST // 2**20} MiB: download it in shorter periods")
    lines = _lines(content)
    columns = _find_columns(lines, short_code)
    for line, cells in lines:
        if not any(cells):
            continue
        named = {name: cells[place] for name, place in columns.items() if place < len(cells)}
        yield StatementRow(line, named, whole=len(cells) > max(columns.values()))


def _find_columns(lines: Iterator[tuple[int, list[str]]], short_code: str) -> dict[str, int]:
    line = 0
    for line, cells in lines:
        headings = [" ".join(cell.lower().replace(".", "").split()) for cell in cells]
        if any(name in headings for name in _HEADINGS[RECEIPT]):
            return _columns(line, headings)
        _check_short_code(line, cells, short_code)
        if line >= _LOOKS_FOR_COLUMNS:
            break
    raise InvalidInput(
        f"no line of the first {line} has the column Receipt No.: is it the statement of the organisation's account, "
        "downloaded from the M-Pesa portal as CSV or XLSX?"
    )


def _columns(line: int, headings: Sequence[str]) -> dict[str, int]:
    columns = {
        name: headings.index(heading) for name, known in _HEADINGS.items() for heading in reversed(known) if heading in headings
    }
    needed = _NEEDED if DETAILS in columns else (*_NEEDED, *_OR_DETAILS)
    missing = [_HEADINGS[name][0] for name in needed if name not in columns]
    if missing:
        raise InvalidInput(
            f"line {line} has the columns of a statement but lacks: {', '.join(missing)}. docs/feeds.md lists those needed"
        )
    return columns


def _check_short_code(line: int, cells: Sequence[str], short_code: str) -> None:
    heading = _SHORT_CODE.fullmatch(cells[0]) if cells else None
    if heading is None:
        return
    told = heading[1] or next((cell for cell in cells[1:] if cell), "")
    if told.partition(" ")[0].removesuffix(".0") != short_code:
        raise InvalidInput(f"line {line}: the statement is of short code {told[:20]!r}, the partner's pay bill is {short_code}")


def _lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    if content.startswith(_XLSX):
        return _xlsx_lines(content)
    if content.startswith(_XLS):
        raise InvalidInput("the file is an old Excel file (.xls): open it and save it as .xlsx or CSV, changing nothing else")
    return _csv_lines(content)


def _csv_lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"line {line}: the file is neither UTF-8 text nor XLSX: save it as CSV in UTF-8") from None
    if "\x00" in text:
        raise InvalidInput("the file has NUL characters: it is no CSV")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, [_short(cell) for cell in cells]
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}: the file is not CSV from here on: {error}") from error


def _xlsx_lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    from openpyxl import load_workbook  # type: ignore[import-untyped]
    from openpyxl.utils.exceptions import InvalidFileException  # type: ignore[import-untyped]

    try:
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError, SyntaxError) as error:
        raise InvalidInput(f"the file cannot be read as XLSX: {str(error)[:100]}") from error
    try:
        sheet = book.worksheets[0]
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            yield line, [_short(_cell_text(cell)) for cell in cells]
    except (ValueError, SyntaxError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"the file cannot be read as XLSX: {str(error)[:100]}") from error
    finally:
        book.close()


def _cell_text(cell: Any) -> str:
    """A cell as text. A number stands in the file as decimal text, of which openpyxl makes a float: `repr` gives it back."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    return format(Decimal(repr(cell)), "f") if isinstance(cell, float) else str(cell)


def _short(cell: str) -> str:
    return " ".join(cell.split())[:_LARGEST_CELL]
