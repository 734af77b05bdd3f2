"""Great Expectations inside a Dagster asset check: an ephemeral context over the report as it was written."""

import os
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd


def day_of_check(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> str:
    """The partition key that this run makes, or, when the check is run alone, the one that was made last.

    Partitioned checks are still in preview in Dagster 1.13 and may change in a patch release.
    """
    key = context.run.tags.get("dagster/partition")
    if key is not None:
        return str(key)
    event = context.instance.get_latest_materialization_event(asset)
    if event is None or event.asset_materialization is None or event.asset_materialization.partition is None:
        raise dg.Failure(f"{asset.to_user_string()} was never made, so there is nothing to check. Materialise a day first")
    return str(event.asset_materialization.partition)


def check_frame(frame: pd.DataFrame, expectations: Sequence[Any], *, day: str) -> dg.AssetCheckResult:
    """Validates `frame` and says which expectations failed and on how many rows. Failing is an ERROR, so that it blocks.

    Every list of expectations holds a row count: an empty frame passes all the others.
    """
    # The import takes seconds, so it is made here; the library reads this switch when it is imported.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    plain = frame.astype(object).where(frame.notna(), None)
    batch = context.data_sources.add_pandas("report").add_dataframe_asset("day").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="report", expectations=list(expectations)))
    result = batch.get_batch({"dataframe": plain}).validate(suite)
    failed = [_failure(outcome) for outcome in result.results if not outcome.success]
    return dg.AssetCheckResult(
        passed=bool(result.success),
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{day}: {len(result.results)} expectations on {len(frame)} rows, {len(failed)} failed",
        metadata={
            "day": day,
            "rows": len(frame),
            "expectations": len(result.results),
            "failed": dg.MetadataValue.md("\n".join(f"- {line}" for line in failed) or "none"),
        },
    )


def _failure(outcome: Any) -> str:
    config = outcome.expectation_config
    subject = config.kwargs.get("column") or config.kwargs.get("column_list") or "the table"
    meaning = (config.meta or {}).get("means", config.type)
    details = outcome.result or {}
    if not details and outcome.exception_info:
        return f"{meaning} ({subject}): could not be evaluated: {str(outcome.exception_info)[:500]}"
    seen = details.get("observed_value", details.get("partial_unexpected_list"))
    count = details.get("unexpected_count")
    return f"{meaning} ({subject}): found {seen}" + (f", {count} rows" if count else "")
