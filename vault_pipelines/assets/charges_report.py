"""The charges report of a day and its check."""

import dagster as dg
import pandas as pd

from vault_core.reconciliation.charges_report import read_charges, wallet_charges_cents
from vault_core.reconciliation.report_columns import CHARGES
from vault_core.reconciliation.report_files import report_parquet
from vault_pipelines.assets.days import day_of, report_days
from vault_pipelines.assets.expectations import check_frame, day_of_check
from vault_pipelines.assets.making import make_report
from vault_pipelines.resources.vault_resource import VaultResource


@dg.asset(partitions_def=report_days, group_name="finance", kinds={"postgres", "parquet", "excel"})
def charges(context: dg.AssetExecutionContext, vault: VaultResource) -> dg.MaterializeResult[None]:
    """Every line that left a wallet for charges, with the tariff it came from and the ledger transaction that took it."""
    day = day_of(context.partition_key)
    with vault.reading() as connection:
        frame = read_charges(connection, day)
    return make_report(
        vault,
        "charges",
        day,
        frame,
        CHARGES,
        total_column="amount_cents",
        split_by="line",
        hidden=("system_fee", "ledger_transaction"),
    )


@dg.asset_check(asset=charges, blocking=True)
def charges_equal_the_ledger(context: dg.AssetCheckExecutionContext, vault: VaultResource) -> dg.AssetCheckResult:
    """The lines add up to what the ledger took from the wallets, each once."""
    import great_expectations.expectations as gxe

    key = day_of_check(context, charges.key)
    day = day_of(key)
    frame = pd.read_parquet(report_parquet(vault.reports_dir(), "charges", day), dtype_backend="pyarrow")
    with vault.reading() as connection:
        taken = wallet_charges_cents(connection, day)
    expectations = [
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=[column.name for column in CHARGES], meta={"means": "the documented columns"}
        ),
        gxe.ExpectTableRowCountToBeBetween(
            min_value=1 if taken else 0,
            max_value=None if taken else 0,
            meta={"means": "rows exactly when the ledger took something"},
        ),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["partner", "subject", "reference", "line"], meta={"means": "each line once"}
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="line", value_set=["mpesa_fee", "system_fee", "excise", "sms"], meta={"means": "a known line"}
        ),
        gxe.ExpectColumnValuesToBeBetween(column="amount_cents", min_value=1, meta={"means": "positive amounts"}),
        gxe.ExpectColumnValuesToNotBeNull(column="ledger_transaction", meta={"means": "taken by a ledger transaction"}),
    ]
    if len(frame):
        expectations.append(
            gxe.ExpectColumnSumToBeBetween(
                column="amount_cents", min_value=taken, max_value=taken, meta={"means": "what the ledger took from the wallets"}
            )
        )
    return check_frame(frame, expectations, day=key)
