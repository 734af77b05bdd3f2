"""What Mifos X holds of a day, read back from every account that the day's money touched."""

import dagster as dg

from vault_core.reconciliation.core_reading import read_core_day
from vault_pipelines.assets.days import day_of, report_days
from vault_pipelines.resources.vault_resource import VaultResource


@dg.asset(
    partitions_def=report_days,
    group_name="finance",
    kinds={"postgres"},
    # Mifos X may be down for a while in the morning; reading again harms nothing.
    retry_policy=dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL),
)
def mifos_transactions(context: dg.AssetExecutionContext, vault: VaultResource) -> dg.MaterializeResult[None]:
    """The third leg of the reconciliation: transactions of the day's accounts, reversals included, kept in `core_lines`."""
    day = day_of(context.partition_key)
    reading = vault.run(lambda runtime, connections: read_core_day(runtime, connections, day))
    return dg.MaterializeResult(
        metadata={"dagster/row_count": reading.transactions, "accounts": reading.accounts, "transactions": reading.transactions}
    )
