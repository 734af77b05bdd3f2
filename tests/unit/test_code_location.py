"""What the Dagster code location offers: a renamed or lost asset, check, job, schedule or sensor must be noticed here."""

import subprocess
import sys

import dagster as dg
import pytest

from vault_pipelines.definitions import definitions


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    return definitions.get_repository_def()


def test_the_assets_and_what_they_stand_on(repository) -> None:
    graph = repository.asset_graph
    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == {
        "mifos_transactions": set(),
        "reconciliation": {"mifos_transactions"},
        "charges": set(),
        "sms": set(),
        "finance_day": {"reconciliation", "charges", "sms"},
    }


def test_every_report_has_a_check_that_blocks(repository) -> None:
    graph = repository.asset_graph
    blocking = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get_check_spec(key).blocking}
    assert blocking == {"reconciliation", "charges", "sms"}


def test_every_asset_has_a_partition_a_day_in_nairobi(repository) -> None:
    graph = repository.asset_graph
    zones = {graph.get(key).partitions_def.timezone for key in graph.get_all_asset_keys()}
    assert zones == {"Africa/Nairobi"}


def test_jobs_schedules_and_sensors(repository) -> None:
    assert {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"} == {"daily_reports", "disbursement_job"}
    assert [(s.name, s.cron_schedule, s.execution_timezone) for s in repository.schedule_defs] == [
        ("morning_reports_schedule", "15 5 * * *", "Africa/Nairobi")
    ]
    assert [(s.name, s.default_status) for s in repository.sensor_defs] == [
        ("approved_loans_sensor", dg.DefaultSensorStatus.RUNNING)
    ]


def test_a_failed_payment_run_is_never_repeated_by_dagster(repository) -> None:
    assert repository.get_job("disbursement_job").tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_loading_needs_no_settings_and_opens_nothing() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened while definitions loaded')\n"
        "socket.socket.connect = refuse\n"
        "import vault_pipelines.definitions\n"
        "assert 'great_expectations' not in sys.modules, 'its import takes seconds and belongs into the check'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env={"PATH": "", "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
