"""Finding the account of a payment: the mirror says where to look, the partner's Mifos X is asked before anything is posted."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import FoundAccount
from vault_core.collections.candidates import Payer, with_candidates
from vault_core.collections.deciding import alone_up_to
from vault_core.collections.matching import (
    KnownAccount,
    Match,
    Matched,
    Named,
    Unmatched,
    compact,
    decide,
    find_named,
    match,
    name_of,
    read_reference,
    search_terms,
)
from vault_core.collections.mirror import Question, ask_about, find_known, find_near, load_freshness
from vault_core.collections.mirror_writing import phone_hash
from vault_core.errors import NotFound, VaultError
from vault_core.money import Money
from vault_core.partners.collection_settings import CollectionSettings, load_collection_settings
from vault_core.partners.connections import Connections
from vault_core.partners.person_limits import load_assign_limit
from vault_core.runtime import Runtime

_MOST_OPEN = 4  # accounts of one client: more than one can only be ambiguous


class Payment(Protocol):
    """What is looked at of a payment: PendingCollection is one."""

    @property
    def id(self) -> UUID:
        """The collection."""
        ...

    @property
    def partner_id(self) -> UUID:
        """Whose it is."""
        ...

    @property
    def amount(self) -> Money:
        """What was paid."""
        ...

    @property
    def bill_reference(self) -> str:
        """As typed."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A payment with what the mirror knows of its reference. `believed`: the mirror is whole and young.

    `alone_up_to`: what one person may assign alone.
    """

    question: Question
    settings: CollectionSettings
    known: list[KnownAccount]
    believed: bool
    amount: Money
    alone_up_to: Money
    typed: str = field(repr=False)


_PAYERS = text("SELECT id, payer_phone_hash, payer_name_sealed FROM collections WHERE id = ANY(:ids)")


async def look_up(runtime: Runtime, connections: Connections, payments: Sequence[Payment]) -> list[Match | VaultError]:
    """For each payment, in order: its account as Mifos X has it now, why there is none, or what kept Mifos X from being asked.

    An account that the mirror knows is read; what it does not know, or may not know of, is searched for. Safe to repeat: changes
    nothing.
    """
    partners = sorted({one.partner_id for one in payments})
    async with runtime.engine.connect() as connection:
        settings = await load_collection_settings(connection, partners)
        freshness, limit = await load_freshness(connection, partners), await load_assign_limit(connection)
        questions = [_ask(runtime, one, settings[one.partner_id]) for one in payments]
        found = await find_known(connection, questions)
    now, for_ = runtime.clock.now(), timedelta(seconds=runtime.pace.mirror_believed_for)
    asked = [
        _Asked(
            question,
            settings[one.partner_id],
            known,
            freshness[one.partner_id].holds(now, for_),
            one.amount,
            alone_up_to(settings[one.partner_id], runtime.pace, limit),
            one.bill_reference,
        )
        for one, question, known in zip(payments, questions, found, strict=True)
    ]
    matches = await asyncio.gather(*(_match(runtime, connections, one) for one in asked))
    return await _with_candidates(runtime, payments, asked, matches)


def _ask(runtime: Runtime, payment: Payment, settings: CollectionSettings) -> Question:
    reference = read_reference(payment.bill_reference, settings)
    return ask_about(runtime.sealer, payment.partner_id, payment.bill_reference, reference)


async def _match(runtime: Runtime, connections: Connections, asked: _Asked) -> Match | VaultError:
    question = asked.question
    try:
        client = await connections.mifos(question.partner_id)
        known, searched = asked.known, None
        if not asked.believed:  # another account of the same number may be missing in it
            searched = await _search(client, asked)
            known = [*known, *(one for one in searched if one.key not in {each.key for each in known})]
        named = find_named(question.reference, known, asked.settings, phone_hash=question.phone_hash)
        confirmed = None if named is None else await _confirm(runtime, client, asked, named)
        if named is not None and confirmed is not None:
            return await _said_by_enough(runtime, client, confirmed, named, replace(asked, known=known))
        searched = await _search(client, asked) if searched is None else searched
        return match(question.reference, searched, asked.settings)
    except VaultError as error:
        return error


async def _confirm(runtime: Runtime, client: MifosClient, asked: _Asked, named: Named) -> Match | None:
    """What the named accounts, as Mifos X has them now, come to; None: they are gone or have other names by now."""
    by_key = {one.key: one for one in named.accounts}
    keys = sorted(by_key)
    owner: KnownAccount | None = None
    clients = {one.account.client_id for one in named.accounts}
    if named.by_person and len(clients) == 1 and (client_id := next(iter(clients))) is not None:
        try:
            owner = await _owner(runtime, client, client_id, named.accounts[0])
            keys = (await client.open_accounts(client_id))[:_MOST_OPEN] or keys[:1]
        except NotFound:
            return None
    live = [one for one in await asyncio.gather(*(_read(client, *key) for key in keys)) if one is not None]
    renewed = [_renewed(by_key.get((one.kind, one.id)), one, owner) for one in live]
    question = asked.question
    still = find_named(question.reference, renewed, asked.settings, phone_hash=question.phone_hash)
    return None if still is None else decide([one.account for one in still.accounts], by_person=still.by_person)


async def _said_by_enough(runtime: Runtime, client: MifosClient, found: Match, named: Named, asked: _Asked) -> Match:
    """`found`, unless only one person's word leads to it and the payment is above what one person may assign alone.

    An alias may choose among several accounts that bear the reference: only where the payment goes to the same account without it
    does nothing rest on it.
    """
    if not isinstance(found, Matched) or asked.amount <= asked.alone_up_to:
        return found
    key, question = (found.account.kind, found.account.id), asked.question
    said_by = next((one.said_alone_by for one in named.accounts if one.key == key), None)
    if said_by is None:
        return found
    unsaid = [replace(one, alias=False) for one in asked.known]
    bearing = find_named(question.reference, unsaid, asked.settings, phone_hash=question.phone_hash)
    without = None if bearing is None else await _confirm(runtime, client, asked, bearing)
    if isinstance(without, Matched) and (without.account.kind, without.account.id) == key:
        return found
    why = (
        f"the reference stands for {name_of(found.account)} by the word of {said_by} alone, and {asked.amount} is above "
        f"{asked.alone_up_to}, up to which one person decides"
    )
    return Unmatched(why, bearers=(found.account,))


def _renewed(known: KnownAccount | None, account: FoundAccount, owner: KnownAccount | None) -> KnownAccount:
    known = replace(known or KnownAccount(account), account=account)
    return known if owner is None else replace(known, client_no=owner.client_no, phone_hash=owner.phone_hash)


async def _owner(runtime: Runtime, client: MifosClient, client_id: int, known: KnownAccount) -> KnownAccount:
    """`known` with its client's number and phone as they are now."""
    now = await client.listed_client(client_id)
    return replace(known, client_no=compact(now.account_no), phone_hash=phone_hash(runtime.sealer, now.mobile_no))


