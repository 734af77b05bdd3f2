"""`vault collect ...`: asking customers to pay on their phones (STK push), and what became of it."""

import json
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from vault_cli.session import actor, failures_told, run
from vault_core.clock import NAIROBI
from vault_core.collections.masking import mask_reference
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.collections.stk_requests import StkRequest, find_request, list_requests
from vault_core.collections.stk_verdict import StkState
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime


class _AskByDefault(TyperGroup):
    """`vault collect PARTNER ...` is `vault collect ask PARTNER ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts in what was left out."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_AskByDefault,
    no_args_is_help=True,
    help="Ask a customer to pay on the phone (STK push): vault collect PARTNER --phone ...",
)
console = Console(soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]

_WORDS = {
    StkState.PROMPTING: "being sent",
    StkState.PROMPTED: "the customer is asked; the answer comes by itself",
    StkState.REFUSED: "M-Pesa did not take it: nobody was asked",
    StkState.UNKNOWN: "it may have reached the phone: do not ask again before `vault collect show` says what became of it",
    StkState.PAID: "paid",
    StkState.DECLINED: "not paid",
    StkState.EXPIRED: "no end was told in time; should it be paid all the same, the money is booked",
}


@app.command()
def ask(
    partner: Annotated[str, typer.Argument(help="The partner's short name.")],
    phone: Annotated[str, typer.Option(help="Whose phone, 07.. or 2547...")],
    amount: Annotated[str, typer.Option(help="Whole shillings.")],
    account: Annotated[str, typer.Option(help="What it is paid for: the loan's or savings account's number.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    description: Annotated[str, typer.Option(help="What the phone shows, up to 13 characters.")] = "payment",
    key: Annotated[str | None, typer.Option(help="The same key asks once, however often the command is given.")] = None,
    json_: Json = False,
) -> None:
    """Ask a customer to pay. One command is one prompt; nothing is asked again by itself.

    JSON: {"id", "partner", "state", "reason", "phone", "amount_cents", "account", "asked_at", "asked_by", "ended_at", "receipt",
    "checkout_request_id", "queries", "repeated"}, phone, account and M-Pesa's id masked
    """
    with failures_told():
        money = Money.parse(amount)

    async def work(runtime: Runtime) -> tuple[StkRequest, bool]:
        async with runtime.engine.connect() as connection:
            found = await load_partner(connection, name=partner)
        wish = StkWish(
            partner_id=found.id,
            key=key or f"cli-{uuid.uuid4()}",
            amount=money,
            phone=phone,
            account_reference=account,
            description=description,
            asked_by=actor(),
            reason=reason,
        )
        async with aclosing(Connections(runtime)) as connections:
            return await ask_to_pay(runtime, connections, wish)

    request, is_new = run(work)
    if json_:
        typer.echo(json.dumps(_as_json(request, partner) | {"repeated": not is_new}))
        return
    again = "" if is_new else " (asked before under this key; nobody was asked again)"
    console.print(f"{request.id}: {_told(request)}{again}", markup=False)


@app.command("list")
def list_(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    state: Annotated[StkState | None, typer.Option(help="Only those in this state.")] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    json_: Json = False,
) -> None:
    """Requests to pay, the newest first.

    JSON: a list of what `ask` says, without "repeated".
    """

    async def work(runtime: Runtime) -> tuple[list[StkRequest], dict[uuid.UUID, str]]:
        async with runtime.engine.connect() as connection:
            only = None if partner is None else (await load_partner(connection, name=partner)).id
            found = await list_requests(connection, runtime, partner_id=only, state=state, most=most)
            owners = {one.partner_id for one in found}
            return found, {owner: (await load_partner(connection, id=owner)).name for owner in owners}

    found, names = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(one, names[one.partner_id]) for one in found]))
    elif found:
        _print(found, names)
    else:
        console.print("none")


@app.command()
def show(
    which: Annotated[str, typer.Argument(help="Its id, CheckoutRequestID or receipt.")],
    json_: Json = False,
) -> None:
    """One request to pay: where it stands and why.

    JSON: as `ask`, without "repeated".
    """

    async def work(runtime: Runtime) -> tuple[StkRequest, str]:
        async with runtime.engine.connect() as connection:
            request = await find_request(connection, runtime, which)
            return request, (await load_partner(connection, id=request.partner_id)).name

    request, name = run(work)
    if json_:
        typer.echo(json.dumps(_as_json(request, name)))
        return
    console.print(f"{request.id} of {name}: {_told(request)}", markup=False)
    table = Table(show_header=False)
    for key, value in _as_json(request, name).items():
        table.add_row(key.replace("_", " "), "" if value is None else str(value))
    console.print(table)


def _told(request: StkRequest) -> str:
    parts = (_WORDS[request.state], request.receipt, request.reason)
    return ", ".join(part for part in parts if part)


def _as_json(request: StkRequest, partner: str) -> dict[str, Any]:
    return {
        "id": str(request.id),
        "partner": partner,
        "state": request.state.value,
        "reason": request.reason,
        "phone": request.masked_phone,
        "amount_cents": request.amount.cents,
        "account": mask_reference(request.account_reference),
        "asked_at": request.asked_at.isoformat(),
        "asked_by": request.asked_by,
        "ended_at": request.ended_at.isoformat() if request.ended_at else None,
        "receipt": request.receipt,
        "checkout_request_id": request.masked_checkout,
        "queries": request.queries,
    }


def _print(found: Sequence[StkRequest], names: dict[uuid.UUID, str]) -> None:
    """A line each, whatever the width of the screen: ids and receipts are copied from here."""
    for one in found:
        asked = f"{one.asked_at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
        paid = f"  {one.receipt}" if one.receipt else ""
        console.print(
            f"{asked}  {names[one.partner_id]}  {one.id}  {one.masked_phone}  {one.amount}  {one.state}{paid}", markup=False
        )
        if one.reason:
            console.print(f"    {one.reason}", markup=False)
