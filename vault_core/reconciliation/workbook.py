"""A report as an XLSX workbook for people: shillings with two places, Nairobi time, and a sheet that explains the columns."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import xlsxwriter

from vault_core.clock import NAIROBI
from vault_core.reconciliation.report_columns import Column

_MOST_ROWS = 1_048_575  # of a worksheet, below its heading; the Parquet file always has all
_SHEET_NAME = 31


def write_workbook(path: Path, report: str, day: date, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """Writes `frame` to `path`. Text stays text, whatever it begins with: a name is never a formula."""
    with xlsxwriter.Workbook(
        str(path), {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    ) as book:
        heading = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        formats = {
            "cents": book.add_format({"num_format": "#,##0.00"}),
            "moment": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        sheet = book.add_worksheet(report[:_SHEET_NAME])
        sheet.freeze_panes(1, 0)
        for position, column in enumerate(columns):
            title = f"{column.name.removesuffix('_cents')} (KES)" if column.kind == "cents" else column.name
            sheet.write_string(0, position, title, heading)
            sheet.set_column(position, position, 22 if column.kind in {"text", "moment"} else 14)
        for number, row in enumerate(frame.head(_MOST_ROWS).itertuples(index=False), 1):
            for position, (column, value) in enumerate(zip(columns, row, strict=True)):
                if not pd.isna(value):
                    _write_cell(sheet, number, position, column, value, formats)
        _explain(book.add_worksheet("columns"), report, day, columns, heading)


def _write_cell(sheet: Any, row: int, position: int, column: Column, value: Any, formats: dict[str, Any]) -> None:
    if column.kind == "cents":
        sheet.write_number(row, position, Decimal(value).scaleb(-2), formats["cents"])
    elif column.kind == "moment":
        sheet.write_datetime(row, position, value.tz_convert(NAIROBI).tz_localize(None).to_pydatetime(), formats["moment"])
    elif column.kind == "count":
        sheet.write_number(row, position, value)
    elif column.kind == "flag":
        sheet.write_boolean(row, position, bool(value))
    else:
        sheet.write_string(row, position, str(value))


def _explain(notes: Any, report: str, day: date, columns: Sequence[Column], heading: Any) -> None:
    notes.write_string(0, 0, f"{report}, {day.isoformat()} (Africa/Nairobi)", heading)
    for number, column in enumerate(columns, 2):
        notes.write_string(number, 0, column.name)
        notes.write_string(number, 1, column.means)
    notes.set_column(0, 0, 24)
    notes.set_column(1, 1, 90)
