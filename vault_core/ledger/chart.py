"""The chart of accounts. The same rows stand in the database (`ledger_chart`), which is what postings are held to.

Balances are kept as debits less credits; an account's normal side says which way is up for its reader. A hot house account is
several rows (`shards`), so that all partners' postings do not queue for one row; its balance is their sum.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from vault_core.errors import InvalidInput

Side = Literal["debit", "credit"]
HOUSE_SHARDS = 8


@dataclass(frozen=True, slots=True)
class ChartAccount:
    """What an account code means. `holdable`: holds may be placed on it. `shards`: rows that share it."""

    code: str
    house: bool
    normal_side: Side
    holdable: bool = False
    shards: int = 1


CHART = {
    account.code: account
    for account in (
        ChartAccount("wallet", house=False, normal_side="credit", holdable=True),  # the partner's prepayment for our services
        ChartAccount("b2c_float", house=False, normal_side="debit"),  # utility account of the partner's B2C short code
        ChartAccount("disbursed_unposted", house=False, normal_side="debit"),  # paid over M-Pesa, not yet in Mifos X
        ChartAccount("loan_book", house=False, normal_side="debit"),  # what Mifos X has posted to loans
        ChartAccount("loan_charges", house=False, normal_side="credit"),  # kept back by the lender at disbursement
        ChartAccount("c2b_float", house=False, normal_side="debit"),  # working account of the partner's pay bill
        ChartAccount("collected_unposted", house=False, normal_side="credit"),  # received, not yet in Mifos X
        ChartAccount("savings_book", house=False, normal_side="credit"),  # what Mifos X has posted to savings
        ChartAccount("suspense", house=False, normal_side="credit"),  # received for no account we could find
        ChartAccount("bank:settlement", house=True, normal_side="debit", shards=HOUSE_SHARDS),
        ChartAccount("fees:mpesa", house=True, normal_side="credit", shards=HOUSE_SHARDS),
        ChartAccount("fees:system", house=True, normal_side="credit", shards=HOUSE_SHARDS),
        ChartAccount("fees:sms", house=True, normal_side="credit", shards=HOUSE_SHARDS),
        ChartAccount("tax:excise", house=True, normal_side="credit", shards=HOUSE_SHARDS),
        # Against wallets put right by hand: a debit, the house's cost, when a wallet gains what nobody paid in.
        ChartAccount("adjustments", house=True, normal_side="debit", shards=HOUSE_SHARDS),
    )
}


@dataclass(frozen=True, slots=True)
class AccountRef:
    """An account by name: a partner's, or the house's when `partner_id` is None.

    Raises InvalidInput for a code that is not in the chart, and for a partner's code without a partner or the reverse.
    """

    partner_id: UUID | None
    code: str

    def __post_init__(self) -> None:
        account = CHART.get(self.code)
        if account is None:
            raise InvalidInput(f"account {self.code!r} is not in the chart of accounts (vault_core/ledger/chart.py)")
        if account.house != (self.partner_id is None):
            owner = "the house" if account.house else "a partner"
            raise InvalidInput(f"account {self.code!r} belongs to {owner}; it was named for {self.partner_id or 'the house'}")

    @property
    def normal_side(self) -> Side:
        """The side on which the account's balance is positive for its reader."""
        return CHART[self.code].normal_side
