"""Finding the account of a payment in the partner's Mifos X."""

from typing import Protocol

from vault_core.clients.mifos_values import FoundAccount
from vault_core.collections.matching import Match, choose_account, search_terms


class AccountSource(Protocol):
    """Where accounts are looked for: MifosClient."""

    async def find_accounts(self, reference: str) -> list[FoundAccount]:
        """The accounts whose number or external id is `reference`."""
        ...


async def find_account(accounts: AccountSource, typed: str) -> Match:
    """The account that the bill reference `typed` names, or why there is none.

    Every spelling is looked for, also when an earlier one found something: two accounts that differ in case only are a choice
    for a person. Raises what the client raises (Unreachable, RemoteBusy, LoginRefused, NotUnderstood, RemoteRefusal).
    """
    found: list[FoundAccount] = []
    for term in search_terms(typed):
        found += await accounts.find_accounts(term)
    return choose_account(typed, found)
