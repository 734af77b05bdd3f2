"""`vault verify`: the proofs of the ledger, of the inbox and of the accounts that must be explained by what is open."""

import json
from typing import Annotated

import typer
from rich.console import Console

from vault_cli.session import actor, failures_told, run
from vault_cli.verify_view import ProofProgress, head_as_json, proof_as_json, show_history, show_proof
from vault_core.collections.proof import collections_findings
from vault_core.database import in_transaction
from vault_core.finding import Finding
from vault_core.inbox.proof import InboxProof, prove_inbox
from vault_core.ledger.proof_history import PastProof, past_proofs, record_proof
from vault_core.ledger.verification import LedgerProof, LedgerSize, ProofScope, ledger_size, prove_ledger_async
from vault_core.ledger.verification_seals import SealHead, seal_head
from vault_core.runtime import Runtime
from vault_core.wallets.charges_proof import charges_findings
from vault_core.wallets.proof import adjustment_findings

_FINDINGS = 1  # exit code: something is wrong with the books, not with the command


def verify(
    from_seal: Annotated[
        int | None,
        typer.Option("--from-seal", min=1, help="Take history up to this seal as given, and prove what came after it."),
    ] = None,
    expect_seal: Annotated[
        list[str] | None,
        typer.Option("--expect-seal", metavar="NUMBER:HEX", help="A seal as it was published: the chain must still hold it."),
    ] = None,
    print_head: Annotated[
        bool, typer.Option("--print-head", help="Prove nothing: print the newest seal as NUMBER:HEX, to be published.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Prove nothing: list the last proofs.")] = False,
    connections: Annotated[
        int | None, typer.Option(min=1, max=8, help="Connections that read side by side; by default the cores of this machine.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Recompute every invariant of the ledger and the inbox from the rows; exit 1 if one is broken, naming what and where.

    The proof is recorded. Publish `--print-head` outside the database and give it back by `--expect-seal`: whoever rewrites the
    rows and every seal after them is found out. With --from-seal N the rows that seal N covers are not looked at.

    JSON: {"ok", "ledger": {"transactions", "entries", "seals"}, "proof": {"from_seal", "head": {"number", "chain"} or null,
    "transactions", "entries", "seconds"}, "inbox": {"deliveries", "waiting", "processed", "exceptions"}, "findings": [{"check",
    "where", "what"}]}; `proof` counts what was read. --print-head gives the head alone, --history a list, newest first, of {"at",
    "by", "from_seal", "head", "transactions", "entries", "findings", "first_finding", "seconds"}.
    """
    with failures_told():
        published = [SealHead.parse(written) for written in expect_seal or ()]
    if print_head:
        _print_head(run(_head), json_)
    elif history:
        show_history(run(_history), json_)
    else:
        _prove(ProofScope(from_seal=from_seal, published=published), connections, json_)


def _prove(scope: ProofScope, connections: int | None, json_: bool) -> None:
    async def work(runtime: Runtime) -> tuple[LedgerProof, LedgerSize, InboxProof, list[Finding]]:
        now = runtime.clock.now()
        whole = ProofScope(scope.from_seal, scope.published, now)
        with ProofProgress() as progress:
            ledger = await prove_ledger_async(runtime.engine, whole, connections=connections, progress=progress)
        await in_transaction(runtime.engine, lambda connection: record_proof(connection, runtime, ledger, actor()))
        findings = [
            *ledger.findings,
            *await collections_findings(runtime.engine),
            *await adjustment_findings(runtime.engine),
            *await charges_findings(runtime.engine),
        ]
        async with runtime.engine.connect() as connection:
            size = await connection.run_sync(ledger_size)
            inbox = await connection.run_sync(lambda sync: prove_inbox(sync, now=now))
        return ledger, size, inbox, [*findings, *inbox.findings]

    ledger, size, inbox, findings = run(work)
    if json_:
        typer.echo(json.dumps(proof_as_json(ledger, size, inbox, findings)))
    else:
        show_proof(ledger, size, inbox, findings)
    if findings:
        raise typer.Exit(_FINDINGS)


async def _head(runtime: Runtime) -> SealHead | None:
    async with runtime.engine.connect() as connection:
        return await connection.run_sync(seal_head)


async def _history(runtime: Runtime) -> list[PastProof]:
    async with runtime.engine.connect() as connection:
        return await past_proofs(connection)


def _print_head(head: SealHead | None, json_: bool) -> None:
    if json_:
        typer.echo(json.dumps(head_as_json(head)))
    elif head is None:
        Console(stderr=True).print("nothing is sealed yet")
    else:
        typer.echo(str(head))
