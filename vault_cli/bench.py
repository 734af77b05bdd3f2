"""`vault bench`: the benchmarks of this clone, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vault_cli.session import fail
from vault_core.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parent.parent
_FOLDER = REPOSITORY / "benchmarks"
PASSES_OPTIONS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which benchmark; without it they are listed.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures and ratios to this file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Run all of them, one after another.")] = False,
) -> None:
    """Run a benchmark: it brings its own PostgreSQL, Kafka and sandbox, prints its ratios, and leaves nothing behind.

    Options after its name that are not this command's are the benchmark's own (docs/benchmarks.md).
    --json writes {"benchmark", "results": [{"name", "value", "unit"}], "ratios": [{"name", "value", "against"}], "machine"};
    with --all, a list of these.
    """
    known = names()
    if name is None and not every:
        for known_name in known:
            Console().print(f"{known_name}: {_promise(known_name)}", highlight=False, soft_wrap=True)
        return
    if name is not None and name not in known:
        fail(f"there is no benchmark {name!r}: {', '.join(known) or 'none is here'}", 2)
    if context.args and every:
        fail(f"{' '.join(context.args)}: options of one benchmark do not go with --all", 2)
    reports = [_run(chosen, context.args) for chosen in ([name] if name is not None else known)]
    if json_file is not None:
        _write(json_file, reports if every else reports[0])


def names() -> list[str]:
    """The benchmarks there are: the files of `benchmarks/`."""
    return sorted(file.stem for file in _FOLDER.glob("*.py") if not file.stem.startswith("_"))


def _promise(name: str) -> str:
    """The first line of the benchmark's docstring."""
    text = (_FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return text.split('"""')[1].strip().splitlines()[0] if '"""' in text else ""


def _run(name: str, options: Sequence[str]) -> Any:
    with tempfile.TemporaryDirectory(prefix="vault-bench-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--json", str(report)]
        done = subprocess.run(command, cwd=REPOSITORY, check=False)
        if done.returncode != 0 or not report.exists():
            fail(f"the benchmark {name} failed (exit code {done.returncode}); what it said stands above", 1)
        return json.loads(report.read_text(encoding="utf-8"))


def _write(file: Path, report: Any) -> None:
    try:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"the report cannot be written to {file}: {error.strerror}") from error
