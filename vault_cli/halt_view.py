"""A halt of all sending, and what goes when one ends, as the command line shows them."""

from typing import Any

from rich.markup import escape

from vault_cli.moments import iso, moment
from vault_core.disbursements.payout_halt import Halt
from vault_core.disbursements.sendable import Sendable


def halt_json(halt: Halt | None) -> dict[str, Any] | None:
    """A halt of all sending as --json prints it."""
    if halt is None:
        return None
    return {"begun_at": iso(halt.begun_at), "begun_by": halt.begun_by, "reason": halt.reason}


def halt_banner(halt: Halt) -> str:
    """One line that nobody overlooks."""
    return (
        f"[bold red]all sending is halted[/] since {moment(halt.begun_at)} by {escape(halt.begun_by)}: {escape(halt.reason)}; "
        "`vault halt --end` lets it go on"
    )


def sendable_words(one: Sendable) -> str:
    """What will be sent for a partner, in words."""
    return f"{one.partner}: {one.loans} loans, {one.total}, the oldest found {moment(one.oldest)}"


def sendable_json(one: Sendable) -> dict[str, Any]:
    """What will be sent for a partner as --json prints it."""
    return {"partner": one.partner, "loans": one.loans, "total_cents": one.total.cents, "oldest": moment(one.oldest)}
