"""The job that makes a day's reports, and the schedule that starts it each morning for the day before."""

from datetime import timedelta

import dagster as dg

from vault_core.clock import NAIROBI
from vault_pipelines.assets.charges_report import charges
from vault_pipelines.assets.finance_day import finance_day
from vault_pipelines.assets.mifos_transactions import mifos_transactions
from vault_pipelines.assets.reconciliation_report import reconciliation
from vault_pipelines.assets.sms_report import sms

daily_reports_job = dg.define_asset_job(
    "daily_reports",
    selection=dg.AssetSelection.assets(mifos_transactions, reconciliation, charges, sms, finance_day),
    # One process for five small steps: a process each would cost seconds a step (docs/architecture.md).
    executor_def=dg.in_process_executor,
    description="Reads Mifos X back and makes the reconciliation, charges, SMS and finance-day reports of one day.",
)


@dg.schedule(
    job=daily_reports_job,
    cron_schedule="15 5 * * *",
    execution_timezone="Africa/Nairobi",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def morning_reports_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """At 05:15 in Nairobi, the reports of yesterday."""
    yesterday = (context.scheduled_execution_time.astimezone(NAIROBI) - timedelta(days=1)).date().isoformat()
    return dg.RunRequest(run_key=f"daily_reports:{yesterday}", partition_key=yesterday)
