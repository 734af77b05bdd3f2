"""`vault disbursements ...`: what became of every loan to be paid, and what a person may do about it."""

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console

from vault_cli.disbursement_view import (
    halt_banner,
    halt_json,
    payout_json,
    print_payouts,
    print_proposals,
    print_story,
    resolution_json,
)
from vault_cli.session import actor, failures_told, run
from vault_cli.story_view import event_json
from vault_core.clock import NAIROBI
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.payout_halt import Halt, halt_in_force
from vault_core.disbursements.payout_list import ListedPayout, list_payouts, listed_payout
from vault_core.disbursements.payout_reference import find_payout
from vault_core.disbursements.person_acts import cancel_payout, hold_payout, release_payout, retry_payout
from vault_core.disbursements.person_rules import Plan
from vault_core.disbursements.resolution_rules import Seen, SeenPaid, SeenUnpaid
from vault_core.disbursements.resolving import (
    Resolution,
    approve_resolution,
    list_proposals,
    reject_resolution,
    resolve_payout,
)
from vault_core.disbursements.resuming import resume_postings
from vault_core.disbursements.states import State
from vault_core.disbursements.story import tell
from vault_core.disbursements.story_rows import read_story_rows
from vault_core.disbursements.undone_posting import post_undone_again
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.story import Event

app = typer.Typer(no_args_is_help=True, help="Disbursements: what became of each, and what a person may do about it.")
console = Console(soft_wrap=True, highlight=False)

Which = Annotated[str, typer.Argument(metavar="WHICH", help="Its id, receipt, an id of M-Pesa's, or the loan's number.")]
Partner = Annotated[str | None, typer.Option("--partner", help="The loan's partner, if others have a loan of that number.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it stands in the story and in the audit trail.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]

Act = Callable[..., Awaitable[Plan]]
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command("list")
def list_command(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    held_for: Annotated[HeldFor | None, typer.Option(help="Only those held for this.")] = None,
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those found since: 30m, 2h, 3d or a day, 2026-11-24.")] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those that do not go on by themselves, oldest first.")] = False,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    json_: Json = False,
) -> None:
    """List disbursements, the newest first, with what each waits for and what to do.

    JSON: {"halt": null or {"begun_at", "begun_by", "reason"}, "disbursements": [{"id", "partner", "loan_account_no", "loan_id",
    "tranche", "payout_cents", "principal_cents", "state", "held_for", "reason", "phone", "found_by", "detected_at", "since",
    "due_at", "instructions", "receipt", "paid_at", "posted_at", "stuck", "next"}]}
    """
    with failures_told():
        wait = None if since is None else _since(since)

    async def work(runtime: Runtime) -> tuple[Halt | None, list[ListedPayout]]:
        after = wait(runtime.clock.now()) if wait is not None else None
        async with runtime.engine.connect() as connection:
            if partner is not None:
                await load_partner(connection, name=partner)
            found = await list_payouts(
                connection, runtime, partner=partner, state=state, held_for=held_for, since=after, stuck=stuck, most=most
            )
            return await halt_in_force(connection), found

    halt, payouts = run(work)
    if json_:
        _print_json({"halt": halt_json(halt), "disbursements": [payout_json(payout) for payout in payouts]})
        return
    if halt is not None:
        console.print(halt_banner(halt))
    if payouts:
        print_payouts(console, payouts)
    else:
        console.print("none is stuck" if stuck else "none")


@app.command()
def show(which: Which, partner: Partner = None, json_: Json = False) -> None:
    """Tell the whole story of one disbursement, in order. Phones are masked, times are Nairobi's.

    JSON: {"disbursement": {as in list}, "halt": as in list, "story": [{"at", "who", "what", "refs": {name: value}}]}
    """

    async def work(runtime: Runtime) -> tuple[Halt | None, ListedPayout, list[Event]]:
        async with runtime.engine.connect() as connection:
            found = await find_payout(connection, which, partner=partner)
            payout = await listed_payout(connection, runtime, found)
            return await halt_in_force(connection), payout, tell(await read_story_rows(connection, runtime, found))

    halt, payout, events = run(work)
    if json_:
        story = [event_json(event) for event in events]
        _print_json({"disbursement": payout_json(payout), "halt": halt_json(halt), "story": story})
        return
    if halt is not None:
        console.print(halt_banner(halt))
    print_story(console, payout, events)


@app.command()
def retry(
    which: Which, reason: Reason = "retried on the command line", partner: Partner = None, yes: Yes = False, json_: Json = False
) -> None:
    """Try a payout now that definitely failed, or look again now at a loan that waits.

    JSON of retry, hold, cancel, release: {"id", "state", "held_for", "then"}
    """
    _do(retry_payout, which, partner, reason, yes=yes, json_=json_, question="Try it now?")


