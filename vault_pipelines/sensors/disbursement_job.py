"""The run that pays one batch of loans of one partner."""

from dataclasses import asdict
from uuid import UUID

import dagster as dg

from vault_core.disbursements.sending import send_batch
from vault_pipelines.resources.vault_resource import VaultResource

# A run that failed in our own code is not repeated by Dagster: what is left to send is in PostgreSQL, and the next tick finds it.
RUN_TAGS = {"dagster/retry_on_asset_or_op_failure": "false"}


class BatchToSend(dg.Config):
    """Which batch to send."""

    batch_id: str


@dg.op(description="Sends every ready loan of the batch over M-Pesa B2C, many at once, each written before it is sent.")
def send_disbursement_batch(context: dg.OpExecutionContext, config: BatchToSend, vault: VaultResource) -> None:
    """Sends the batch. Fails if it cannot be read; a loan that cannot be sent is a state of that loan, not a failed run."""
    batch_id = UUID(config.batch_id)
    report = vault.run(lambda runtime, connections: send_batch(runtime, connections, batch_id))
    context.add_output_metadata(asdict(report))
    context.log.info(
        "batch %s: %d accepted, %d refused, %d unknown, %d not sent, %d held back",
        batch_id,
        report.accepted,
        report.refused,
        report.unknown,
        report.not_sent,
        report.held,
    )


@dg.job(executor_def=dg.in_process_executor, tags=RUN_TAGS, description="Pays one batch of approved loans: one run a batch.")
def disbursement_job() -> None:
    """One op in one process: a run costs seconds, so thousands of loans share one."""
    send_disbursement_batch()
