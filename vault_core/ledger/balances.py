"""Balances as they stand, each in its account's normal side."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.ledger.chart import AccountRef
from vault_core.money import ZERO, Money


@dataclass(frozen=True, slots=True)
class Balance:
    """`posted` is what entries sum to, `held` what holds set aside, `available` the difference; in the normal side."""

    posted: Money
    held: Money

    @property
    def available(self) -> Money:
        """What a new hold may take."""
        return self.posted - self.held


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One account's balance: exactly one of debit and credit is not zero, or neither."""

    account: AccountRef
    debit: Money
    credit: Money

    @classmethod
    def of(cls, account: AccountRef, debits_less_credits: int) -> "TrialLine":
        """The line of an account by its debits less its credits, in cents."""
        return cls(account, Money(max(debits_less_credits, 0)), Money(max(-debits_less_credits, 0)))

    @property
    def balance(self) -> Money:
        """The balance as the account's reader expects it: positive in its normal side."""
        return self.debit - self.credit if self.account.normal_side == "debit" else self.credit - self.debit


HOUSE = UUID(int=0)  # the scope of the house's accounts

_BALANCES = text(
    """
    SELECT a.partner_id, a.code, sum(a.balance_cents)::bigint AS balance_cents, sum(a.held_cents)::bigint AS held_cents
    FROM ledger_accounts a
    JOIN unnest(CAST(:scopes AS uuid[]), CAST(:codes AS text[])) AS wanted(scope, code)
         ON a.scope = wanted.scope AND a.code = wanted.code
    GROUP BY a.partner_id, a.code
    """
)
_TRIAL = text(
    """
    SELECT partner_id, code, sum(balance_cents)::bigint AS balance_cents FROM ledger_accounts
    GROUP BY partner_id, code ORDER BY partner_id NULLS FIRST, code
    """
)


async def balance(connection: AsyncConnection, ref: AccountRef) -> Balance:
    """The balance of one account; zero if it was never used."""
    return (await balances(connection, [ref]))[ref]


async def balances(connection: AsyncConnection, refs: Sequence[AccountRef]) -> dict[AccountRef, Balance]:
    """The balances of several accounts, of one instant."""
    rows = await connection.execute(
        _BALANCES, {"scopes": [ref.partner_id or HOUSE for ref in refs], "codes": [ref.code for ref in refs]}
    )
    found = {AccountRef(row.partner_id, row.code): row for row in rows}
    return {
        ref: _balance(ref, found[ref].balance_cents, found[ref].held_cents) if ref in found else Balance(ZERO, ZERO)
        for ref in refs
    }


async def trial_balance(connection: AsyncConnection) -> list[TrialLine]:
    """Every account's balance, of one instant. The debits and the credits of a sound ledger sum to the same."""
    rows = await connection.execute(_TRIAL)
    return [TrialLine.of(AccountRef(row.partner_id, row.code), row.balance_cents) for row in rows]


def _balance(ref: AccountRef, debits_less_credits: int, held_cents: int) -> Balance:
    return Balance(Money(debits_less_credits if ref.normal_side == "debit" else -debits_less_credits), Money(held_cents))
