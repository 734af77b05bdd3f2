from datetime import UTC, datetime

import dagster as dg
import pytest

from vault_pipelines.assets.morning_reports import morning_reports_schedule
from vault_pipelines.definitions import definitions


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 11, 24, 2, 15, tzinfo=UTC), "2026-11-23"),  # 05:15 in Nairobi
        (datetime(2026, 11, 23, 21, 30, tzinfo=UTC), "2026-11-23"),  # 00:30 of the 24th in Nairobi, still the 23rd in UTC
    ],
)
def test_the_schedule_asks_for_the_day_before_in_nairobi(moment, day) -> None:
    context = dg.build_schedule_context(scheduled_execution_time=moment, repository_def=definitions.get_repository_def())
    request = morning_reports_schedule.evaluate_tick(context).run_requests[0]
    assert (request.partition_key, request.run_key) == (day, f"daily_reports:{day}")