@app.command()
def hold(which: Which, reason: Reason, partner: Partner = None, json_: Json = False) -> None:
    """Keep one loan, that is not on its way, from being sent until it is released."""
    _do(hold_payout, which, partner, reason, yes=True, json_=json_, question="")


@app.command()
def cancel(which: Which, reason: Reason, partner: Partner = None, yes: Yes = False, json_: Json = False) -> None:
    """End a loan that was not paid: we never pay it, unless a person releases it."""
    _do(cancel_payout, which, partner, reason, yes=yes, json_=json_, question="Cancel it?")


@app.command()
def release(which: Which, reason: Reason, partner: Partner = None, yes: Yes = False, json_: Json = False) -> None:
    """Have a loan examined anew, and paid, that a person held, cancelled, or was given after a definite failure."""
    _do(release_payout, which, partner, reason, yes=yes, json_=json_, question="It may be paid within seconds. Release it?")


@app.command()
def resolve(
    which: Which,
    evidence: Annotated[
        str, typer.Option(help="Where it was looked up, by what, and what was seen. Names and phones do not belong.")
    ],
    paid: Annotated[str | None, typer.Option(metavar="RECEIPT", help="It was paid, under this M-Pesa receipt.")] = None,
    not_paid: Annotated[bool, typer.Option("--not-paid", help="It was not paid and never will be under its present id.")] = False,
    amount: Annotated[str | None, typer.Option(help="What was paid, in shillings, if not what was instructed.")] = None,
    at: Annotated[str | None, typer.Option(help="When, Nairobi: '2026-11-24 09:54'. Else the time of the instruction.")] = None,
    instruction: Annotated[
        int | None, typer.Option(min=1, help="Which instruction, as `show` numbers them, if not plain.")
    ] = None,
    partner: Partner = None,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Settle by evidence what M-Pesa left open. Above a limit (VAULT_RESOLVE_ALONE_UP_TO) a second person must approve.

    Exactly one of --paid and --not-paid. What follows is what follows an M-Pesa result: the books, the charges, the posting to
    Mifos X, the texts. A result that still comes and says otherwise opens a case.

    Against what is booked it always takes a second person: a payout that is booked as paid and was not is taken back (its ledger
    transactions are reversed, its posting counts no more and a case asks for it to be undone in Mifos X), one that is booked as
    failed and was paid is booked.

    JSON of resolve, approve, reject: {"id", "partner", "loan_account_no", "disbursement", "instruction", "verdict", "receipt",
    "amount_cents", "paid_at", "evidence", "second_person", "overturns", "proposed_by", "proposed_at", "state", "effect"}
    """
    with failures_told():
        seen = _seen(paid, amount, at, not_paid=not_paid)
    payout = _found(which, partner)
    word = f"paid, receipt {paid}" if paid is not None else "NOT paid"
    _confirm(payout, f"You state that it was {word}. Evidence: {evidence}", yes=yes or json_)

    async def work(runtime: Runtime) -> Resolution:
        return await resolve_payout(runtime, payout.id, seen, evidence=evidence, actor=actor(), number=instruction)

    _told(run(work), json_=json_)


@app.command()
def proposals(json_: Json = False) -> None:
    """List what was stated about payouts and waits for a second person. JSON: a list as resolve prints one."""

    async def work(runtime: Runtime) -> list[Resolution]:
        async with runtime.engine.connect() as connection:
            return await list_proposals(connection)

    found = run(work)
    if json_:
        _print_json([resolution_json(one) for one in found])
    elif found:
        print_proposals(console, found)
    else:
        console.print("nothing waits for a second person")


@app.command()
def approve(which: Which, partner: Partner = None, yes: Yes = False, json_: Json = False) -> None:
    """Approve, as the second person, what another one stated about a payout: it is applied."""
    payout = _found(which, partner)
    _confirm(payout, "You confirm what was stated about it (`proposals` shows it).", yes=yes or json_)
    _told(run(lambda runtime: approve_resolution(runtime, payout.id, actor=actor())), json_=json_)


@app.command()
def reject(which: Which, reason: Reason, partner: Partner = None, json_: Json = False) -> None:
    """Reject, or withdraw, what was stated about a payout: nothing is applied."""
    payout = _found(which, partner)
    _told(run(lambda runtime: reject_resolution(runtime, payout.id, actor=actor(), reason=reason)), json_=json_)


@app.command()
def resume(
    partner: Annotated[str, typer.Argument(help="The partner's short name.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    receipt: Annotated[list[str] | None, typer.Option(help="Only this receipt; may be given again.")] = None,
    undone: Annotated[
        bool, typer.Option("--undone", help="The posting was undone in Mifos X: post it anew. One --receipt.")
    ] = False,
    json_: Json = False,
) -> None:
    """Post paid loans again that were handed over (case disbursement_unposted), once the cause is gone. Posts none twice.

    JSON: {"resumed": [receipts]}
    """

    async def work(runtime: Runtime) -> list[str]:
        async with runtime.engine.connect() as connection:
            await load_partner(connection, name=partner)
        if not undone:
            return await resume_postings(runtime, partner, actor=actor(), reason=reason, receipts=receipt)
        if receipt is None or len(receipt) != 1:
            raise InvalidInput("--undone posts one loan anew: name it with one --receipt")
        async with aclosing(Connections(runtime)) as connections:
            await post_undone_again(runtime, connections, partner, receipt[0], actor=actor(), reason=reason)
        return receipt

    resumed = run(work)
    if json_:
        _print_json({"resumed": resumed})
    else:
        console.print(f"taken up again: {', '.join(resumed) or 'none; no posting of that partner is with a person'}")


def _found(which: str, partner: str | None) -> ListedPayout:
    async def work(runtime: Runtime) -> ListedPayout:
        async with runtime.engine.connect() as connection:
            return await listed_payout(connection, runtime, await find_payout(connection, which, partner=partner))

    return run(work)


def _do(act: Act, which: str, partner: str | None, reason: str, *, yes: bool, json_: bool, question: str) -> None:
    payout = _found(which, partner)
    _confirm(payout, question, yes=yes or json_)
    plan: Plan = run(lambda runtime: act(runtime, payout.id, actor=actor(), reason=reason))
    if json_:
        held_for = None if plan.held_for is None else plan.held_for.value
        _print_json({"id": str(payout.id), "state": plan.state.value, "held_for": held_for, "then": plan.words})
    else:
        console.print(f"{_named(payout)}: {plan.words}", markup=False)


def _confirm(payout: ListedPayout, question: str, *, yes: bool) -> None:
    if yes:
        return
    console.print(f"{_named(payout)}, {payout.payout}, {payout.state.value}: {payout.reason or payout.next.words}", markup=False)
    console.print(question, markup=False)
    typer.confirm("Go on?", abort=True)


def _named(payout: ListedPayout) -> str:
    return f"loan {payout.loan_account_no} of {payout.partner}"


def _told(resolution: Resolution, *, json_: bool) -> None:
    if json_:
        _print_json(resolution_json(resolution))
        return
    name = f"loan {resolution.loan_account_no} of {resolution.partner}"
    if resolution.state == "proposed":
        why = str(resolution.amount) if resolution.overturns is None else f"what is against the books ({resolution.overturns})"
        words = (
            f"kept as a proposal: {why} needs a second person. Another login runs `vault disbursements approve "
            f"{resolution.disbursement_id}`"
        )
    elif resolution.state == "overtaken":
        words = "not applied: M-Pesa settled it meanwhile; `vault disbursements show` tells how"
    elif resolution.state == "rejected":
        words = "rejected; nothing was applied"
    else:
        then = "" if resolution.verdict == "paid" else "; it is still with you: `retry`, `release` or `cancel` it"
        words = f"{resolution.effect}{then}"
    console.print(f"{name}: {words}", markup=False)


def _seen(paid: str | None, amount: str | None, at: str | None, *, not_paid: bool) -> Seen:
    if (paid is None) is not not_paid:
        raise InvalidInput("say exactly one of --paid RECEIPT and --not-paid")
    if paid is None:
        if amount is not None or at is not None:
            raise InvalidInput("--amount and --at belong to --paid")
        return SeenUnpaid()
    try:
        when = None if at is None else datetime.fromisoformat(at)
    except ValueError as error:
        raise InvalidInput(f"--at {at!r} is no time: write '2026-11-24 09:54', Nairobi") from error
    if when is not None and when.tzinfo is None:
        when = when.replace(tzinfo=NAIROBI)
    return SeenPaid(paid, None if amount is None else Money.parse(amount), when)


def _since(given: str) -> Callable[[datetime], datetime]:
    if given[:-1].isdigit() and given[-1] in _UNITS:
        back = timedelta(**{_UNITS[given[-1]]: int(given[:-1])})
        return lambda now: now - back
    try:
        day = datetime.fromisoformat(given)
    except ValueError as error:
        raise InvalidInput(f"--since {given!r}: write 30m, 2h, 3d, or a day like 2026-11-24") from error
    moment = day if day.tzinfo is not None else day.replace(tzinfo=NAIROBI)
    return lambda _now: moment


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
