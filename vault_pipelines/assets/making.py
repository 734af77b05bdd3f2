"""What every report asset does the same way: files written, row recorded, figures and a plot shown in the Dagster UI."""

import base64
import io
from collections.abc import Sequence
from datetime import date

import dagster as dg
import pandas as pd

from vault_core.money import Money
from vault_core.reconciliation.report_columns import Column
from vault_core.reconciliation.report_files import write_report
from vault_pipelines.resources.vault_resource import VaultResource

_PREVIEW_ROWS = 10


def make_report(
    vault: VaultResource,
    report: str,
    day: date,
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    total_column: str,
    split_by: str,
    hidden: tuple[str, ...] = (),
) -> dg.MaterializeResult[None]:
    """Writes the report of `day` and describes it: rows, totals by `split_by`, a preview without `hidden` columns, a plot."""
    with vault.writing() as connection:
        made = write_report(
            connection, vault.reports_dir(), report, day, frame, columns, total_column=total_column, now=vault.clock().now()
        )
    shown = frame.drop(columns=[*hidden])
    metadata: dict[str, dg.MetadataValue | int | str] = {
        "dagster/row_count": made.rows,
        "rows": made.rows,
        "total": str(Money(made.total_cents)),
        "version": made.version,
        "changed": "yes" if made.changed else "no: the same content was there already",
        "parquet": dg.MetadataValue.path(str(made.parquet.resolve())),
        "xlsx": dg.MetadataValue.path(str(made.xlsx.resolve())),
        "preview": dg.MetadataValue.md(
            _table(shown.head(_PREVIEW_ROWS)) if made.rows else f"No rows: nothing happened on {day}."
        ),
        "totals": dg.MetadataValue.md(_table(_totals(frame, split_by, total_column))),
        "plot": dg.MetadataValue.md(_plot(frame, report, day, split_by, total_column)),
    }
    return dg.MaterializeResult(metadata=metadata)


def _totals(frame: pd.DataFrame, split_by: str, total_column: str) -> pd.DataFrame:
    grouped = frame.groupby(["partner", split_by], observed=True)[total_column].agg(["count", "sum"]).reset_index()
    grouped["sum"] = [str(Money(int(cents))) for cents in grouped["sum"]]
    return grouped.rename(columns={"count": "rows", "sum": "total"})


def _table(frame: pd.DataFrame) -> str:
    """A markdown table; pandas' own needs a package for it. Bars in values would end their cell."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + " --- |" * len(frame.columns)]
    lines += [
        "| " + " | ".join("" if pd.isna(value) else str(value).replace("|", "/") for value in row) + " |"
        for row in frame.itertuples(index=False)
    ]
    return "\n".join(lines)


def _plot(frame: pd.DataFrame, report: str, day: date, split_by: str, total_column: str) -> str:
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    if frame.empty:
        axes.text(0.5, 0.5, "nothing happened on this day", ha="center", va="center")
        axes.set_axis_off()
    else:
        pivot = frame.pivot_table(
            index=split_by, columns="partner", values=total_column, aggfunc="sum", fill_value=0, observed=True
        )
        (pivot.astype("float64") / 100).plot.barh(ax=axes)  # pixels, not money: the figures stand in `totals`
        axes.set_xlabel("KES")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(title=None, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        axes.set_ylabel("")
    axes.set_title(f"{report}, {day.isoformat()}")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=80)
    return f"![{report} of {day}](data:image/png;base64,{base64.b64encode(image.getvalue()).decode()})"
