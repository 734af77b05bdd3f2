"""The Dagster side: one tick finds and groups, one run pays the batch."""

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, loan

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from vault_pipelines.resources.vault_resource import VaultResource
    from vault_pipelines.sensors.approved_loans_sensor import approved_loans_sensor
    from vault_pipelines.sensors.disbursement_job import disbursement_job


@pytest.fixture
def process_settings(monkeypatch: pytest.MonkeyPatch, database_url: str, callbacks: Any) -> Iterator[None]:
    """What `vault up` gives its processes."""
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("VAULT_MASTER_KEY", "test:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    monkeypatch.setenv("VAULT_PUBLIC_URL", f"http://127.0.0.1:{callbacks.port}")
    return


def tick() -> list[dg.RunRequest]:
    with dg.build_sensor_context(resources={"vault": VaultResource()}) as context:
        result = approved_loans_sensor(context)
    return list(result.run_requests or []) if isinstance(result, dg.SensorResult) else []


def run(request: Any) -> dg.ExecuteInProcessResult:
    return disbursement_job.execute_in_process(
        run_config=request.run_config, resources={"vault": VaultResource()}, raise_on_error=False, tags=request.tags
    )


@pytest.mark.usefixtures("process_settings")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_one_tick_asks_for_one_run_that_pays_the_batch(open_day) -> None:
    async with open_day([loan(1), loan(2), loan(3)]) as day:
        await day.fund(1000)
        (request,) = await asyncio.to_thread(tick)
        batch = (await day.rows("SELECT id FROM disbursement_batches"))[0]["id"]
        assert request.run_key == f"disburse:{batch}"
        assert request.tags["partner"] == "alpha"
        assert await asyncio.to_thread(tick) == []
        ended = await asyncio.to_thread(run, request)
        assert ended.success
        assert await day.states() == {1: "accepted", 2: "accepted", 3: "accepted"}
        assert (await day.rows("SELECT finished_at FROM disbursement_batches"))[0]["finished_at"] is not None


@pytest.mark.usefixtures("process_settings")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_run_of_a_batch_that_does_not_exist_fails(open_day) -> None:
    async with open_day([]) as day:
        missing = dg.RunRequest(
            run_config={"ops": {"send_disbursement_batch": {"config": {"batch_id": "01900000-0000-7000-8000-000000000000"}}}}
        )
        ended = await asyncio.to_thread(run, missing)
        assert not ended.success
        assert isinstance(day, Day)


def test_a_failed_run_is_not_repeated_by_dagster() -> None:
    assert disbursement_job.tags["dagster/retry_on_asset_or_op_failure"] == "false"
    assert disbursement_job.executor_def is dg.in_process_executor
