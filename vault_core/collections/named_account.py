"""The account that a person names for a payment, read live from Mifos X, and whether it may take the payment."""

import re
from dataclasses import dataclass

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import ApprovedLoan, FoundAccount
from vault_core.collections.intended_posting import Target
from vault_core.collections.overpayment import Overpayment, is_too_much, owed_on
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import Money

CURRENCY = "KES"
_WRITTEN = re.compile(r"(loan|savings):(?:(id):)?([A-Za-z0-9-]{1,50})")


@dataclass(frozen=True, slots=True)
class NamedAccount:
    """An account as Mifos X has it now. `loan`: the same with what is owed, of a loan."""

    account: FoundAccount
    loan: ApprovedLoan | None

    @property
    def target(self) -> Target:
        """The same to post to. Mifos X takes no repayment that is dated before the loan was paid out."""
        paid_out = [] if self.loan is None else [each.on for each in self.loan.transactions if each.kind == "disbursement"]
        account = self.account
        return Target(account.kind, account.id, account.account_no, account.client_id, min(paid_out, default=None))


async def read_named(client: MifosClient, written: str) -> NamedAccount:
    """The account that `written` names: `loan:000000012` or `savings:SV-7` by number or external id, `loan:id:12` by id.

    A bare id is found too, unless it is another account's number. Raises InvalidInput for another form, NotFound, Conflict where
    it could be either, and what the client raises.
    """
    match = _WRITTEN.fullmatch(written.strip())
    if match is None:
        raise InvalidInput(
            f"{written[:40]!r} names no account: write loan:NUMBER or savings:NUMBER (loan:id:12 for the id in Mifos X)"
        )
    kind, by_id, name = match.groups()
    found = [] if by_id else [one for one in await client.find_accounts(name) if one.kind == kind]
    if name.isdecimal():
        found += await _by_id(client, kind, int(name))
    accounts = {one.id: one for one in found}
    if not accounts:
        raise NotFound(f"the partner's Mifos X has no {kind} account {name}")
    if len(accounts) > 1:
        numbers = ", ".join(f"{kind}:id:{one.id} (number {one.account_no})" for one in accounts.values())
        raise Conflict(f"{written} could be either of {numbers}: say which")
    (account,) = accounts.values()
    return await read_account(client, account.kind, account.id)


async def read_account(client: MifosClient, kind: str, account_id: int) -> NamedAccount:
    """An account by its id. Raises what the client raises."""
    account = await client.account(kind, account_id)
    return NamedAccount(account, await client.loan(account_id) if kind == "loan" else None)


def why_not_taken(named: NamedAccount, amount: Money, policy: Overpayment, *, post_all: bool) -> str | None:
    """Why the account does not take a payment of `amount`; None if it does.

    More than is owed, on a loan that is paid off too, goes as the partner's policy says; `post_all`: as the person says.
    """
    account, what = named.account, str(named.target)
    if account.currency != CURRENCY:
        return f"{what} is kept in {account.currency}, and the payment is in {CURRENCY}"
    if named.loan is None:
        return None if account.active else f"{what} is {account.state}: it takes no deposit"
    if owed_on(named.loan) is None:
        return f"{what} is {account.state} in Mifos X (status {named.loan.status_id}): it takes no repayment"
    if policy is Overpayment.HOLD and not post_all and is_too_much(amount, named.loan):
        return (
            f"{what} is owed {owed_on(named.loan)}, the payment is {amount}, and the partner holds what is too much: "
            "with --post-all the loan takes all of it"
        )
    return None


async def _by_id(client: MifosClient, kind: str, account_id: int) -> list[FoundAccount]:
    try:
        return [await client.account(kind, account_id)]
    except NotFound:
        return []
