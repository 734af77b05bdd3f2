"""`vault collections aliases|alias|unalias`: references that people say stand for an account."""

import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_cli.session import actor, run
from vault_core.clients.mifos_values import FoundAccount
from vault_core.clock import NAIROBI
from vault_core.collections.aliases import Alias, add_alias, list_aliases, remove_alias
from vault_core.collections.masking import mask_reference
from vault_core.collections.matching import compact, name_of
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput, NotFound
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner, load_partner
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)

PartnerName = Annotated[str, typer.Argument(metavar="PARTNER", help="The partner's short name.")]
Reference = Annotated[str, typer.Argument(help="What payers type; any case and any spaces are the same.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


def aliases(partner: PartnerName, json_: Json = False) -> None:
    """References that people said stand for an account. What one person said routes no payment above one person's limit.

    JSON: [{"reference", "kind", "account_id", "account_no", "added_by", "added_at", "agreed_by"}], reference masked
    """

    async def work(runtime: Runtime) -> Sequence[Alias]:
        async with runtime.engine.connect() as connection:
            return await list_aliases(connection, runtime, (await load_partner(connection, name=partner)).id)

    found = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(one) for one in found]))
    elif not found:
        console.print(f"{partner} has no aliases")
    else:
        table = Table("reference", "account", "added by", "when", "agreed by")
        for column in table.columns:
            column.overflow = "fold"
        for one in found:
            when = f"{one.added_at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
            table.add_row(mask_reference(one.reference), f"{one.kind} {one.account_no}", one.added_by, when, one.agreed_by or "")
        console.print(table)


def alias(
    partner: PartnerName,
    reference: Reference,
    loan: Annotated[str | None, typer.Option(help="Number or external id of the loan it stands for.")] = None,
    savings: Annotated[str | None, typer.Option(help="Number or external id of the savings account it stands for.")] = None,
) -> None:
    """From now on payments with REFERENCE are for this account. It takes the place of an alias of the same reference.

    One person's word: a payment above one person's limit goes to suspense still, until another login says the same.
    """

    async def work(runtime: Runtime) -> tuple[FoundAccount, bool]:
        if (loan is None) == (savings is None):
            raise InvalidInput("give one account: --loan NUMBER or --savings NUMBER")
        owner = await _partner(runtime, partner)
        kind, number = ("loan", loan) if loan is not None else ("savings", savings or "")
        account = await _account(runtime, owner, kind, number)

        async def add(connection: AsyncConnection) -> bool:
            return await add_alias(connection, runtime, owner.id, reference, account, actor=actor())

        return account, await in_transaction(runtime.engine, add)

    account, agreed = run(work)
    more = "" if agreed else "; above one person's limit they go to suspense, until another login says the same"
    console.print(f"payments with that reference are for {name_of(account)} of {partner}{more}", markup=False)


def unalias(partner: PartnerName, reference: Reference) -> None:
    """REFERENCE stands for nothing any more."""

    async def work(runtime: Runtime) -> None:
        owner = await _partner(runtime, partner)

        async def remove(connection: AsyncConnection) -> None:
            await remove_alias(connection, runtime, owner.id, reference, actor=actor())

        await in_transaction(runtime.engine, remove)

    run(work)
    console.print(f"that reference is no alias of {partner} any more", markup=False)


async def _partner(runtime: Runtime, name: str) -> Partner:
    async with runtime.engine.connect() as connection:
        return await load_partner(connection, name=name)


async def _account(runtime: Runtime, partner: Partner, kind: str, number: str) -> FoundAccount:
    async with aclosing(Connections(runtime)) as connections:
        found = await (await connections.mifos(partner.id)).find_accounts(compact(number))
    accounts = [one for one in found if one.kind == kind]
    if len(accounts) != 1:
        raise NotFound(
            f"Mifos X of {partner.name} has {len(accounts) or 'no'} {kind} accounts with number or external id {number[:40]!r}"
        )
    return accounts[0]


def _as_json(one: Alias) -> dict[str, object]:
    return {
        "reference": mask_reference(one.reference),
        "kind": one.kind,
        "account_id": one.account_id,
        "account_no": one.account_no,
        "added_by": one.added_by,
        "added_at": one.added_at.isoformat(),
        "agreed_by": one.agreed_by,
    }
