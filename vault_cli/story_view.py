"""Stories of payouts and payments as the command line shows them."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from vault_cli.moments import iso, moment
from vault_core.story import Event


def event_json(event: Event) -> dict[str, Any]:
    """An event of a story as --json prints it."""
    return {"at": iso(event.at), "who": event.who, "what": event.what, "refs": dict(event.refs)}


def print_events(console: Console, events: Sequence[Event]) -> None:
    """A story: a line an event, and below it the references that prove it."""
    for event in events:
        console.print(f"{moment(event.at)}  [bold]{escape(event.who)}[/]  {escape(event.what)}", soft_wrap=True, highlight=False)
        if event.refs:
            refs = "  ".join(f"{name} {value}" for name, value in event.refs.items())
            console.print(f"    [dim]{escape(refs)}[/]", soft_wrap=True, highlight=False)
