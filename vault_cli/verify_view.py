"""How a proof is shown while it runs and when it is done."""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from vault_core.clock import NAIROBI
from vault_core.finding import Finding
from vault_core.inbox.proof import InboxProof
from vault_core.ledger.proof_history import PastProof
from vault_core.ledger.verification import LedgerProof, LedgerSize
from vault_core.ledger.verification_seals import SealHead

_QUIET_SECONDS = 2.0  # a proof that is done by then needs no progress
_LINE_SECONDS = 5.0  # between two plain lines where there is no terminal


class ProofProgress(AbstractContextManager["ProofProgress"]):
    """Progress on stderr: bars on a terminal, a line every few seconds elsewhere, nothing for a proof that is quickly done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._began = self._told = time.monotonic()
        self._started: dict[str, float] = {}
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, check: str, done: int, total: int) -> None:
        """Takes in how far `check` is."""
        now = time.monotonic()
        since = self._started.setdefault(check, now if self._started else self._began)
        if now - self._began < _QUIET_SECONDS:
            return
        rate = f"{done / max(now - since, 0.001):,.0f}/s"
        if self._console.is_terminal:
            self._draw(check, done, total, rate)
        elif now - self._told >= _LINE_SECONDS or done >= total > 0:
            self._told = now
            self._console.print(f"{check}: {done:,} of {total:,}, {rate}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _draw(self, check: str, done: int, total: int, rate: str) -> None:
        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeElapsedColumn())
            self._bars = Progress(*columns, console=self._console)
            self._bars.start()
        if check not in self._tasks:
            self._tasks[check] = self._bars.add_task(check, figures="")
        figures = f"{done:,} of {total:,}, {rate}"
        self._bars.update(self._tasks[check], completed=done, total=max(done, total), figures=figures)


def proof_as_json(ledger: LedgerProof, size: LedgerSize, inbox: InboxProof, findings: Sequence[Finding]) -> dict[str, Any]:
    """The keys that `vault verify --help` documents."""
    return {
        "ok": not findings,
        "ledger": {"transactions": size.transactions, "entries": size.entries, "seals": size.seals},
        "proof": {
            "from_seal": ledger.from_seal,
            "head": head_as_json(ledger.head),
            "transactions": ledger.transactions,
            "entries": ledger.entries,
            "seconds": round(ledger.took.total_seconds(), 3),
        },
        "inbox": {
            "deliveries": inbox.deliveries,
            "waiting": inbox.waiting,
            "processed": inbox.processed,
            "exceptions": inbox.exceptions,
        },
        "findings": [{"check": finding.check, "where": finding.where, "what": finding.what} for finding in findings],
    }


def show_proof(ledger: LedgerProof, size: LedgerSize, inbox: InboxProof, findings: Sequence[Finding]) -> None:
    """Says how much there is, what was read, and what is wrong: one line a finding."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"ledger: {size.transactions:,} transactions, {size.entries:,} entries, {size.seals:,} seals")
    if ledger.from_seal is not None:
        console.print(
            f"read from seal {ledger.from_seal} on: {ledger.transactions:,} transactions, {ledger.entries:,} entries; "
            f"what seal {ledger.from_seal} and those before it cover was taken as given"
        )
    if ledger.head is not None:
        console.print(f"newest seal: {ledger.head}")
    console.print(
        f"inbox: {inbox.deliveries:,} deliveries, {inbox.processed:,} processed, {inbox.waiting:,} waiting, "
        f"{inbox.exceptions:,} exceptions"
    )
    for finding in findings:
        console.print(f"[bold red]wrong[/] {escape(str(finding))}")
    if not findings:
        console.print("[bold green]all proofs hold[/]")


def show_history(proofs: Sequence[PastProof], json_: bool) -> None:
    """The proofs that were made, newest first."""
    if json_:
        typer.echo(json.dumps([_past_as_json(proof) for proof in proofs]))
        return
    table = Table("proved (EAT)", "by", "from seal", "newest seal", "entries", "seconds", "found wrong", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for proof in proofs:
        table.add_row(
            f"{proof.proved_at.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S}",
            escape(proof.proved_by),
            "all" if proof.from_seal is None else str(proof.from_seal),
            "" if proof.head is None else str(proof.head.number),
            f"{proof.entries:,}",
            f"{proof.took.total_seconds():,.1f}",
            "nothing" if not proof.findings else f"{proof.findings}, first {escape(proof.first_finding or '')}",
        )
    Console(soft_wrap=True).print(table)


def _past_as_json(proof: PastProof) -> dict[str, Any]:
    return {
        "at": proof.proved_at.isoformat(),
        "by": proof.proved_by,
        "from_seal": proof.from_seal,
        "head": head_as_json(proof.head),
        "transactions": proof.transactions,
        "entries": proof.entries,
        "findings": proof.findings,
        "first_finding": proof.first_finding,
        "seconds": round(proof.took.total_seconds(), 3),
    }


def head_as_json(head: SealHead | None) -> dict[str, Any] | None:
    """A seal as JSON shows it."""
    return None if head is None else {"number": head.number, "chain": head.chain.hex()}
