"""`vault collections ...`: customers' payments, where they stand, and what people decide about them."""

import json
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from vault_cli import collections_decisions
from vault_cli.collections_view import collection_json, print_collections, print_story
from vault_cli.session import actor, run
from vault_cli.story_view import event_json
from vault_core.collections.finding import find_collection
from vault_core.collections.listing import ListedCollection, list_collections
from vault_core.collections.resuming import resume_collections
from vault_core.collections.story import tell
from vault_core.collections.story_rows import read_story_rows
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.story import Event

app = typer.Typer(no_args_is_help=True, help="Collections: customers' payments and where they stand.")
console = Console(soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command("list")
def list_(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, posted and reversed among them.")] = None,
    older_than: Annotated[int, typer.Option(min=0, help="Only those paid more than so many hours ago.")] = 0,
    json_: Json = False,
) -> None:
    """Payments that are not in Mifos X: on their way, in suspense, being given back, or with a person. The oldest first.

    JSON: [{"partner", "short_code", "receipt", "amount_cents", "happened_at", "age_hours", "state", "in_suspense", "reason",
    "reference" (masked), "account", "waits_for", "owner", "candidates"}]
    """

    async def work(runtime: Runtime) -> tuple[list[ListedCollection], datetime]:
        async with runtime.engine.connect() as connection:
            if partner is not None:
                await load_partner(connection, name=partner)
            age = timedelta(hours=older_than)
            found = await list_collections(connection, runtime, partner=partner, state=state, older_than=age)
            return found, runtime.clock.now()

    found, now = run(work)
    if json_:
        typer.echo(json.dumps([collection_json(one, now) for one in found]))
    elif not found:
        console.print("every payment is in Mifos X" if state is None and not older_than else "no such payment")
    else:
        print_collections(console, found, now)


@app.command()
def show(
    receipt: Annotated[str, typer.Argument(help="The M-Pesa receipt of the payment.")],
    short_code: Annotated[str | None, typer.Option(help="Of this pay bill, where two have the receipt.")] = None,
    json_: Json = False,
) -> None:
    """Tell the whole story of one payment: who told of it, what was looked for and decided, the books, the texts, the cases.

    JSON: {the keys of `list`, "story": [{"at", "who", "what", "refs"}]}
    """

    async def work(runtime: Runtime) -> tuple[ListedCollection, list[Event], datetime]:
        async with runtime.engine.connect() as connection:
            one = await find_collection(connection, runtime, receipt, short_code=short_code)
            listed = await list_collections(connection, runtime, receipt=one.receipt)
            events = tell(await read_story_rows(connection, runtime, one.id))
            return next(each for each in listed if each.short_code == one.short_code), events, runtime.clock.now()

    one, events, now = run(work)
    if json_:
        typer.echo(json.dumps(collection_json(one, now) | {"story": [event_json(event) for event in events]}))
    else:
        print_story(console, one, events, now)


@app.command()
def resume(
    partner: Annotated[str, typer.Argument(help="The partner's short name.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
    receipt: Annotated[list[str] | None, typer.Option(help="Only this receipt; may be given again.")] = None,
    json_: Json = False,
) -> None:
    """Take payments up again that were handed over (needs_review): after an outage of Mifos X, say. Posts none twice.

    JSON: {"resumed": [receipts]}
    """

    async def work(runtime: Runtime) -> list[str]:
        async with runtime.engine.connect() as connection:
            await load_partner(connection, name=partner)
        return await resume_collections(runtime, partner, actor=actor(), reason=reason, receipts=receipt)

    resumed = run(work)
    if json_:
        typer.echo(json.dumps({"resumed": resumed}))
    else:
        console.print(f"taken up again: {', '.join(resumed) or 'none; nothing of that partner is in needs_review'}")


collections_decisions.register(app)
