"""Disbursements and their stories as the command line shows them."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vault_cli.moments import iso, moment
from vault_cli.story_view import print_events
from vault_core.disbursements.payout_list import ListedPayout
from vault_core.disbursements.resolving import Resolution
from vault_core.disbursements.states import State
from vault_core.disbursements.stuck_groups import StuckGroup
from vault_core.story import Event

_WIDE = 200


def payout_json(payout: ListedPayout) -> dict[str, Any]:
    """A disbursement as --json prints it; times are ISO with the offset of Nairobi."""
    return {
        "id": str(payout.id),
        "partner": payout.partner,
        "loan_account_no": payout.loan_account_no,
        "loan_id": payout.loan_id,
        "tranche": payout.tranche,
        "payout_cents": payout.payout.cents,
        "principal_cents": payout.principal.cents,
        "state": payout.state.value,
        "held_for": None if payout.held_for is None else payout.held_for.value,
        "reason": payout.reason,
        "phone": payout.phone,
        "found_by": payout.found_by,
        "detected_at": iso(payout.detected_at),
        "since": iso(payout.since),
        "due_at": iso(payout.due_at),
        "instructions": payout.instructions,
        "receipt": payout.receipt,
        "paid_at": iso(payout.paid_at),
        "posted_at": iso(payout.posted_at),
        "stuck": payout.next.stuck,
        "next": payout.next.words,
    }


def resolution_json(resolution: Resolution) -> dict[str, Any]:
    """What a person stated as --json prints it."""
    return {
        "id": str(resolution.id),
        "partner": resolution.partner,
        "loan_account_no": resolution.loan_account_no,
        "disbursement": str(resolution.disbursement_id),
        "instruction": resolution.number,
        "verdict": resolution.verdict,
        "receipt": resolution.receipt,
        "amount_cents": resolution.amount.cents,
        "paid_at": iso(resolution.paid_at),
        "evidence": resolution.evidence,
        "second_person": resolution.second_person,
        "overturns": resolution.overturns,
        "proposed_by": resolution.proposed_by,
        "proposed_at": iso(resolution.proposed_at),
        "state": resolution.state,
        "effect": resolution.effect,
    }


def stuck_json(group: StuckGroup) -> dict[str, Any]:
    """A group of those that are stuck as --json prints it."""
    return {
        "partner": group.partner,
        "state": group.state.value,
        "held_for": None if group.held_for is None else group.held_for.value,
        "loans": group.loans,
        "total_cents": group.total.cents,
        "since": iso(group.since),
    }


def print_stuck(console: Console, groups: Sequence[StuckGroup], *, shown: int) -> None:
    """How many are stuck, with whom and for what: a line a group, the largest first. `shown`: how many are listed below."""
    loans = sum(group.loans for group in groups)
    rest = "" if shown == loans else f", the {shown} oldest below (--most, --partner, --state, --held-for)"
    console.print(f"[bold]{loans} stuck[/]{rest}")
    for group in groups:
        state = group.state.value if group.held_for is None else f"held: {group.held_for.value}"
        console.print(f"  {group.loans:>5}  {group.partner}  {state}  {group.total}  the first since {moment(group.since)}")
    console.print()


def print_payouts(console: Console, payouts: Sequence[ListedPayout]) -> None:
    """The list: a line a disbursement, and below it, unless it is over, why it waits and what comes next."""
    table = Table("found", "partner", "loan", "pay", "state", "receipt", box=None, pad_edge=False, show_lines=False)
    for payout in payouts:
        state = payout.state.value if payout.held_for is None else f"held: {payout.held_for.value}"
        table.add_row(
            moment(payout.detected_at)[:16],
            payout.partner,
            escape(_loan(payout)),
            str(payout.payout),
            f"[red]{state}[/]" if payout.next.stuck else state,
            payout.receipt or "",
        )
    lines = _lines(table, console)
    console.print(lines[0], soft_wrap=True, highlight=False)
    for payout, line in zip(payouts, lines[1:], strict=True):
        console.print(line, soft_wrap=True, highlight=False)
        if payout.state is not State.DISBURSED:
            why = f"{payout.reason}. " if payout.reason else ""
            console.print(f"    {escape(why)}[dim]Next: {escape(payout.next.words)}[/]", soft_wrap=True, highlight=False)


def _lines(table: Table, console: Console) -> list[Text]:
    """The table's lines, as wide as they need to be, so that others can stand between them."""
    wide = console.options.update(width=_WIDE)
    return [
        Text.assemble(*((segment.text, segment.style or "") for segment in line))
        for line in console.render_lines(table, wide, pad=False)
    ]


def print_story(console: Console, payout: ListedPayout, events: Sequence[Event]) -> None:
    """The head of a disbursement and its story."""
    state = payout.state.value if payout.held_for is None else f"held for {payout.held_for.value}"
    lines = {
        "disbursement": str(payout.id),
        "loan": f"{_loan(payout)} of {payout.partner} (loan id {payout.loan_id})",
        "pay": f"{payout.payout}" + (f" of {payout.principal}" if payout.payout != payout.principal else ""),
        "to": payout.phone or "no number",
        "state": state + (f" since {moment(payout.since)}" if payout.next.stuck else ""),
        "why": payout.reason or "",
        "receipt": payout.receipt or "",
        "next": payout.next.words,
    }
    for name, value in lines.items():
        if value:
            console.print(f"[bold]{name:<13}[/]{escape(value)}", soft_wrap=True, highlight=False)
    console.print()
    print_events(console, events)


def print_proposals(console: Console, proposals: Sequence[Resolution]) -> None:
    """What waits for a second person."""
    for one in proposals:
        verdict = f"paid, receipt {one.receipt}" if one.verdict == "paid" else "not paid"
        verdict += f", against what is booked ({one.overturns})" if one.overturns is not None else ""
        console.print(
            f"{moment(one.proposed_at)}  {one.partner}  loan {escape(one.loan_account_no)}  {one.amount}  {verdict}  by "
            f"{escape(one.proposed_by)}: {escape(one.evidence)}\n    approve or reject: {one.disbursement_id}",
            soft_wrap=True,
            highlight=False,
        )


def _loan(payout: ListedPayout) -> str:
    return payout.loan_account_no if payout.tranche == 1 else f"{payout.loan_account_no} tranche {payout.tranche}"
