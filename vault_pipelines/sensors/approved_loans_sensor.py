"""Finds approved loans in the partners' Mifos X and asks for one run a batch."""

import dagster as dg

from vault_core.disbursements.batches import Batch, form_batches
from vault_core.disbursements.detection import PollReport, poll_due
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime
from vault_pipelines.resources.vault_resource import VaultResource
from vault_pipelines.sensors.disbursement_job import disbursement_job

TICK_SECONDS = 10  # of looking which partners are due; each partner is polled at its own, longer interval (VAULT_POLL_EVERY)


@dg.sensor(
    job=disbursement_job,
    minimum_interval_seconds=TICK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Polls the Mifos X of every partner that is due for approved loans and pays what is ready, a run a batch.",
)
def approved_loans_sensor(context: dg.SensorEvaluationContext, vault: VaultResource) -> dg.SensorResult | dg.SkipReason:
    """One tick. A partner that cannot be polled is logged and recorded; the others go on.

    The batch id is the run key: a tick that is repeated after a crash requests nothing twice.
    """
    reports, batches = vault.run(_poll_and_group)
    for report in reports:
        if report.error is not None:
            context.log.warning("partner %s could not be polled: %s", report.partner_name, report.error)
        else:
            context.log.info("partner %s: %d approved, %d new", report.partner_name, report.approved, report.found)
    if not batches:
        return dg.SkipReason(_why_nothing(reports))
    return dg.SensorResult(run_requests=[_run_request(batch) for batch in batches])


async def _poll_and_group(runtime: Runtime, connections: Connections) -> tuple[list[PollReport], list[Batch]]:
    return await poll_due(runtime, connections), await form_batches(runtime)


def _run_request(batch: Batch) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"disburse:{batch.id}",
        run_config={"ops": {"send_disbursement_batch": {"config": {"batch_id": str(batch.id)}}}},
        tags={"partner": batch.partner_name, "loans": str(batch.loans)},
    )


def _why_nothing(reports: list[PollReport]) -> str:
    if not reports:
        return "no partner is due, and nothing waits to be sent"
    failed = ", ".join(f"{report.partner_name} ({report.error})" for report in reports if report.error is not None)
    return f"polled {len(reports)} partners, nothing to send" + (f"; could not poll {failed}" if failed else "")
