"""A day in one table: what finance reads first."""

import pandas as pd

from vault_core.reconciliation.frames import to_frame
from vault_core.reconciliation.report_columns import FINANCE_DAY
from vault_core.reconciliation.three_way import MATCHED


def summarise_day(reconciliation: pd.DataFrame, charges: pd.DataFrame, sms: pd.DataFrame) -> pd.DataFrame:
    """Counts and sums (cents) per partner and figure, in the columns FINANCE_DAY. Pure; no rows for an empty day."""
    breaks = reconciliation[reconciliation["outcome"] != MATCHED]
    parts = [
        _figures(reconciliation, "flow", "ledger_cents", "{}s"),
        _figures(breaks, "outcome", "difference_cents", "break: {}"),
        _figures(charges, "line", "amount_cents", "charge: {}"),
        _figures(sms, "state", "charged_cents", "sms {}"),
    ]
    return to_frame(pd.concat(parts, ignore_index=True).sort_values(["partner", "figure"]), FINANCE_DAY)


def _figures(frame: pd.DataFrame, by: str, amount: str, name: str) -> pd.DataFrame:
    grouped = frame.groupby(["partner", by], observed=True)[amount].agg(["size", "sum"]).reset_index()
    return pd.DataFrame(
        {
            "partner": grouped["partner"].astype("string[pyarrow]"),
            "figure": pd.Series([name.format(value) for value in grouped[by]], dtype="string[pyarrow]"),
            "count": grouped["size"].astype("int64[pyarrow]"),
            "amount_cents": grouped["sum"].astype("int64[pyarrow]"),
        }
    )
