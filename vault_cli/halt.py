"""`vault halt`: stopping all sending of payouts at once, and letting it go on."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vault_cli.halt_view import halt_banner, halt_json, sendable_json, sendable_words
from vault_cli.moments import iso, moment
from vault_cli.session import actor, run
from vault_core.disbursements.payout_halt import Halt, begin_halt, end_halt, halt_in_force
from vault_core.disbursements.sendable import Sendable, sendable_loans
from vault_core.runtime import Runtime

if TYPE_CHECKING:
    from vault_core.disbursements.under_way import UnderWay

_STILL_UNDER_WAY = 1
console = Console(soft_wrap=True, highlight=False)


@dataclass(frozen=True, slots=True)
class _Stopped:
    """`in_force_at`: the halt was committed by then. `left`: what was under way when it was last looked, `looked_at`."""

    halt: Halt
    in_force_at: datetime
    looked_at: datetime
    left: "list[UnderWay]"


def halt(
    reason: Annotated[
        str, typer.Option(help="Shown to whoever asks why nothing is paid; kept in the audit trail.")
    ] = "on the command line",
    end: Annotated[bool, typer.Option("--end", help="Let sending go on.")] = False,
    within: Annotated[float, typer.Option(min=0, help="Seconds to wait for what is under way.")] = 60,
    yes: Annotated[bool, typer.Option("--yes", help="With --end: do not ask.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Stop all sending of payouts, of every partner, in every process, within a second. Results, questions, postings go on.

    Returns when nothing that began before is under way any more. Ends with 1, naming them, if some still are after --within: the
    halt holds all the same, and their outcome comes by their result or a status question.

    JSON: {"halt": {"begun_at", "begun_by", "reason"}, "in_force_at", "looked_at", "under_way": [{"partner", "disbursement",
    "loan_account_no", "originator_conversation_id", "amount_cents", "over_at"}]}; with --end {"ended": null or as "halt",
    "goes": [{"partner", "loans", "total_cents", "oldest"}]}
    """
    if end:
        _end(reason, yes=yes, json_=json_)
        return

    async def stop(runtime: Runtime) -> "_Stopped":
        begun = await begin_halt(runtime, reason=reason, actor=actor())
        in_force_at = runtime.clock.now()
        if not json_:
            console.print(halt_banner(begun))
            console.print(f"in force at {moment(in_force_at)}, in every process half a second later")
        # What takes long to import is imported when nothing begins any more.
        from vault_core.disbursements.under_way import await_quiet

        left = await await_quiet(runtime, within=within)
        return _Stopped(begun, in_force_at, runtime.clock.now(), left)

    stopped = run(stop)
    if json_:
        typer.echo(json.dumps(_stopped_json(stopped), indent=2))
    elif not stopped.left:
        console.print(f"nothing is under way at {moment(stopped.looked_at)}: no payout is being sent, and none begins")
    else:
        console.print(
            f"after {within:g} s the answer to {len(stopped.left)} is still missing; each is settled by its result or a question:"
        )
        for one in stopped.left:
            console.print(f"  {_words(one)}", markup=False)
    if stopped.left:
        raise typer.Exit(_STILL_UNDER_WAY)


def _end(reason: str, *, yes: bool, json_: bool) -> None:
    async def look(runtime: Runtime) -> tuple[Halt | None, list[Sendable]]:
        async with runtime.engine.connect() as connection:
            return await halt_in_force(connection), await sendable_loans(connection)

    in_force, goes = run(look)
    if in_force is not None and not (yes or json_):
        console.print(halt_banner(in_force))
        _print_goes(goes)
        typer.confirm("Let it go on?", abort=True)
    ended = run(lambda runtime: end_halt(runtime, reason=reason, actor=actor()))
    if json_:
        typer.echo(json.dumps({"ended": halt_json(ended), "goes": [sendable_json(one) for one in goes]}, indent=2))
    elif ended is None:
        console.print("sending was not halted")
    else:
        console.print("sending goes on; what waited is sent within half a minute")


def _print_goes(goes: list[Sendable]) -> None:
    for one in goes:
        console.print(f"  {sendable_words(one)}", markup=False)
    if not goes:
        console.print("nothing waits to be sent")


def _stopped_json(stopped: _Stopped) -> dict[str, Any]:
    return {
        "halt": halt_json(stopped.halt),
        "in_force_at": iso(stopped.in_force_at),
        "looked_at": iso(stopped.looked_at),
        "under_way": [_under_way_json(one) for one in stopped.left],
    }


def _under_way_json(one: "UnderWay") -> dict[str, Any]:
    return {
        "partner": one.partner,
        "disbursement": str(one.disbursement_id),
        "loan_account_no": one.loan_account_no,
        "originator_conversation_id": one.originator_conversation_id,
        "amount_cents": one.amount.cents,
        "over_at": moment(one.over_at),
    }


def _words(one: "UnderWay") -> str:
    return (
        f"{one.partner}, loan {one.loan_account_no}, {one.amount}, instruction {one.originator_conversation_id}: nobody can be "
        f"sending it after {moment(one.over_at)}"
    )
