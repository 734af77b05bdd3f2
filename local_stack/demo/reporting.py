"""Making the day's reports as ops would: a run of the Dagster job, launched through the webserver, watched to its end."""

import asyncio
from datetime import date
from pathlib import Path

import pandas as pd
from dagster import DagsterRunStatus
from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError

from vault_core.errors import PermanentError, Unreachable
from vault_core.reconciliation.report_files import report_parquet

_LOOK_EVERY = 1.0
_LONGEST = 240.0
_OVER = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}


async def make_reports(dagster_port: int, day: date) -> str:
    """Runs `daily_reports` for `day` and returns the run's id when it has succeeded.

    Raises PermanentError if the run failed (a blocking check did, as a rule) and Unreachable if it did not end in four minutes.
    """
    try:
        client = await asyncio.to_thread(DagsterGraphQLClient, "127.0.0.1", port_number=dagster_port)
        run_id = await asyncio.to_thread(
            client.submit_job_execution, "daily_reports", tags={"dagster/partition": day.isoformat()}
        )
        for _ in range(int(_LONGEST / _LOOK_EVERY)):
            status = await asyncio.to_thread(client.get_run_status, run_id)
            if status in _OVER:
                break
            await asyncio.sleep(_LOOK_EVERY)
    except DagsterGraphQLClientError as error:
        raise Unreachable(f"Dagster did not run the reports of {day}: {error}") from error
    if status is DagsterRunStatus.SUCCESS:
        return run_id
    if status in _OVER:
        raise PermanentError(
            f"the reports of {day} were not made: run {run_id} ended as {status.value}. Open it in the Dagster UI"
        )
    raise Unreachable(f"the reports of {day} are not made after {_LONGEST:.0f} s: run {run_id} is {status.value}")


def read_reports(folder: Path, day: date) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The reconciliation, charges and SMS reports of `day`, as finance would open them."""
    reconciliation, charges, sms = (
        pd.read_parquet(report_parquet(folder, report, day), dtype_backend="pyarrow")
        for report in ("reconciliation", "charges", "sms")
    )
    return reconciliation, charges, sms
