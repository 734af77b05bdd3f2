"""`vault demo`: a lender's day over the real parts, with the proof at its end."""

import asyncio
import json
import os
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from local_stack import stack
from local_stack.demo.watching import Picture
from local_stack.home import demo_home, home_of
from local_stack.plan import Plan
from vault_cli.demo_live import live_server
from vault_cli.session import fail, failures_told
from vault_core.clock import business_day
from vault_core.money import Money

if TYPE_CHECKING:
    from local_stack.demo.live_lender import LiveOutcome
    from local_stack.demo.run_day import DayOutcome

console = Console(stderr=True)
_PROOF_FAILED = 1
_USAGE = 2
_PLAIN_WIDTH = 120  # where the output is no terminal


def demo(
    seed: Annotated[int, typer.Option(help="Chooses who borrows, who pays and what goes wrong.")] = 1,
    day: Annotated[str, typer.Option(help="The day to live, YYYY-MM-DD; today unless given, never a later one.")] = "",
    leave: Annotated[bool, typer.Option("--exit", help="Stop everything after the proof.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the outcome to this file.")] = None,
    mifos: Annotated[str, typer.Option(help="One lender more, on this running Mifos X (docs/live_mifos.md).")] = "",
    mifos_user: Annotated[str, typer.Option(help="A super user there.")] = "mifos",
    mifos_tenant: Annotated[str, typer.Option(help="Its tenant.")] = "default",
    mifos_password_file: Annotated[Path | None, typer.Option(help="A file that holds the user's password.")] = None,
    mifos_loans: Annotated[int, typer.Option(help="How many loans are approved there.")] = 200,
    mifos_restart: Annotated[str, typer.Option(help="A command that kills and restarts it, run once in the middle.")] = "",
    mifos_is_a_test_server: Annotated[bool, typer.Option("--mifos-is-a-test-server", help="No real people are in it.")] = False,
) -> None:
    """Live a lender's day on this machine, faults included, and prove every shilling. Ends with 0 only if the proof holds.

    It runs in an installation of its own, `.vault/demo`, made afresh each time; yours is not touched.
    """
    from local_stack.demo.run_day import run_day  # pandas and Dagster, which no other command needs

    chosen = _chosen_day(day)
    server = live_server(
        mifos, mifos_user, mifos_tenant, mifos_password_file, mifos_loans, mifos_restart, for_tests=mifos_is_a_test_server
    )
    home = demo_home(home_of(os.environ))
    with failures_told():
        try:
            with _View(seed, chosen) as view:
                outcome, plan = asyncio.run(run_day(home, os.environ, seed=seed, day=chosen, show=view.show, server=server))
            if json_file is not None:
                json_file.write_text(json.dumps(as_json(outcome), indent=2) + "\n", encoding="utf-8")
            _print_outcome(outcome)
            if not leave:
                _print_addresses(plan)
        finally:
            if leave:
                stack.down(home, {**os.environ, "VAULT_HOME": str(home.path)})
    if not outcome.ok:
        raise typer.Exit(_PROOF_FAILED)


def as_json(outcome: "DayOutcome") -> dict[str, Any]:
    """The outcome in the shape that `--json` promises (docs/operations.md)."""
    picture = outcome.picture
    counts = {
        "loans": picture.loans,
        "payments": picture.payments,
        **{f"loans_{state}": n for state, n in sorted(picture.disbursements.items())},
        **{f"loans_found_by_{how}": n for how, n in sorted(picture.found_by.items())},
        **{f"payments_{state}": n for state, n in sorted(picture.collections.items())},
        **{f"messages_{state}": n for state, n in sorted(picture.messages.items())},
    }
    return {
        "seed": outcome.seed,
        "day": outcome.day.isoformat(),
        "ok": outcome.ok,
        "proof": [
            {
                "partner": line.partner,
                "line": line.line,
                "truth_cents": line.truth_cents,
                "ledger_cents": line.ledger_cents,
                "report_cents": line.report_cents,
                "difference_cents": line.difference_cents,
            }
            for line in outcome.proof
        ],
        "findings": outcome.findings,
        "story": {happening.name: happening.times for happening in outcome.story},
        "counts": counts,
        "faults": outcome.faults,
        "open_cases": [
            {"kind": case["kind"], "subject": case["subject"], "amount_cents": case["amount_cents"]} for case in outcome.cases
        ],
        "seconds": outcome.seconds,
        **({} if outcome.live is None else {"live": _live_as_json(outcome.live)}),
    }


def _live_as_json(live: "LiveOutcome") -> dict[str, Any]:
    span = live.span
    return {
        "url": live.url,
        "disbursements_posted": span.postings,
        "calls_again": span.calls_again,
        "posting_seconds": round(span.seconds, 1),
        **asdict(live.collected),
        "kill": None if live.kill is None else asdict(live.kill),
    }


