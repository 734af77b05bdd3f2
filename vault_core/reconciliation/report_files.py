"""A day's report as files: Parquet for programs, XLSX for people, and a row in `report_days` that says what was made.

A day that is made again with the same content changes nothing. With other content it becomes the next version: the earlier
files stay beside it under their version, so that nothing finance has read is rewritten in silence (DESIGN.md section 8).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection, text

from vault_core.errors import ConfigurationError
from vault_core.reconciliation.report_columns import Column
from vault_core.reconciliation.workbook import write_workbook

_LATEST = text(
    "SELECT version, content_sha256 FROM report_days WHERE report = :report AND day = :day ORDER BY version DESC LIMIT 1"
)
_RECORD = text(
    """
    INSERT INTO report_days (report, day, version, made_at, rows, total_cents, content_sha256)
    VALUES (:report, :day, :version, :made_at, :rows, :total_cents, :content_sha256)
    """
)


@dataclass(frozen=True, slots=True)
class MadeReport:
    """What was made: where it stands, which version, how many rows, the sum of its main amount in cents."""

    parquet: Path
    xlsx: Path
    version: int
    rows: int
    total_cents: int
    changed: bool


def write_report(
    connection: Connection,
    folder: Path,
    report: str,
    day: date,
    frame: pd.DataFrame,
    columns: Sequence[Column],
    *,
    total_column: str,
    now: datetime,
) -> MadeReport:
    """Writes `frame` under `folder/report/day/` and records it in the caller's transaction. Idempotent for equal content.

    Raises ConfigurationError if the folder cannot be written.
    """
    digest = content_digest(frame)
    total = int(frame[total_column].sum())
    latest = connection.execute(_LATEST, {"report": report, "day": day}).one_or_none()
    parquet = report_parquet(folder, report, day)
    place, xlsx = parquet.parent, parquet.with_suffix(".xlsx")
    if latest is not None and latest.content_sha256 == digest and parquet.exists() and xlsx.exists():
        return MadeReport(parquet, xlsx, latest.version, len(frame), total, changed=False)
    version = 1 if latest is None else latest.version + (latest.content_sha256 != digest)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if latest is not None and version > latest.version:
            for current in (parquet, xlsx):
                if current.exists():
                    current.rename(current.with_name(f"{report}.v{latest.version}{current.suffix}"))
        _write_whole(parquet, lambda path: frame.to_parquet(path, index=False))
        _write_whole(xlsx, lambda path: write_workbook(path, report, day, frame, columns))
    except OSError as error:
        raise ConfigurationError(
            f"the report cannot be written to {place}: {error.strerror}. Check the folder and the disk"
        ) from error
    if latest is None or version > latest.version:
        connection.execute(
            _RECORD,
            {
                "report": report,
                "day": day,
                "version": version,
                "made_at": now,
                "rows": len(frame),
                "total_cents": total,
                "content_sha256": digest,
            },
        )
    return MadeReport(parquet, xlsx, version, len(frame), total, changed=True)


def report_parquet(folder: Path, report: str, day: date) -> Path:
    """Where the newest version of a report stands."""
    return folder / report / day.isoformat() / f"{report}.parquet"


def content_digest(frame: pd.DataFrame) -> str:
    """The SHA-256 of the frame's rows. Ages move with the hour at which a report is made and are left out."""
    stable = frame.drop(columns=["age_hours"], errors="ignore")
    return hashlib.sha256(stable.to_csv(index=False).encode()).hexdigest()


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Never a half-written file under the real name."""
    draft = path.with_name(f".{path.name}.draft{path.suffix}")
    write(draft)
    draft.replace(path)
