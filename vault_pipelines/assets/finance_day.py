"""The day in one table for finance: made only when every report it stands on passed its check."""

import dagster as dg
import pandas as pd

from vault_core.reconciliation.day_summary import summarise_day
from vault_core.reconciliation.report_columns import FINANCE_DAY
from vault_core.reconciliation.report_files import report_parquet
from vault_pipelines.assets.charges_report import charges
from vault_pipelines.assets.days import day_of, report_days
from vault_pipelines.assets.making import make_report
from vault_pipelines.assets.reconciliation_report import reconciliation
from vault_pipelines.assets.sms_report import sms
from vault_pipelines.resources.vault_resource import VaultResource


@dg.asset(partitions_def=report_days, group_name="finance", deps=[reconciliation, charges, sms], kinds={"parquet", "excel"})
def finance_day(context: dg.AssetExecutionContext, vault: VaultResource) -> dg.MaterializeResult[None]:
    """Per partner: money out, money in, breaks, charges by line, messages. Stays unmade while a blocking check fails."""
    day = day_of(context.partition_key)
    folder = vault.reports_dir()
    frames = [
        pd.read_parquet(report_parquet(folder, report, day), dtype_backend="pyarrow")
        for report in ("reconciliation", "charges", "sms")
    ]
    return make_report(
        vault, "finance_day", day, summarise_day(*frames), FINANCE_DAY, total_column="amount_cents", split_by="figure"
    )
