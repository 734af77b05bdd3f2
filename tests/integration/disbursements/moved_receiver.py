"""The receiver at the time of a crash day, which stands in a file. On the machine's own time M-Pesa's word would be of the future."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from callback_receiver import app

CLOCK_FILE = "CLOCK_FILE"  # the environment variable that names it
MOVED_RECEIVER = f"{__name__}:application"


@dataclass(frozen=True)
class _Clock:
    file: Path

    def now(self) -> datetime:
        passed = float(self.file.read_text()) if self.file.exists() else 0.0
        return datetime.now(UTC) + timedelta(seconds=passed)


application = app.application
if CLOCK_FILE in os.environ:  # it is the receiver's process, not the test's
    app.SystemClock = lambda _offset: _Clock(Path(os.environ[CLOCK_FILE]))  # type: ignore[attr-defined, assignment, misc]
