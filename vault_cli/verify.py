"""`vault verify`: the proofs of the ledger and of the inbox."""

import json
from typing import Annotated

import typer
from rich.console import Console

from vault_cli.session import run
from vault_core.collections.proof import collections_findings
from vault_core.finding import Finding
from vault_core.inbox.proof import InboxProof, prove_inbox
from vault_core.ledger.verification import LedgerSize, ledger_size, verify_ledger_async
from vault_core.runtime import Runtime
from vault_core.wallets.proof import adjustment_findings

_FINDINGS = 1  # exit code: something is wrong with the books, not with the command


def verify(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Recompute every invariant of the ledger and the inbox from the rows; exit 1 if one is broken, naming what and where.

    JSON: {"ok", "ledger": {"transactions", "entries", "seals"}, "inbox": {"deliveries", "waiting", "processed", "exceptions"},
    "findings": [{"check", "where", "what"}]}
    """

    async def work(runtime: Runtime) -> tuple[LedgerSize, InboxProof, list[Finding]]:
        now = runtime.clock.now()
        findings = [
            *await verify_ledger_async(runtime.engine, now=now),
            *await collections_findings(runtime.engine),
            *await adjustment_findings(runtime.engine),
        ]
        async with runtime.engine.connect() as connection:
            size = await connection.run_sync(ledger_size)
            inbox = await connection.run_sync(lambda sync: prove_inbox(sync, now=now))
        return size, inbox, [*findings, *inbox.findings]

    size, inbox, findings = run(work)
    if json_:
        typer.echo(json.dumps(_as_json(size, inbox, findings)))
    else:
        _print(size, inbox, findings)
    if findings:
        raise typer.Exit(_FINDINGS)


def _as_json(size: LedgerSize, inbox: InboxProof, findings: list[Finding]) -> dict[str, object]:
    return {
        "ok": not findings,
        "ledger": {"transactions": size.transactions, "entries": size.entries, "seals": size.seals},
        "inbox": {
            "deliveries": inbox.deliveries,
            "waiting": inbox.waiting,
            "processed": inbox.processed,
            "exceptions": inbox.exceptions,
        },
        "findings": [{"check": finding.check, "where": finding.where, "what": finding.what} for finding in findings],
    }


def _print(size: LedgerSize, inbox: InboxProof, findings: list[Finding]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"ledger: {size.transactions:,} transactions, {size.entries:,} entries, {size.seals:,} seals")
    console.print(
        f"inbox: {inbox.deliveries:,} deliveries, {inbox.processed:,} processed, {inbox.waiting:,} waiting, "
        f"{inbox.exceptions:,} exceptions"
    )
    for finding in findings:
        console.print(f"[bold red]wrong[/] {finding}")
    if not findings:
        console.print("[bold green]all proofs hold[/]")
