"""`vault cases`: what a person must see."""

import json
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape

from vault_cli.session import run
from vault_core.cases.case_book import OpenCase, list_open_cases
from vault_core.clock import NAIROBI
from vault_core.partners.partner import list_partners, load_partner
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)


def cases(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind (docs/operations.md lists them).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """List the open cases, oldest first: what happened, to what, how much money it is about, and the evidence.

    JSON: [{"partner", "kind", "subject", "amount_cents", "opened_at", "evidence"}]
    """

    async def work(runtime: Runtime) -> tuple[list[OpenCase], dict[UUID, str]]:
        async with runtime.engine.connect() as connection:
            only = None if partner is None else (await load_partner(connection, name=partner)).id
            names = {known.id: known.name for known in await list_partners(connection)}
            return await list_open_cases(connection, only), names

    found, names = run(work)
    chosen = [case for case in found if kind is None or case.kind == kind]
    if json_:
        typer.echo(json.dumps([_as_json(case, names) for case in chosen], indent=2))
    elif chosen:
        _print(chosen, names)
    else:
        console.print("no open case")


def _as_json(case: OpenCase, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "partner": _name(case, names),
        "kind": case.kind,
        "subject": case.subject,
        "amount_cents": None if case.amount is None else case.amount.cents,
        "opened_at": case.opened_at.isoformat(),
        "evidence": case.evidence,
    }


def _print(found: list[OpenCase], names: dict[UUID, str]) -> None:
    for case in found:
        amount = "" if case.amount is None else f"  {case.amount}"
        opened = f"{case.opened_at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
        console.print(f"{opened}  {_name(case, names) or '-'}  [bold]{case.kind}[/]{amount}  {escape(case.subject)}")
        for key, value in case.evidence.items():
            console.print(f"    {escape(f'{key}: {value}')}")


def _name(case: OpenCase, names: dict[UUID, str]) -> str | None:
    return None if case.partner_id is None else names.get(case.partner_id)
