"""The SMS report of a day and its check."""

import dagster as dg
import pandas as pd

from vault_core.reconciliation.report_columns import SMS
from vault_core.reconciliation.report_files import report_parquet
from vault_core.reconciliation.sms_report import count_messages, read_messages
from vault_pipelines.assets.days import day_of, report_days
from vault_pipelines.assets.expectations import check_frame, day_of_check
from vault_pipelines.assets.making import make_report
from vault_pipelines.resources.vault_resource import VaultResource


@dg.asset(partitions_def=report_days, group_name="finance", kinds={"postgres", "parquet", "excel"})
def sms(context: dg.AssetExecutionContext, vault: VaultResource) -> dg.MaterializeResult[None]:
    """Every message written: what it told, how it went, in how many parts, and what the wallet paid for it."""
    day = day_of(context.partition_key)
    with vault.reading() as connection:
        frame = read_messages(connection, day, vault.settings().sealer)
    return make_report(vault, "sms", day, frame, SMS, total_column="charged_cents", split_by="state", hidden=("phone", "message"))


@dg.asset_check(asset=sms, blocking=True)
def sms_is_charged_once(context: dg.AssetCheckExecutionContext, vault: VaultResource) -> dg.AssetCheckResult:
    """All messages are there, and the wallet paid the price of those that a gateway accepted and of no other."""
    import great_expectations.expectations as gxe

    key = day_of_check(context, sms.key)
    day = day_of(key)
    frame = pd.read_parquet(report_parquet(vault.reports_dir(), "sms", day), dtype_backend="pyarrow")
    with vault.reading() as connection:
        written = count_messages(connection, day)
    accepted = frame["state"].isin(["accepted", "delivered"])
    frame["due_cents"] = frame["price_cents"].where(accepted, 0)
    expectations = [
        gxe.ExpectTableColumnsToMatchOrderedList(
            column_list=[*(column.name for column in SMS), "due_cents"], meta={"means": "the documented columns"}
        ),
        gxe.ExpectTableRowCountToEqual(value=written, meta={"means": "every message written"}),
        gxe.ExpectColumnValuesToBeUnique(column="message", meta={"means": "each message once"}),
        gxe.ExpectColumnValuesToMatchRegex(column="phone", regex=r"^254[17]\d{8}$", meta={"means": "a Kenyan mobile number"}),
        gxe.ExpectColumnValuesToBeBetween(column="parts", min_value=1, max_value=10, meta={"means": "between one and ten parts"}),
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="charged_cents", column_B="due_cents", meta={"means": "charged exactly when accepted, at its price"}
        ),
    ]
    return check_frame(frame, expectations, day=key)
