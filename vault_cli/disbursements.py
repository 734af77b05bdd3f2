"""`vault disbursements ...`: what became of every loan to be paid; what a person may do about it stands in files of its own."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

import typer

from vault_cli import disbursement_acts, disbursement_evidence
from vault_cli.disbursement_view import payout_json, print_payouts, print_story, print_stuck, stuck_json
from vault_cli.disbursement_wish import Json, Partner, Which, console, print_json
from vault_cli.halt_view import halt_banner, halt_json
from vault_cli.session import failures_told, run
from vault_cli.story_view import event_json
from vault_core.clock import NAIROBI
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.payout_halt import Halt, halt_in_force
from vault_core.disbursements.payout_list import ListedPayout, list_payouts, listed_payout
from vault_core.disbursements.payout_reference import find_payout
from vault_core.disbursements.states import State
from vault_core.disbursements.story import tell
from vault_core.disbursements.story_rows import read_story_rows
from vault_core.disbursements.stuck_groups import group_stuck
from vault_core.errors import InvalidInput
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.story import Event

app = typer.Typer(no_args_is_help=True, help="Disbursements: what became of each, and what a person may do about it.")

_EVERY_ONE = 100_000
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
    """List disbursements, the newest first, with what each waits for and what to do. What is stuck is counted first.

    JSON: {"halt": null or {"begun_at", "begun_by", "reason"}, with --stuck "stuck": [{"partner", "state", "held_for", "loans",
    "total_cents", "since"}], "disbursements": [{"id", "partner", "loan_account_no", "loan_id",
    "tranche", "payout_cents", "principal_cents", "state", "held_for", "reason", "phone", "found_by", "detected_at", "since",
    "due_at", "instructions", "receipt", "paid_at", "posted_at", "stuck", "next"}]}
    """
    with failures_told():
        wait = None if since is None else _since(since)

    async def work(runtime: Runtime) -> tuple[Halt | None, list[ListedPayout]]:
        after = wait(runtime.clock.now()) if wait is not None else None
        counted = _EVERY_ONE if stuck else most  # of those that are stuck all are counted
        async with runtime.engine.connect() as connection:
            if partner is not None:
                await load_partner(connection, name=partner)
            found = await list_payouts(
                connection, runtime, partner=partner, state=state, held_for=held_for, since=after, stuck=stuck, most=counted
            )
            return await halt_in_force(connection), found

    halt, payouts = run(work)
    groups = group_stuck(payouts) if stuck else []
    if json_:
        counts = {"stuck": [stuck_json(group) for group in groups]} if stuck else {}
        print_json({"halt": halt_json(halt), **counts, "disbursements": [payout_json(payout) for payout in payouts[:most]]})
        return
    if halt is not None:
        console.print(halt_banner(halt))
    if groups:
        print_stuck(console, groups, shown=min(most, len(payouts)))
    if payouts:
        print_payouts(console, payouts[:most])
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
        print_json({"disbursement": payout_json(payout), "halt": halt_json(halt), "story": story})
        return
    if halt is not None:
        console.print(halt_banner(halt))
    print_story(console, payout, events)


for command in (
    disbursement_acts.retry,
    disbursement_acts.hold,
    disbursement_acts.cancel,
    disbursement_acts.release,
    disbursement_evidence.resolve,
    disbursement_evidence.proposals,
    disbursement_evidence.approve,
    disbursement_evidence.reject,
    disbursement_acts.resume,
):
    app.command()(command)


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
