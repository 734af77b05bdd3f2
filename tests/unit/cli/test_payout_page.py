"""The pages for ops name commands, options and causes that are there: whoever is on call copies them."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from vault_cli.main import app
from vault_core.disbursements.eligibility import HeldFor

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in ("payout_stuck", "unmatched_payment", "feeds", "api")}
COMMANDS = sorted(
    {
        found.strip()
        for page in PAGES.values()
        for found in [
            *re.findall(r"`(?:\./)?(vault [^`]+)`", page.replace("\n", " ")),
            *re.findall(r"^ +(?:\./)?(vault .+)$", page, re.MULTILINE),
        ]
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_pages_exists_with_its_options(line: str) -> None:
    line = re.sub(r"vault collect (?=[A-Z])", "vault collect ask ", line)  # as the command reads it
    words = shlex.split(line.split("#", maxsplit=1)[0])[1:]
    command: Any = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not (getattr(command, "commands", {}) and words and not words[0].startswith("-")), f"{line}: no {words[0]}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"{line}: {word}"


def test_every_cause_of_a_hold_stands_in_its_page() -> None:
    assert [cause for cause in HeldFor if f"`{cause.value}`" not in PAGES["payout_stuck"]] == []