async def _read(client: MifosClient, kind: str, account_id: int) -> FoundAccount | None:
    try:
        return await client.account(kind, account_id)
    except NotFound:
        return None


async def _search(client: MifosClient, asked: _Asked) -> list[KnownAccount]:
    """What Mifos X finds by number or external id: every spelling is looked for, also when an earlier one found something."""
    numbers = [number for kind, number in asked.question.reference.prefixed if kind != "client"]
    terms = dict.fromkeys([*search_terms(asked.typed), *numbers])
    found = [account for term in terms for account in await client.find_accounts(term)]
    return [KnownAccount(account) for account in found]


async def _with_candidates(
    runtime: Runtime, payments: Sequence[Payment], asked: Sequence[_Asked], matches: Sequence[Match | VaultError]
) -> list[Match | VaultError]:
    unmatched = [payment.id for payment, one in zip(payments, matches, strict=True) if isinstance(one, Unmatched)]
    if not unmatched:
        return list(matches)
    async with runtime.engine.connect() as connection:
        payers = await _payers(connection, runtime, unmatched)
        return [
            await _scored(connection, runtime, each, one, payers.get(payment.id, Payer())) if isinstance(one, Unmatched) else one
            for payment, each, one in zip(payments, asked, matches, strict=True)
        ]


async def _scored(connection: AsyncConnection, runtime: Runtime, asked: _Asked, unmatched: Unmatched, payer: Payer) -> Unmatched:
    owners = {one.client_id for one in unmatched.bearers if one.client_id is not None}
    question = asked.question
    near = await find_near(connection, runtime, question, clients=owners, payer_phone_hash=payer.phone_hash)
    return with_candidates(unmatched, question.reference, near, payer, question.phone_hash)


async def _payers(connection: AsyncConnection, runtime: Runtime, ids: Sequence[UUID]) -> Mapping[UUID, Payer]:
    rows = await connection.execute(_PAYERS, {"ids": list(ids)})
    return {
        row.id: Payer(
            phone_hash=None if row.payer_phone_hash is None else bytes(row.payer_phone_hash),
            name=None
            if row.payer_name_sealed is None
            else runtime.sealer.open_text(row.payer_name_sealed, bound_to=f"collections:{row.id}:payer_name"),
        )
        for row in rows
    }
