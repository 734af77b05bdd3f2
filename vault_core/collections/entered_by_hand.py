"""Payments that somebody entered in Mifos X by hand before we could post them, as its web hooks told (core_payments.py).

Posted by us as well such a payment would count twice. On the account that it is for it is looked for before it is posted
(posting.py); on another one only a person can tell to which of the two it belongs.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import text

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import FoundAccount
from vault_core.collections.matching import Candidate, Match, Matched, Unmatched, name_of
from vault_core.collections.pending import PendingCollection
from vault_core.errors import NotFound, VaultError
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

_SURE = 99  # no payment is posted by it: it only orders what a person sees

# What is a posting of ours by now, found where somebody had entered it, is not beside ours.
_ENTERED = text(
    """
    SELECT c.id, k.account_kind, k.account_id, k.transaction_id, k.amount_cents
    FROM collections c JOIN core_payments k ON k.partner_id = c.partner_id AND k.receipt = c.receipt AND k.undone_at IS NULL
    WHERE c.id = ANY(:ids)
          AND NOT EXISTS (SELECT FROM core_postings p
                          WHERE p.partner_id = k.partner_id AND p.account_id = k.account_id
                                AND (p.kind = 'deposit') = (k.account_kind = 'savings')
                                AND p.mifos_transaction_id = k.transaction_id)
    ORDER BY k.seen_at, k.id
    """
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction with a payment's receipt that is not ours."""

    account_kind: str  # 'loan' or 'savings'
    account_id: int
    transaction_id: int
    amount: Money

    @property
    def account(self) -> tuple[str, int]:
        """On which it is."""
        return (self.account_kind, self.account_id)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An entry that stands in Mifos X, on another account than the payment's."""

    account: FoundAccount
    entry: Entry

    @property
    def words(self) -> str:
        """What is the matter, for a person."""
        what = f"transaction {self.entry.transaction_id} of {self.entry.amount}"
        return f"somebody entered it in Mifos X by hand on {name_of(self.account)}, as {what}"


async def weigh_entries(
    runtime: Runtime, connections: Connections, pending: Sequence[PendingCollection], matches: Sequence[Match | VaultError]
) -> list[Match | VaultError]:
    """`matches` (of `pending`, in order), of which none leads to another account than where the payment was entered by hand."""
    entered = [one for one in pending if one.entered]
    if not entered:
        return list(matches)
    entries = await find_entries(runtime, entered)
    weighed = (_weigh(connections, one, entries.get(one.id, ()), match) for one, match in zip(pending, matches, strict=True))
    return list(await asyncio.gather(*weighed))


async def find_entries(runtime: Runtime, pending: Sequence[PendingCollection]) -> Mapping[UUID, Sequence[Entry]]:
    """What hooks told of these payments, by collection; those that nobody entered are not in it."""
    found: defaultdict[UUID, list[Entry]] = defaultdict(list)
    async with runtime.engine.connect() as connection:
        for row in await connection.execute(_ENTERED, {"ids": [one.id for one in pending]}):
            found[row.id].append(Entry(row.account_kind, row.account_id, row.transaction_id, Money(row.amount_cents)))
    return found


async def stands_elsewhere(client: MifosClient, entries: Sequence[Entry], account: tuple[str, int] | None) -> Elsewhere | None:
    """The first of `entries` that stands in Mifos X; None where one is on `account` itself, or none stands any more.

    Raises what the client raises.
    """
    if any(one.account == account for one in entries):
        return None
    for one in entries:
        if await _stands(client, one):
            return Elsewhere(await client.account(*one.account), one)
    return None


async def _weigh(
    connections: Connections, one: PendingCollection, entries: Sequence[Entry], match: Match | VaultError
) -> Match | VaultError:
    if not entries or isinstance(match, VaultError):
        return match
    account = (match.account.kind, match.account.id) if isinstance(match, Matched) else None
    try:
        found = await stands_elsewhere(await connections.mifos(one.partner_id), entries, account)
    except VaultError as error:
        return error
    return match if found is None else _beside(match, found)


def _beside(match: Match, found: Elsewhere) -> Unmatched:
    """A person decides, with both accounts before them."""
    key = found.entry.account
    first = Candidate(found.account, _SURE, "it is entered there by hand: assigned to it, it is found and not posted again")
    if isinstance(match, Matched):
        named = Candidate(match.account, _SURE - 1, "the reference names it")
        return Unmatched(f"{found.words}, and the reference names {name_of(match.account)}", (first, named))
    others = tuple(one for one in match.candidates if (one.account.kind, one.account.id) != key)
    return replace(match, reason=f"{match.reason}; {found.words}", candidates=(first, *others))


async def _stands(client: MifosClient, entry: Entry) -> bool:
    try:
        if entry.account_kind == "loan":
            transactions = (await client.loan(entry.account_id)).transactions
        else:
            transactions = (await client.savings_account(entry.account_id)).transactions
    except NotFound:
        return False
    return any(one.id == entry.transaction_id and not one.reversed for one in transactions)
