"""`vault wallet adjust`, `reverse`, `adjustments`, `approve`, `reject`: wallets put right by two people."""

import json
from typing import Annotated
from uuid import UUID

import typer

from vault_cli.session import actor, failures_told, run
from vault_cli.wallet_view import adjustment_json, console, print_adjustments, tell_proposed
from vault_core.money import Money
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_decisions import approve_adjustment, reject_adjustment
from vault_core.wallets.adjustment_proposals import propose_correction, propose_reversal
from vault_core.wallets.adjustments import Adjustment, list_adjustments

Reason = Annotated[str, typer.Option(help="Why; the second person and the audit trail read it.")]
Id = Annotated[UUID, typer.Argument(help="The adjustment's id (`vault wallet adjustments`).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `vault wallet`."""
    app.command(context_settings={"ignore_unknown_options": True})(adjust)  # so that -500 is an amount
    app.command()(reverse)
    app.command()(adjustments)
    app.command()(approve)
    app.command()(reject)


def adjust(
    name: Annotated[str, typer.Argument(help="The partner's short name.")],
    amount: Annotated[str, typer.Argument(help="Shillings that the wallet gains; -500 takes 500 from it.")],
    reference: Annotated[str, typer.Option(help="What it follows from: a ticket, a letter. Once a partner.")],
    reason: Reason,
    json_: Json = False,
) -> None:
    """Propose a correction of the wallet. Somebody else must approve it within seven days, or it lapses.

    What it takes is held meanwhile. JSON, here and below: {"id", "partner", "kind", "amount_cents", "original", "reference",
    "reason", "state", "proposed_by", "proposed_at", "lapses_at", "decided_by", "decided_at", "decision_note", "transaction"}
    """
    with failures_told():
        money = Money.parse(amount)

    async def work(runtime: Runtime) -> Adjustment:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        return await propose_correction(runtime, partner.id, money, reference, reason=reason, actor=actor())

    tell_proposed(run(work), json_=json_)


def reverse(
    transaction: Annotated[UUID, typer.Argument(help="The ledger transaction to undo: a top-up, charges, SMS, a correction.")],
    reason: Reason,
    json_: Json = False,
) -> None:
    """Propose to undo a transaction of a wallet, account by account. Somebody else must approve it."""
    tell_proposed(run(lambda runtime: propose_reversal(runtime, transaction, reason=reason, actor=actor())), json_=json_)


def adjustments(
    name: Annotated[str | None, typer.Argument(help="Only this partner's.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Only those that wait for a second person.")] = False,
    json_: Json = False,
) -> None:
    """The latest hundred adjustments: those that wait for a second person first, then the newest. JSON: a list."""

    async def work(runtime: Runtime) -> list[Adjustment]:
        async with runtime.engine.connect() as connection:
            only = None if name is None else (await load_partner(connection, name=name)).id
            return await list_adjustments(connection, only, open_only=open_)

    found = run(work)
    if json_:
        typer.echo(json.dumps([adjustment_json(adjustment) for adjustment in found]))
    elif found:
        print_adjustments(found)
    else:
        console.print("no adjustment")


def approve(id_: Id, json_: Json = False) -> None:
    """Approve what somebody else proposed, and post it."""
    done = run(lambda runtime: approve_adjustment(runtime, id_, actor=actor()))
    if json_:
        typer.echo(json.dumps(adjustment_json(done)))
    else:
        console.print(
            f"{done.amount} for {done.partner} under {done.reference}, proposed by {done.proposed_by}, is posted: "
            f"transaction {done.transaction_id}",
            markup=False,
        )


def reject(id_: Id, reason: Reason, json_: Json = False) -> None:
    """Reject what was proposed, or withdraw your own proposal. Nothing is posted; what was held is free again."""
    done = run(lambda runtime: reject_adjustment(runtime, id_, reason=reason, actor=actor()))
    if json_:
        typer.echo(json.dumps(adjustment_json(done)))
    else:
        console.print(f"{done.reference} of {done.partner} is rejected", markup=False)
