"""Reading accounts of Mifos X that web hooks hint at: which payments stand on them, and whom to text about one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from vault_core.clients.mifos_values import LoanTransaction
from vault_core.errors import NotFound, RemoteRefusal, SealBroken, TransientError
from vault_core.money import ZERO, Money
from vault_core.partners.connections import Connections

log = structlog.get_logger(__name__)

_READS_AT_ONCE = 8
_OF_KIND = {"loan": "repayment", "savings": "deposit"}

Account = tuple[UUID, str, int]  # partner, 'loan' or 'savings', id


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """An account as it was read. `payments` are its repayments or deposits, undone ones too, by id."""

    account_no: str
    balance: Money
    payments: Mapping[int, LoanTransaction]
    phone: str | None = field(repr=False)  # of its client, read only where it may be texted


async def read_accounts(
    connections: Connections, accounts: Sequence[Account], texting: set[UUID]
) -> dict[Account, SeenAccount | str | None]:
    """Each account as it is; in words why it cannot be read; None where it may be read later.

    The client's phone is read for partners in `texting` only.
    """
    turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def one(account: Account) -> SeenAccount | str | None:
        name = f"{account[1]} {account[2]}"
        async with turns:
            try:
                return await _read(connections, account, with_phone=account[0] in texting)
            except NotFound:
                return f"{name} does not exist in Mifos X, or our user may not see it"
            except (TransientError, SealBroken) as error:  # what does not open is a case of the poll (sealed_credentials.py)
                log.warning("payment hook left for later", account=name, cause=str(error))
                return None
            except RemoteRefusal as error:
                return f"{name} could not be read: {error}"[:200]

    return dict(zip(accounts, await asyncio.gather(*(one(account) for account in accounts)), strict=True))


async def _read(connections: Connections, account: Account, *, with_phone: bool) -> SeenAccount:
    partner_id, kind, account_id = account
    client = await connections.mifos(partner_id)
    if kind == "loan":
        loan = await client.loan(account_id)
        account_no, balance, client_id, listed = (
            loan.account_no,
            loan.total_outstanding or ZERO,
            loan.client_id,
            loan.transactions,
        )
    else:
        savings = await client.savings_account(account_id)
        account_no, balance, client_id, listed = savings.account_no, savings.balance, savings.client_id, savings.transactions
    phone = None
    if with_phone and client_id is not None:
        try:
            phone = (await client.client(client_id)).mobile_no
        except NotFound:
            phone = None
    return SeenAccount(account_no, balance, {one.id: one for one in listed if one.kind == _OF_KIND[kind]}, phone)
