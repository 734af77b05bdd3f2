"""Report frames with exact types: amounts stay integers even where some are missing, which plain pandas would make floats."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from vault_core.reconciliation.report_columns import Column

_TYPES = {
    "text": pd.ArrowDtype(pa.string()),
    "cents": pd.ArrowDtype(pa.int64()),
    "count": pd.ArrowDtype(pa.int64()),
    "moment": pd.ArrowDtype(pa.timestamp("us", tz="UTC")),
    "flag": pd.ArrowDtype(pa.bool_()),
}


def to_frame(raw: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """`raw` cut to `columns`, in their order and types, with a plain index. Works for no rows too."""
    frame = pd.DataFrame({column.name: raw[column.name].astype(_TYPES[column.kind]) for column in columns})
    return frame.reset_index(drop=True)
