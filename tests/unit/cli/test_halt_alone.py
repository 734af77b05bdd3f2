"""`vault halt` is a way of its own into the commands: the halt is written before anything is imported that it does not need."""

import json
import subprocess
import sys

from local_stack.home import REPOSITORY

SLOW = ("numpy", "pyarrow", "aiokafka", "vault_cli.main", "vault_cli.partner", "vault_core.disbursements.under_way")


def test_nothing_slow_is_imported_before_the_halt_is_written() -> None:
    look = f"import json, sys, vault_cli.halt_alone; print(json.dumps([name for name in {SLOW!r} if name in sys.modules]))"
    told = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True, cwd=REPOSITORY)
    assert json.loads(told.stdout) == []


def test_vault_halt_is_run_alone_and_any_other_command_with_all() -> None:
    def usage(*words: str) -> str:
        line = [sys.executable, "-m", "vault_cli", *words, "--help"]
        return subprocess.run(line, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout

    assert "Usage: vault halt" in usage("halt")
    assert "Usage: vault disbursements show" in usage("disbursements", "show")
