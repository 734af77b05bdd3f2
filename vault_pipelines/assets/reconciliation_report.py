"""The reconciliation report of a day and the check that stands between it and everything downstream."""

import dagster as dg
import pandas as pd

from vault_core.reconciliation.report_columns import RECONCILIATION
from vault_core.reconciliation.report_files import report_parquet
from vault_core.reconciliation.three_way import OUTCOMES, mark_explained, read_control, read_reconciliation
from vault_pipelines.assets.days import day_of, report_days
from vault_pipelines.assets.expectations import check_frame, day_of_check
from vault_pipelines.assets.making import make_report
from vault_pipelines.assets.mifos_transactions import mifos_transactions
from vault_pipelines.resources.vault_resource import VaultResource


@dg.asset(partitions_def=report_days, group_name="finance", deps=[mifos_transactions], kinds={"postgres", "parquet", "excel"})
def reconciliation(context: dg.AssetExecutionContext, vault: VaultResource) -> dg.MaterializeResult[None]:
    """Our ledger against M-Pesa's evidence against Mifos X, one row a receipt, breaks typed and aged."""
    day = day_of(context.partition_key)
    with vault.reading() as connection:
        frame = read_reconciliation(connection, day, now=vault.clock().now())
    return make_report(
        vault,
        "reconciliation",
        day,
        frame,
        RECONCILIATION,
        total_column="ledger_cents",
        split_by="outcome",
        hidden=("reference",),
    )


@dg.asset_check(asset=reconciliation, blocking=True)
def reconciliation_is_explained(context: dg.AssetCheckExecutionContext, vault: VaultResource) -> dg.AssetCheckResult:
    """Complete against the ledger, one row a receipt, and no break that neither a case nor its youth explains."""
    import great_expectations.expectations as gxe

    key = day_of_check(context, reconciliation.key)
    day = day_of(key)
    frame = mark_explained(pd.read_parquet(report_parquet(vault.reports_dir(), "reconciliation", day), dtype_backend="pyarrow"))
    with vault.reading() as connection:
        control = read_control(connection, day)
    booked = int(frame["ledger_cents"].notna().sum())
    expectations = [
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=[*(column.name for column in RECONCILIATION), "explained"], meta={"means": "the documented columns"}
        ),
        gxe.ExpectTableRowCountToBeBetween(
            min_value=control.receipts,
            max_value=len(frame) - booked + control.receipts,
            meta={"means": "every receipt of the ledger"},
        ),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["partner", "flow", "receipt"], meta={"means": "one row a receipt"}),
        gxe.ExpectColumnValuesToBeInSet(column="outcome", value_set=list(OUTCOMES), meta={"means": "a known outcome"}),
        gxe.ExpectColumnValuesToBeInSet(column="explained", value_set=[True], meta={"means": "no break without an open case"}),
        gxe.ExpectColumnValuesToBeBetween(column="ledger_cents", min_value=1, meta={"means": "positive amounts"}),
    ]
    if booked:
        expectations.append(
            gxe.ExpectColumnSumToBeBetween(
                column="ledger_cents", min_value=control.cents, max_value=control.cents, meta={"means": "the ledger's own total"}
            )
        )
    return check_frame(frame, expectations, day=key)
