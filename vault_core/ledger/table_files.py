"""Tables of ledger rows as files: CSV and Parquet for programs, XLSX for people. Written row by row, in the order they come.

The same rows give the same file. Amounts are integer cents in Parquet, decimal text in CSV, shillings in XLSX; times are UTC in
Parquet, and Nairobi's in the others (in CSV with their offset).
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
from xlsxwriter.exceptions import FileCreateError

from vault_core.clock import NAIROBI
from vault_core.errors import ConfigurationError, InvalidInput

Row = Sequence[Any]
WriteRow = Callable[[Row], None]

_CHUNK = 50_000  # rows of a Parquet row group
_MOST_SHEET_ROWS = 1_048_575  # below the heading
_MADE = datetime(2000, 1, 1)  # noqa: DTZ001 - a workbook notes when it was made: the same for all, so that equal rows give equal files


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column. Its values: text (anything with a str), Money for `cents`, int for `count`, aware datetimes for `moment`.

    Any may be None. In Parquet a `cents` column is named with the suffix _cents.
    """

    name: str
    kind: Literal["text", "cents", "count", "moment"]
    means: str


@contextmanager
def table_file(path: Path, columns: Sequence[TableColumn], *, workbook: bool) -> Iterator[WriteRow]:
    """Opens the file of `path`'s kind and yields what writes a row. It stands under its name only when it is whole.

    Raises InvalidInput for an ending that is not .csv, .parquet or (with `workbook`) .xlsx, and for a workbook that would be too
    long; ConfigurationError if it cannot be written.
    """
    kinds = {".csv": _csv, ".parquet": _parquet, **({".xlsx": _xlsx} if workbook else {})}
    open_one = kinds.get(path.suffix.lower())
    if open_one is None:
        raise InvalidInput(f"{path.name}: the ending says the kind of file, and this can be {', '.join(kinds)}")
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.touch()  # a folder that is not there is told before anything is read
        with open_one(draft, columns) as write:
            yield write
        draft.replace(path)
    except (OSError, FileCreateError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{path} cannot be written: {why}. Check the folder and the disk") from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _csv(path: Path, columns: Sequence[TableColumn]) -> Iterator[WriteRow]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in columns])

        def write(row: Row) -> None:
            writer.writerow([_text(column, value) for column, value in zip(columns, row, strict=True)])

        yield write


def _text(column: TableColumn, value: Any) -> str:
    if value is None:
        return ""
    if column.kind == "cents":
        return f"{value.as_decimal()}"
    if column.kind == "moment":
        return f"{value.astimezone(NAIROBI).isoformat(timespec='microseconds')}"
    return str(value)


_PARQUET_TYPES = {"text": pa.string(), "cents": pa.int64(), "count": pa.int64(), "moment": pa.timestamp("us", tz="UTC")}


@contextmanager
def _parquet(path: Path, columns: Sequence[TableColumn]) -> Iterator[WriteRow]:
    names = [f"{column.name}_cents" if column.kind == "cents" else column.name for column in columns]
    fields = [
        pa.field(name, _PARQUET_TYPES[column.kind], metadata={"means": column.means})
        for name, column in zip(names, columns, strict=True)
    ]
    schema = pa.schema(fields)
    waiting: list[list[Any]] = []
    with pq.ParquetWriter(path, schema) as file:

        def flush() -> None:
            arrays = [pa.array(values, field.type) for values, field in zip(zip(*waiting, strict=True), fields, strict=True)]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))
            waiting.clear()

        def write(row: Row) -> None:
            waiting.append([_plain(column, value) for column, value in zip(columns, row, strict=True)])
            if len(waiting) == _CHUNK:
                flush()

        yield write
        if waiting:
            flush()


def _plain(column: TableColumn, value: Any) -> Any:
    if value is None or column.kind in {"count", "moment"}:
        return value
    return value.cents if column.kind == "cents" else str(value)


@contextmanager
def _xlsx(path: Path, columns: Sequence[TableColumn]) -> Iterator[WriteRow]:
    # Text stays text, whatever it begins with: a description is never a formula.
    settings = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(str(path), settings) as book:
        book.set_properties({"created": _MADE})
        heading = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        amount = book.add_format({"num_format": "#,##0.00"})
        moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        notes = book.add_worksheet("columns")
        for number, column in enumerate(columns):
            notes.write_row(number, 0, [column.name, column.means])
        notes.set_column(0, 0, 18)
        notes.set_column(1, 1, 90)
        sheet = book.add_worksheet("lines")
        sheet.activate()
        sheet.freeze_panes(1, 0)
        for position, column in enumerate(columns):
            title = f"{column.name} (KES)" if column.kind == "cents" else column.name
            sheet.write_string(0, position, title, heading)
            sheet.set_column(position, position, 14 if column.kind in {"cents", "count"} else 20)
        written = 0

        def write(row: Row) -> None:
            nonlocal written
            written += 1
            if written > _MOST_SHEET_ROWS:
                raise InvalidInput(f"a sheet holds {_MOST_SHEET_ROWS:,} lines and there are more: write .csv or .parquet")
            for position, (column, value) in enumerate(zip(columns, row, strict=True)):
                if value is None:
                    continue
                if column.kind == "cents":
                    sheet.write_number(written, position, value.as_decimal(), amount)
                elif column.kind == "moment":
                    sheet.write_datetime(written, position, value.astimezone(NAIROBI).replace(tzinfo=None), moment)
                elif column.kind == "count":
                    sheet.write_number(written, position, value)
                else:
                    sheet.write_string(written, position, str(value))

        yield write
