"""The partitions of every report: one a day in Nairobi, from the first day the product can have run to today."""

from datetime import date

import dagster as dg

# end_offset=1 lets ops make today's report before the day is over; it is made again, as a new version, when the day is whole.
report_days = dg.DailyPartitionsDefinition(start_date="2026-01-01", timezone="Africa/Nairobi", end_offset=1)


def day_of(partition_key: str) -> date:
    """The day a partition key names."""
    return date.fromisoformat(partition_key)
