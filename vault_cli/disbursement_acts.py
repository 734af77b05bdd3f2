"""`vault disbursements retry`, `hold`, `cancel`, `release` and `resume`: what a person has done about a payout."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

import typer

from vault_cli.disbursement_wish import Json, Partner, Reason, Which, Yes, confirm, console, found_payout, named, print_json
from vault_cli.session import actor, run
from vault_core.disbursements.person_acts import cancel_payout, hold_payout, release_payout, retry_payout
from vault_core.disbursements.person_rules import Plan
from vault_core.disbursements.resuming import resume_postings
from vault_core.disbursements.undone_posting import post_undone_again
from vault_core.errors import InvalidInput
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

Act = Callable[..., Awaitable[Plan]]


def retry(
    which: Which, reason: Reason = "retried on the command line", partner: Partner = None, yes: Yes = False, json_: Json = False
) -> None:
    """Try a payout now that definitely failed, or look again now at a loan that waits.

    JSON of retry, hold, cancel, release: {"id", "state", "held_for", "then"}
    """
    _do(retry_payout, which, partner, reason, yes=yes, json_=json_, question="Try it now?")


def hold(which: Which, reason: Reason, partner: Partner = None, json_: Json = False) -> None:
    """Keep one loan, that is not on its way, from being sent until it is released."""
    _do(hold_payout, which, partner, reason, yes=True, json_=json_, question="")


def cancel(which: Which, reason: Reason, partner: Partner = None, yes: Yes = False, json_: Json = False) -> None:
    """End a loan that was not paid: we never pay it, unless a person releases it."""
    _do(cancel_payout, which, partner, reason, yes=yes, json_=json_, question="Cancel it?")


def release(which: Which, reason: Reason, partner: Partner = None, yes: Yes = False, json_: Json = False) -> None:
    """Have a loan examined anew, and paid, that a person held, cancelled, or was given after a definite failure."""
    _do(release_payout, which, partner, reason, yes=yes, json_=json_, question="It may be paid within seconds. Release it?")


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
        print_json({"resumed": resumed})
    else:
        console.print(f"taken up again: {', '.join(resumed) or 'none; no posting of that partner is with a person'}")


def _do(act: Act, which: str, partner: str | None, reason: str, *, yes: bool, json_: bool, question: str) -> None:
    payout = found_payout(which, partner)
    confirm(payout, question, yes=yes or json_)
    plan: Plan = run(lambda runtime: act(runtime, payout.id, actor=actor(), reason=reason))
    if json_:
        held_for = None if plan.held_for is None else plan.held_for.value
        print_json({"id": str(payout.id), "state": plan.state.value, "held_for": held_for, "then": plan.words})
    else:
        console.print(f"{named(payout)}: {plan.words}", markup=False)
