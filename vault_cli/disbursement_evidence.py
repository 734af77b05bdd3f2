"""`vault disbursements resolve`, `proposals`, `approve` and `reject`: what people saw of a payout, and what follows."""

from datetime import datetime
from typing import Annotated

import typer

from vault_cli.disbursement_view import print_proposals, resolution_json
from vault_cli.disbursement_wish import Json, Partner, Reason, Which, Yes, confirm, console, found_payout, print_json
from vault_cli.session import actor, failures_told, run
from vault_core.clock import NAIROBI
from vault_core.disbursements.resolution_rules import Seen, SeenPaid, SeenUnpaid
from vault_core.disbursements.resolving import (
    Resolution,
    approve_resolution,
    list_proposals,
    reject_resolution,
    resolve_payout,
)
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.runtime import Runtime


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
    payout = found_payout(which, partner)
    word = f"paid, receipt {paid}" if paid is not None else "NOT paid"
    confirm(payout, f"You state that it was {word}. Evidence: {evidence}", yes=yes or json_)

    async def work(runtime: Runtime) -> Resolution:
        return await resolve_payout(runtime, payout.id, seen, evidence=evidence, actor=actor(), number=instruction)

    _told(run(work), json_=json_)


def proposals(json_: Json = False) -> None:
    """List what was stated about payouts and waits for a second person. JSON: a list as resolve prints one."""

    async def work(runtime: Runtime) -> list[Resolution]:
        async with runtime.engine.connect() as connection:
            return await list_proposals(connection)

    found = run(work)
    if json_:
        print_json([resolution_json(one) for one in found])
    elif found:
        print_proposals(console, found)
    else:
        console.print("nothing waits for a second person")


def approve(which: Which, partner: Partner = None, yes: Yes = False, json_: Json = False) -> None:
    """Approve, as the second person, what another one stated about a payout: it is applied."""
    payout = found_payout(which, partner)
    confirm(payout, "You confirm what was stated about it (`proposals` shows it).", yes=yes or json_)
    _told(run(lambda runtime: approve_resolution(runtime, payout.id, actor=actor())), json_=json_)


def reject(which: Which, reason: Reason, partner: Partner = None, json_: Json = False) -> None:
    """Reject, or withdraw, what was stated about a payout: nothing is applied."""
    payout = found_payout(which, partner)
    _told(run(lambda runtime: reject_resolution(runtime, payout.id, actor=actor(), reason=reason)), json_=json_)


def _told(resolution: Resolution, *, json_: bool) -> None:
    if json_:
        print_json(resolution_json(resolution))
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
