"""`vault collections validations`: what M-Pesa was told when it asked whether a payment may be taken."""

import json
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vault_cli.session import run
from vault_core.clock import NAIROBI
from vault_core.collections.validation_listing import KeptValidation, list_validations
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)


def validations(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    hours: Annotated[float, typer.Option(min=0, help="How far to look back.")] = 24,
    refused: Annotated[bool, typer.Option("--refused", help="Only payments that were refused.")] = False,
    receipt: Annotated[str | None, typer.Option(help="Only this M-Pesa receipt, however old.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Payments that were refused before M-Pesa took them, and those accepted without knowing; the newest first.

    JSON: [{"event_id", "partner", "at", "decision", "known", "code", "reason", "short_code", "receipt", "amount_cents",
    "reference"}], reference masked; decision: accepted or refused; known: false where the partner's setting decided
    """

    async def work(runtime: Runtime) -> list[KeptValidation]:
        async with runtime.engine.connect() as connection:
            if partner is not None:
                await load_partner(connection, name=partner)
            since = runtime.clock.now() - timedelta(hours=hours)
            return await list_validations(connection, since=since, partner=partner, refused_only=refused, receipt=receipt)

    found = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(one) for one in found]))
    elif not found:
        console.print("M-Pesa was told a plain yes to every question")
    else:
        _print(found)


def _as_json(one: KeptValidation) -> dict[str, object]:
    return {
        "event_id": str(one.event_id),
        "partner": one.partner,
        "at": one.at.isoformat(),
        "decision": one.decision,
        "known": one.known,
        "code": one.code,
        "reason": one.reason,
        "short_code": one.short_code,
        "receipt": one.receipt,
        "amount_cents": None if one.amount is None else one.amount.cents,
        "reference": one.reference,
    }


def _print(found: list[KeptValidation]) -> None:
    table = Table("partner", "when", "receipt", "amount", "reference", "told", "why")
    for column in table.columns:
        column.overflow = "fold"
    for one in found:
        when = f"{one.at.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S}"
        told = one.code if one.decision == "refused" else "accepted"
        amount = "" if one.amount is None else str(one.amount)
        table.add_row(one.partner, when, one.receipt or "", amount, one.reference or "", told, one.reason)
    console.print(table)
