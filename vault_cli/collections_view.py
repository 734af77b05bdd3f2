"""Payments, decisions and stories as the command line shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from vault_cli.moments import iso, moment
from vault_cli.story_view import print_events
from vault_core.collections.decision_rows import Decision
from vault_core.collections.listing import ListedCollection
from vault_core.story import Event


def collection_json(one: ListedCollection, now: datetime) -> dict[str, Any]:
    """A payment as --json prints it; times are ISO with the offset of Nairobi."""
    return {
        "partner": one.partner,
        "short_code": one.short_code,
        "receipt": one.receipt,
        "amount_cents": one.amount.cents,
        "happened_at": iso(one.happened_at),
        "age_hours": int((now - one.happened_at).total_seconds() // 3600),
        "state": one.state,
        "in_suspense": one.in_suspense,
        "reason": one.reason,
        "reference": one.reference,
        "account": one.account,
        "waits_for": one.waits_for,
        "owner": one.owner,
        "candidates": list(one.candidates),
    }


def decision_json(one: Decision) -> dict[str, Any]:
    """What a person decided as --json prints it."""
    return {
        "decision": str(one.id),
        "partner": one.partner,
        "receipt": one.receipt,
        "kind": one.kind,
        "account": None if one.target is None else str(one.target),
        "post_all": one.post_all,
        "amount_cents": one.amount.cents,
        "reason": one.reason,
        "second_person": one.second_person,
        "proposed_by": one.proposed_by,
        "proposed_at": iso(one.proposed_at),
        "lapses_at": iso(one.lapses_at),
        "state": one.state,
        "decided_by": one.decided_by,
        "effect": one.effect,
    }


def print_collections(console: Console, found: Sequence[ListedCollection], now: datetime) -> None:
    """The list: a line a payment, below it why it waits, what is proposed, and which accounts it may be for."""
    for one in found:
        owner = f", {escape(one.owner)} looks after it" if one.owner else ""
        console.print(
            f"{moment(one.happened_at)[:16]}  {one.partner}  [bold]{one.receipt}[/]  {one.amount}  [red]{one.state}[/]  "
            f"{escape(one.reference)}  {age(one, now)} old{owner}"
        )
        for line in (one.reason, one.waits_for and f"{one.waits_for}: approve or reject it"):
            if line:
                console.print(f"    {escape(line)}")
        for candidate in one.candidates[:3]:
            console.print(f"    [dim]{escape(candidate_words(candidate))}[/]")


def print_story(console: Console, one: ListedCollection, events: Sequence[Event], now: datetime) -> None:
    """The head of a payment, the accounts it may be for, and its story."""
    lines = {
        "payment": f"{one.receipt} to pay bill {one.short_code} of {one.partner}",
        "amount": f"{one.amount}, {age(one, now)} ago",
        "typed": one.reference,
        "state": one.state + (", its money in suspense" if one.in_suspense and one.state != "suspense" else ""),
        "why": one.reason or "",
        "account": one.account or "",
        "waits for": one.waits_for or "",
        "owner": one.owner or "",
    }
    for name, value in lines.items():
        if value:
            console.print(f"[bold]{name:<10}[/]{escape(value)}")
    for candidate in one.candidates:
        console.print(f"[bold]{'may be':<10}[/]{escape(candidate_words(candidate))}")
    console.print()
    print_events(console, events)


def print_decision(console: Console, one: Decision) -> None:
    """What a command did: decided alone, or waiting for a second person."""
    to = "" if one.target is None else f" to {one.target}"
    if one.state == "proposed":
        console.print(
            f"{one.amount} of payment {one.receipt}: to {one.kind} it{to} waits for a second person until "
            f"{moment(one.lapses_at)[:16]}\nanother login agrees with: vault collections approve {one.receipt}",
            markup=False,
        )
    elif one.state == "rejected":
        console.print(f"payment {one.receipt}: to {one.kind} it{to} is rejected", markup=False)
    else:
        console.print(
            f"payment {one.receipt}: to {one.kind} it{to} is under way; see vault collections show {one.receipt}", markup=False
        )


def print_waiting(console: Console, waiting: Sequence[Decision]) -> None:
    """What waits for a second person."""
    for one in waiting:
        to = "" if one.target is None else f" to {one.target}"
        console.print(
            f"{moment(one.proposed_at)}  {one.partner}  {one.receipt}  {one.amount}  {one.kind}{to}  by {one.proposed_by}: "
            f"{one.reason}\n    approve or reject: {one.receipt}, until {moment(one.lapses_at)[:16]}",
            markup=False,
        )


def age(one: ListedCollection, now: datetime) -> str:
    """How long ago it was paid, in the largest whole unit."""
    minutes = int((now - one.happened_at).total_seconds() // 60)
    for unit, length in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if minutes >= length:
            count = minutes // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "moments"


def candidate_words(candidate: dict[str, Any]) -> str:
    """An account it may be for, as the case has it."""
    score = f" ({candidate['score']})" if "score" in candidate else ""
    why = f": {candidate['why']}" if candidate.get("why") else ""
    return f"{candidate.get('kind')}:{candidate.get('account_no')}{score}{why}"
