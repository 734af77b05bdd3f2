"""Days and times as people write them."""

from datetime import UTC, datetime

import pytest

from vault_cli.moments import read_day, read_instant, read_span
from vault_core.errors import InvalidInput

NOW = datetime(2026, 11, 24, 22, 30, tzinfo=UTC)  # already the 25th in Nairobi


def test_a_day_is_nairobis_and_stands_for_its_start_or_its_end() -> None:
    assert read_instant("2026-11-20", day="start") == datetime(2026, 11, 19, 21, tzinfo=UTC)
    assert read_instant("2026-11-20", day="end") == datetime(2026, 11, 20, 21, tzinfo=UTC)


def test_a_time_is_nairobis_unless_it_says_otherwise() -> None:
    assert read_instant("2026-11-20T14:30", day="end") == datetime(2026, 11, 20, 11, 30, tzinfo=UTC)
    assert read_instant("2026-11-20T14:30:00.5+00:00", day="end") == datetime(2026, 11, 20, 14, 30, 0, 500_000, tzinfo=UTC)
    assert read_instant("2026-11-20T14:30Z", day="start") == datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


def test_a_span_is_this_month_up_to_now_unless_it_is_said() -> None:
    assert read_span(None, None, NOW) == (datetime(2026, 10, 31, 21, tzinfo=UTC), NOW)
    assert read_span("2026-11-20", "2026-11-20", NOW) == (
        datetime(2026, 11, 19, 21, tzinfo=UTC),
        datetime(2026, 11, 20, 21, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-13-01", "20-11-2026", "2026-11-20T25:00", "", "20261120", "2026-W47-1", "0001-01-01", "9999-12-31T10:00"],
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(InvalidInput, match="neither a day nor a time"):
        read_instant(text, day="end")


@pytest.mark.parametrize("text", ["2026-11-20T10:00", "today", "2026-02-30"])
def test_what_is_no_day_is_told(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no day"):
        read_day(text)
