"""Accounts by the names people write: `alpha/wallet` is a partner's, `house/fees:mpesa` the house's."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import InvalidInput, NotFound
from vault_core.ledger.chart import CHART, AccountRef
from vault_core.partners.partner import list_partners

HOUSE_NAME = "house"

# What each account of the chart means to who reads the books. docs/ledger.md says the same at more length.
MEANINGS = {
    "wallet": "what the partner has paid in ahead for our services and not used yet",
    "b2c_float": "money in the partner's own B2C short code at M-Pesa, as far as our books move it",
    "disbursed_unposted": "paid out over M-Pesa, not yet posted to the partner's Mifos X",
    "loan_book": "what stands on loans in the partner's Mifos X",
    "loan_charges": "kept back by the lender from a loan when it was paid out",
    "c2b_float": "money in the partner's own pay bill at M-Pesa, as far as our books move it",
    "collected_unposted": "received from customers, not yet posted to the partner's Mifos X",
    "savings_book": "what stands on savings accounts in the partner's Mifos X",
    "suspense": "received from customers for no account that could be found",
    "bank:settlement": "the house's bank account that partners pay into",
    "fees:mpesa": "M-Pesa's fees that partners' wallets paid",
    "fees:system": "our own fees",
    "fees:sms": "SMS that partners' wallets paid",
    "tax:excise": "excise duty on fees, owed to the tax authority",
    "adjustments": "what wallets gained or lost when people put them right",
}


async def partner_names(connection: AsyncConnection) -> dict[UUID, str]:
    """The name of every partner, by id."""
    return {partner.id: partner.name for partner in await list_partners(connection)}


def account_name(ref: AccountRef, names: Mapping[UUID, str]) -> str:
    """The account's name; a partner that `names` does not know goes by its id."""
    return f"{HOUSE_NAME if ref.partner_id is None else names.get(ref.partner_id, ref.partner_id)}/{ref.code}"


def account_named(name: str, names: Mapping[UUID, str]) -> AccountRef:
    """The account of that name. Raises InvalidInput for what is no such name, NotFound for an unknown owner or account."""
    owner, slash, code = name.partition("/")
    if not slash or not owner or not code:
        raise InvalidInput(f"{name!r} is no account: write OWNER/ACCOUNT, as in alpha/wallet or house/fees:mpesa")
    owners = [partner_id for partner_id, known in names.items() if known == owner]
    if not owners and owner != HOUSE_NAME:
        raise NotFound(f"there is no partner {owner!r}; accounts belong to: {', '.join([HOUSE_NAME, *sorted(names.values())])}")
    if owner == HOUSE_NAME and code in CHART and CHART[code].house:
        return AccountRef(None, code)
    if owners and code in CHART and not CHART[code].house:
        return AccountRef(owners[0], code)
    codes = [account.code for account in CHART.values() if account.house == (owner == HOUSE_NAME)]
    raise NotFound(f"{owner} has no account {code!r}; it has: {', '.join(codes)}")
