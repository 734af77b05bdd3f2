"""`vault cases`: what a person must see, and what people do about it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape

from vault_cli.moments import shown
from vault_cli.session import actor, run
from vault_core.cases.case_book import OpenCase, list_open_cases
from vault_core.cases.case_story import Case, Closing, find_case, read_case, short_id
from vault_core.cases.closing import approve_closing, close_by_hand, reject_closing, take_case
from vault_core.partners.partner import list_partners, load_partner
from vault_core.runtime import Runtime

app = typer.Typer(help="Cases: what a person must see. Without a command: the open ones.")
console = Console(soft_wrap=True, highlight=False)

Which = Annotated[str, typer.Argument(metavar="CASE", help="Its id, or the last eight digits of it, as the list prints them.")]
Partner = Annotated[str | None, typer.Option("--partner", help="Only this partner's.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Only of this kind (docs/operations.md lists them).")]
Owner = Annotated[str | None, typer.Option("--owner", help="Only whose work is this login's (ops:NAME); 'none': nobody's.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]

_DAY = timedelta(days=1)
_NOBODY = "none"


@app.callback(invoke_without_command=True)
def cases(context: typer.Context, partner: Partner = None, kind: Kind = None, owner: Owner = None, json_: Json = False) -> None:
    """List the open cases, oldest first, as `vault cases list` does."""
    if context.invoked_subcommand is None:
        list_command(partner, kind, owner, json_=json_)


@app.command("list")
def list_command(partner: Partner = None, kind: Kind = None, owner: Owner = None, json_: Json = False) -> None:
    """List the open cases, oldest first: what happened, to what, since when, how much money it is about, and the evidence.

    JSON: [{"id", "partner", "kind", "subject", "amount_cents", "opened_at", "age_hours", "owner", "evidence"}]
    """

    async def work(runtime: Runtime) -> tuple[list[OpenCase], dict[UUID, str], datetime]:
        async with runtime.engine.connect() as connection:
            only = None if partner is None else (await load_partner(connection, name=partner)).id
            names = {known.id: known.name for known in await list_partners(connection)}
            return await list_open_cases(connection, only), names, runtime.clock.now()

    found, names, now = run(work)
    whose = None if owner == _NOBODY else owner
    chosen = [case for case in found if kind in (None, case.kind) and (owner is None or case.owner == whose)]
    if json_:
        typer.echo(json.dumps([_listed_json(case, names, now) for case in chosen], indent=2))
    elif chosen:
        _print_list(chosen, names, now)
    else:
        console.print("no open case")


@app.command()
def show(which: Which, json_: Json = False) -> None:
    """Tell all about one case, and how it ends.

    JSON of show, take, close, approve, reject: {"id", "partner", "kind", "subject", "amount_cents", "opened_at", "age_hours"
    (until it was closed), "owner", "evidence", "ends" ("by_person", "by_two", "by_command", "by_itself"), "to_do", "closed_at",
    "resolution", "closings": [{"reason", "evidence", "proposed_by", "proposed_at", "state", "decided_by", "decided_at", "note"}]}
    """

    async def read(runtime: Runtime, case_id: UUID) -> Case:
        async with runtime.engine.connect() as connection:
            return await read_case(connection, case_id)

    case, now = _about(which, read)
    if json_:
        _print_json(case, now)
        return
    _print_head(case, now)
    for closing in case.closings:
        console.print(f"{shown(closing.proposed_at)}  {escape(_told(closing))}")


@app.command()
def take(
    which: Which,
    owner: Annotated[str | None, typer.Option("--for", help="Whose work it is, if not yours: ops:NAME.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="It is nobody's work any more.")] = False,
    json_: Json = False,
) -> None:
    """Take a case: it is your work now (or --for another login), and the list says so."""
    whose = None if nobody else owner or actor()
    case, now = _about(which, lambda runtime, case_id: take_case(runtime, case_id, whose, actor=actor()))
    _say(case, now, f"{case.name} is {'nobody' if case.owner is None else case.owner}'s work", json_=json_)


@app.command()
def close(
    which: Which,
    reason: Annotated[str, typer.Option(help="Why nothing more is to do about it.")],
    evidence: Annotated[str, typer.Option(help="Where it was looked up and what was seen. Names and phones do not belong.")],
    json_: Json = False,
) -> None:
    """Close a case when nothing more is to do about it. Above VAULT_RESOLVE_ALONE_UP_TO a second person must approve.

    A case about money that is still open is refused: the command that settles the money closes it, and the message names it.
    """
    case, now = _about(
        which, lambda runtime, case_id: close_by_hand(runtime, case_id, reason=reason, evidence=evidence, actor=actor())
    )
    waits = f"{case.name} needs a second person: another login runs `vault cases approve {case.short_id}`"
    _say(case, now, f"{case.name} is closed" if case.closed_at is not None else waits, json_=json_)


@app.command()
def approve(which: Which, json_: Json = False) -> None:
    """Approve, as the second person, that a case is closed."""
    case, now = _about(which, lambda runtime, case_id: approve_closing(runtime, case_id, actor=actor()))
    _say(case, now, f"{case.name} is closed: {case.resolution}", json_=json_)


@app.command()
def reject(
    which: Which, reason: Annotated[str, typer.Option(help="Why not: the proposer reads it.")], json_: Json = False
) -> None:
    """Reject, or withdraw, a proposal to close a case: it stays open."""
    case, now = _about(which, lambda runtime, case_id: reject_closing(runtime, case_id, actor=actor(), reason=reason))
    _say(case, now, f"{case.name} stays open", json_=json_)


def _about(which: str, act: Callable[[Runtime, UUID], Awaitable[Case]]) -> tuple[Case, datetime]:
    async def work(runtime: Runtime) -> tuple[Case, datetime]:
        async with runtime.engine.connect() as connection:
            case_id = await find_case(connection, which)
        return await act(runtime, case_id), runtime.clock.now()

    return run(work)


def _say(case: Case, now: datetime, words: str, *, json_: bool) -> None:
    if json_:
        _print_json(case, now)
    else:
        console.print(words, markup=False)


def _print_list(found: list[OpenCase], names: dict[UUID, str], now: datetime) -> None:
    for case in found:
        amount = "" if case.amount is None else f"  {case.amount}"
        owner = "" if case.owner is None else f"  {case.owner}"
        console.print(
            f"{short_id(case.id)}  {shown(case.opened_at)} ({_age(now - case.opened_at)})  {_name(case, names) or '-'}  "
            f"[bold]{case.kind}[/]{amount}  {escape(case.subject + owner)}"
        )
        _print_evidence(case.evidence)
    old = [sum(now - case.opened_at > age for case in found) for age in (_DAY, 7 * _DAY)]
    console.print(f"{len(found)} open, {old[0]} for more than a day, {old[1]} for more than a week")


def _print_head(case: Case, now: datetime) -> None:
    lines = {
        "case": f"{case.short_id} ({case.id})",
        "kind": case.kind,
        "about": case.subject + (f" of {case.partner}" if case.partner else ""),
        "money": "" if case.amount is None else str(case.amount),
        "opened": f"{shown(case.opened_at)}, {_age((case.closed_at or now) - case.opened_at)}"
        + (" until it was closed" if case.closed_at else " ago"),
        "owner": case.owner or "nobody",
        "closed": "" if case.closed_at is None else f"{shown(case.closed_at)}: {case.resolution}",
        "to do": "" if case.closed_at is not None else case.ends,
    }
    for name, value in lines.items():
        if value:
            console.print(f"[bold]{name:<8}[/]{escape(value)}")
    _print_evidence(case.evidence)


def _print_evidence(evidence: Mapping[str, Any]) -> None:
    """A line a fact; of a list of facts (candidates, say) a line each."""
    for key, value in evidence.items():
        each = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
        console.print(f"    {escape(key if each else f'{key}: {value}')}{':' if each else ''}")
        for part in each:
            console.print(f"        {escape(', '.join(f'{name} {told}' for name, told in part.items()))}")


def _told(closing: Closing) -> str:
    words = f"{closing.proposed_by} would close it: {closing.reason}. Evidence: {closing.evidence}"
    if closing.decided_at is None:
        return f"{words}. A second person must approve or reject"
    return f"{words}. {closing.state} by {closing.decided_by}" + (f": {closing.decision_note}" if closing.decision_note else "")


def _age(age: timedelta) -> str:
    hours, minutes = _hours(age), age // timedelta(minutes=1)
    return f"{age.days}d {hours % 24}h" if age.days else f"{hours}h {minutes % 60}m"


def _listed_json(case: OpenCase, names: dict[UUID, str], now: datetime) -> dict[str, Any]:
    return {
        "id": str(case.id),
        "partner": _name(case, names),
        "kind": case.kind,
        "subject": case.subject,
        "amount_cents": None if case.amount is None else case.amount.cents,
        "opened_at": case.opened_at.isoformat(),
        "age_hours": _hours(now - case.opened_at),
        "owner": case.owner,
        "evidence": case.evidence,
    }


def _print_json(case: Case, now: datetime) -> None:
    value = {
        "id": str(case.id),
        "partner": case.partner,
        "kind": case.kind,
        "subject": case.subject,
        "amount_cents": None if case.amount is None else case.amount.cents,
        "opened_at": case.opened_at.isoformat(),
        "age_hours": _hours((case.closed_at or now) - case.opened_at),
        "owner": case.owner,
        "evidence": case.evidence,
        "ends": case.ending.end.value,
        "to_do": None if case.closed_at is not None else case.ends,
        "closed_at": None if case.closed_at is None else case.closed_at.isoformat(),
        "resolution": case.resolution,
        "closings": [
            {
                "reason": closing.reason,
                "evidence": closing.evidence,
                "proposed_by": closing.proposed_by,
                "proposed_at": closing.proposed_at.isoformat(),
                "state": closing.state,
                "decided_by": closing.decided_by,
                "decided_at": None if closing.decided_at is None else closing.decided_at.isoformat(),
                "note": closing.decision_note,
            }
            for closing in case.closings
        ],
    }
    typer.echo(json.dumps(value, indent=2))


def _hours(age: timedelta) -> int:
    return age // timedelta(hours=1)


def _name(case: OpenCase, names: dict[UUID, str]) -> str | None:
    return None if case.partner_id is None else names.get(case.partner_id)
