"""The Dagster code location: everything it offers, listed by hand. Loading it does no I/O."""

import dagster as dg

from vault_pipelines.assets.charges_report import charges, charges_equal_the_ledger
from vault_pipelines.assets.finance_day import finance_day
from vault_pipelines.assets.mifos_transactions import mifos_transactions
from vault_pipelines.assets.morning_reports import daily_reports_job, morning_reports_schedule
from vault_pipelines.assets.reconciliation_report import reconciliation, reconciliation_is_explained
from vault_pipelines.assets.sms_report import sms, sms_is_charged_once
from vault_pipelines.resources.vault_resource import VaultResource
from vault_pipelines.sensors.approved_loans_sensor import approved_loans_sensor
from vault_pipelines.sensors.disbursement_job import disbursement_job

definitions = dg.Definitions(
    assets=[mifos_transactions, reconciliation, charges, sms, finance_day],
    asset_checks=[reconciliation_is_explained, charges_equal_the_ledger, sms_is_charged_once],
    jobs=[daily_reports_job, disbursement_job],
    schedules=[morning_reports_schedule],
    sensors=[approved_loans_sensor],
    resources={"vault": VaultResource()},
)