def _chosen_day(text: str) -> date:
    today = business_day(datetime.now(UTC))
    if not text:
        return today
    try:
        chosen = date.fromisoformat(text)
    except ValueError:
        fail(f"--day {text!r} is not a day: write it as {today.isoformat()}", _USAGE)
    if not date(2026, 1, 1) <= chosen <= today:
        fail(f"--day {text} must lie between 2026-01-01, the first day reports know, and today", _USAGE)
    return chosen


class _View:
    """The day as it goes: a live table on a terminal, a line at each change of phase elsewhere."""

    def __init__(self, seed: int, day: date) -> None:
        self._title = f"Payment Vault, {day.isoformat()}, seed {seed}"
        self._phase = ""
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, phase: str, picture: Picture | None) -> None:
        """Shows the phase and the day so far."""
        if self._live:
            self._live.update(_picture_of(f"{self._title}: {phase}", picture))
        elif phase != self._phase:
            console.print(phase, highlight=False)
        self._phase = phase


def _picture_of(title: str, picture: Picture | None) -> Group:
    """The title above, not in, the table: a table wraps its title to its own width."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if picture is not None:
        for name, states in (("loan", picture.disbursements), ("payment", picture.collections), ("message", picture.messages)):
            for state, number in sorted(states.items()):
                table.add_row(f"{name}s {state}", str(number))
        table.add_row("deliveries to apply", str(picture.open_deliveries))
        table.add_row("calls to make", str(picture.open_calls))
        table.add_row("to be posted on the next working day", str(picture.for_working_day))
    return Group(Text(title, style="bold"), table)


def _print_outcome(outcome: "DayOutcome") -> None:
    out = Console() if Console().is_terminal else Console(width=_PLAIN_WIDTH)
    table = Table(
        title=f"What really happened on {outcome.day}, what our ledger says, what the reports say (KES)", title_justify="left"
    )
    table.add_column("accounts of", no_wrap=True)
    table.add_column("line", no_wrap=True)
    for column in ("outside", "ledger", "reports", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    owner = ""
    for line in outcome.proof:
        if owner and line.partner != owner:
            table.add_section()
        owner = line.partner
        mark = "" if line.difference_cents == 0 else (" (open case)" if line.holds else " [red]UNEXPLAINED[/]")
        figures = (line.truth_cents, line.ledger_cents, line.report_cents)
        table.add_row(
            line.partner, line.line, *(f"{Money(cents).as_decimal():,}" for cents in figures),
            f"{Money(line.difference_cents).as_decimal():,}{mark}",
        )  # fmt: skip
    out.print(table)
    out.print("`vault verify` finds nothing wrong." if not outcome.findings else "[bold red]`vault verify` finds:[/]")
    for finding in outcome.findings:
        out.print(f"  {escape(finding)}", highlight=False)
    out.print("What a person, or a rule of ours, had to see to:", highlight=False)
    for happening in outcome.story:
        out.print(f"  {happening.times:>3}  {happening.words}", highlight=False, soft_wrap=True)
    faults = ", ".join(f"{name} {times}" for name, times in sorted(outcome.faults.items()))
    out.print(f"Faults met: {faults or 'none'}.", highlight=False)
    out.print("Open cases, each for a person:" if outcome.cases else "No open case.")
    for case in outcome.cases:
        amount = "" if case["amount_cents"] is None else f", {Money(case['amount_cents'])}"
        out.print(f"  {case['partner'] or 'house'}: {case['kind']}, {case['subject']}{amount}", highlight=False)
    if outcome.live:
        out.print(_live_in_words(outcome.live), highlight=False, markup=False)
    if outcome.problem:
        out.print(f"[bold red]The day did not end:[/] {escape(outcome.problem)}")
    out.print("[bold green]Every shilling is where it should be.[/]" if outcome.ok else "[bold red]The proof does not hold.[/]")


def _live_in_words(live: "LiveOutcome") -> str:
    took = live.collected
    told = f"On {live.url}: {live.span.postings} disbursements posted, {live.span.calls_again} calls made again; "
    told += f"{took.repayments} repayments and {took.deposits} deposits stand, {took.undone} more were undone."
    if live.kill is None:
        return told
    was = f"{live.kill.posted} were posted and {live.kill.under_way} under way"
    return f"{told} It was killed when {was}; the command took {live.kill.seconds:.0f} s."


def _print_addresses(plan: Plan) -> None:
    console.print(f"Dagster: http://127.0.0.1:{plan.ports['dagster'].number}   reports: {plan.environment['VAULT_REPORTS_DIR']}")
    here = f"VAULT_HOME={plan.home.path} ./vault"
    console.print(f"It stays up. Look around: {here} disbursements list --stuck, {here} cases", soft_wrap=True, highlight=False)
    console.print(f"Stop it with: {here} down", soft_wrap=True, highlight=False)
