"""`vault inbox ...`: every stored delivery with its topic, state, cause and effect."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vault_cli.session import actor, failures_told, run
from vault_core.clock import NAIROBI
from vault_core.errors import InvalidInput
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE
from vault_core.inbox.listing import STATES, StoredDelivery, list_deliveries, open_body, replay_deliveries, show_delivery
from vault_core.runtime import Runtime

app = typer.Typer(no_args_is_help=True, help="Deliveries from outside: what came in, what became of it.")
console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]
Event = Annotated[str, typer.Argument(help="The delivery's id, as `vault inbox list` shows it.")]


@app.command("list")
def list_command(
    state: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATES)}.")] = None,
    purpose: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(TOPIC_OF_PURPOSE)}.")] = None,
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    before: Annotated[str | None, typer.Option(help="Only those older than the delivery of this id (to page on).")] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List stored deliveries, the newest first."""
    with failures_told():
        _one_of("--state", state, STATES)
        _one_of("--purpose", purpose, tuple(TOPIC_OF_PURPOSE))
        older_than = None if before is None else _event_id(before)

    async def work(runtime: Runtime) -> list[StoredDelivery]:
        async with runtime.engine.connect() as connection:
            return await list_deliveries(connection, state=state, purpose=purpose, partner=partner, before=older_than, most=most)

    deliveries = run(work)
    if as_json:
        _print_json([delivery_json(delivery) for delivery in deliveries])
        return
    table = Table("id", "received", "partner", "purpose", "state", "cause or effect", title=f"{len(deliveries)} deliveries")
    for delivery in deliveries:
        table.add_row(
            str(delivery.id),
            f"{delivery.received_at.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S}",
            escape(delivery.partner or "-"),
            delivery.purpose,
            delivery.state,
            escape(delivery.cause or delivery.effect or ""),
        )
    console.print(table)


@app.command()
def show(
    event: Event,
    body: Annotated[bool, typer.Option("--body", help="The body too, in clear. It may hold phones and names: audited.")] = False,
    reason: Annotated[str, typer.Option(help="Why the body is looked at (kept in the audit trail).")] = "",
    as_json: Json = False,
) -> None:
    """Show one delivery with all that is known about it."""
    with failures_told():
        event_id = _event_id(event)

    async def work(runtime: Runtime) -> tuple[StoredDelivery, bytes | None]:
        async with runtime.engine.connect() as connection:
            delivery = await show_delivery(connection, event_id)
        return delivery, await open_body(runtime, event_id, actor=actor(), reason=reason) if body else None

    delivery, opened = run(work)
    shown = delivery_json(delivery)
    if opened is not None:
        shown["body"] = opened.decode("utf-8", "backslashreplace")
    if as_json:
        _print_json(shown)
        return
    table = Table(show_header=False)
    for name, value in shown.items():
        table.add_row(name, escape("" if value is None else str(value)))
    console.print(table)


@app.command()
def replay(
    events: Annotated[list[str], typer.Argument(help="The ids of exceptions, or of deliveries that wait.")],
    reason: Annotated[str, typer.Option(help="Why (kept in the audit trail).")] = "",
    as_json: Json = False,
) -> None:
    """Let deliveries be applied again: a running worker takes them within seconds."""
    with failures_told():
        ids = [_event_id(event) for event in events]

    async def work(runtime: Runtime) -> int:
        return await replay_deliveries(runtime, ids, actor=actor(), reason=reason)

    replayed = run(work)
    if as_json:
        _print_json({"replayed": replayed})
    else:
        console.print(f"{replayed} due again")


def delivery_json(delivery: StoredDelivery) -> dict[str, Any]:
    """One delivery as --json prints it: the fields of StoredDelivery, ids and times (ISO, UTC) as text."""
    return {name: value if _is_plain(value) else _as_text(value) for name, value in asdict(delivery).items()}


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | bool | dict)


def _as_text(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no delivery id: `vault inbox list` shows them") from error


def _one_of(option: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise InvalidInput(f"{option} {value!r} is not one of {', '.join(allowed)}")
