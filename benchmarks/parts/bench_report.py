"""What a benchmark prints and writes: figures, ratios and the machine they were taken on (the shape of `vault bench --json`)."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure against another of the same run: what can be compared between machines."""

    name: str
    value: float
    against: str


def publish(benchmark: str, figures: Sequence[Figure], ratios: Sequence[Ratio], json_file: Path | None) -> None:
    """Prints the report, and writes it as JSON where a file is given."""
    report = {
        "benchmark": benchmark,
        "results": [asdict(figure) for figure in figures],
        "ratios": [asdict(ratio) for ratio in ratios],
        "machine": machine(),
    }
    table = Table("what", "figure", "unit", title=benchmark)
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.2f}", figure.unit)
    for ratio in ratios:
        table.add_row(f"[bold]{ratio.name}[/]", f"[bold]{ratio.value:.3f}[/]", f"of {ratio.against}")
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What the figures were taken on, and how busy it was with other things before."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
    }


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark's command line: every benchmark has --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, default=None, help="write the report to this file")
    return parser


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
