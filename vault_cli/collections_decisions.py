"""`vault collections assign`, `move`, `reverse`, `proposals`, `approve`, `reject`, `reversal-seen`: what people decide."""

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console

from vault_cli.collections_view import decision_json, print_decision, print_waiting
from vault_cli.moments import read_instant
from vault_cli.session import actor, failures_told, run
from vault_core.collections import assigning
from vault_core.collections.assigning import Wish
from vault_core.collections.decision_rows import Decision, list_waiting
from vault_core.collections.reversal_seen import as_given_back, state_reversal
from vault_core.errors import InvalidInput
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)

Receipt = Annotated[str, typer.Argument(help="The M-Pesa receipt of the payment.")]
Reason = Annotated[str, typer.Option(help="Why; the second person and the audit trail read it.")]
ShortCode = Annotated[str | None, typer.Option(help="Of this pay bill, where two have the receipt.")]
PostAll = Annotated[
    bool, typer.Option("--post-all", help="The loan takes all of it, whatever is owed and the partner's policy says.")
]
Remember = Annotated[bool, typer.Option("--remember", help="What the payer typed names this account from now on.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]
_ACCOUNT = "loan:NUMBER or savings:NUMBER as in Mifos X; loan:id:12 for the id there."


def register(app: typer.Typer) -> None:
    """Adds the commands to `vault collections`."""
    for command in (assign, move, reverse, proposals, approve, reject):
        app.command()(command)
    app.command("reversal-seen")(reversal_seen)


def assign(
    receipt: Receipt,
    account: Annotated[str, typer.Option(help=_ACCOUNT)],
    reason: Reason,
    remember: Remember = False,
    post_all: PostAll = False,
    short_code: ShortCode = None,
    json_: Json = False,
) -> None:
    """Say which account a payment is for that found none. It is posted at once, above a limit when a second person agrees.

    JSON, here and below: {"decision", "partner", "receipt", "kind", "account", "post_all", "amount_cents", "reason",
    "second_person", "proposed_by", "proposed_at", "lapses_at", "state", "decided_by", "effect"}
    """
    wish = Wish(receipt, reason, account, short_code, post_all, remember)
    _tell(
        _with_connections(lambda runtime, connections: assigning.assign(runtime, connections, wish, actor=actor())), json_=json_
    )


def move(
    receipt: Receipt,
    reason: Reason,
    account: Annotated[str | None, typer.Option(help=f"{_ACCOUNT} Without it the money stays in suspense.")] = None,
    remember: Remember = False,
    post_all: PostAll = False,
    short_code: ShortCode = None,
    json_: Json = False,
) -> None:
    """Take a payment out of the account that it was wrongly posted to: undone in Mifos X, then posted to the right one.

    Where Mifos X refuses to undo it nothing moves and a case opens. Above a limit a second person must agree.
    """
    wish = Wish(receipt, reason, account, short_code, post_all, remember)
    _tell(_with_connections(lambda runtime, connections: assigning.move(runtime, connections, wish, actor=actor())), json_=json_)


def reverse(receipt: Receipt, reason: Reason, short_code: ShortCode = None, json_: Json = False) -> None:
    """Propose that M-Pesa give a payment in suspense back to its payer. Another login must approve it, whatever the amount."""
    wish = Wish(receipt, reason, short_code=short_code)
    _tell(run(lambda runtime: assigning.reverse(runtime, wish, actor=actor())), json_=json_)


def proposals(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    json_: Json = False,
) -> None:
    """What waits for a second person, oldest first. JSON: a list."""

    async def work(runtime: Runtime) -> list[Decision]:
        async with runtime.engine.connect() as connection:
            if partner is not None:
                await load_partner(connection, name=partner)
            return await list_waiting(connection, partner)

    waiting = run(work)
    if json_:
        typer.echo(json.dumps([decision_json(one) for one in waiting]))
    elif waiting:
        print_waiting(console, waiting)
    else:
        console.print("nothing waits for a second person")


def approve(receipt: Receipt, short_code: ShortCode = None, json_: Json = False) -> None:
    """Agree to what somebody else proposed about the payment, and have it carried out."""

    async def work(runtime: Runtime, connections: Connections) -> Decision:
        return await assigning.approve(runtime, connections, receipt, actor=actor(), short_code=short_code)

    _tell(_with_connections(work), json_=json_)


def reject(receipt: Receipt, reason: Reason, short_code: ShortCode = None, json_: Json = False) -> None:
    """Reject what was proposed about the payment, or withdraw your own proposal. Nothing is done."""
    _tell(
        run(lambda runtime: assigning.reject(runtime, receipt, reason=reason, actor=actor(), short_code=short_code)), json_=json_
    )


def reversal_seen(
    receipt: Receipt,
    evidence: Annotated[str, typer.Option(help="Where you looked, and what you saw there.")],
    done: Annotated[str | None, typer.Option(help="It was given back: the reversal's own receipt.")] = None,
    at: Annotated[str | None, typer.Option(help="When, as the portal shows it: 2026-11-24 14:05.")] = None,
    not_done: Annotated[bool, typer.Option("--not-done", help="The portal shows that it was not given back.")] = False,
    short_code: ShortCode = None,
    json_: Json = False,
) -> None:
    """Say what the M-Pesa portal shows of a reversal that M-Pesa never answered. Not by who proposed it.

    JSON: {"receipt", "effect"}
    """
    with failures_told():
        if (done is None) != not_done or (done is None) != (at is None):
            raise InvalidInput("say either --done RECEIPT --at TIME, or --not-done")
        given_back = None if done is None or at is None else as_given_back(done, read_instant(at.replace(" ", "T"), day="start"))
    effect = run(
        lambda runtime: state_reversal(runtime, receipt, given_back, evidence=evidence, actor=actor(), short_code=short_code)
    )
    if json_:
        typer.echo(json.dumps({"receipt": receipt, "effect": effect}))
    else:
        console.print(f"payment {receipt}: {effect}", markup=False)


def _with_connections(work: Callable[[Runtime, Connections], Awaitable[Decision]]) -> Decision:
    async def connected(runtime: Runtime) -> Decision:
        async with aclosing(Connections(runtime)) as connections:
            return await work(runtime, connections)

    return run(connected)


def _tell(decision: Decision, *, json_: bool) -> None:
    if json_:
        typer.echo(json.dumps(decision_json(decision)))
    else:
        print_decision(console, decision)
