"""What was closed: each closing's balances and figures are those of the entries effective before it, counted anew."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from vault_core.finding import Finding

_CLOSINGS = text("SELECT number, closed_before, closed_at, transactions, debit_cents FROM ledger_closings ORDER BY closed_before")
_BALANCES = text("SELECT account_id, balance_cents FROM ledger_closing_balances WHERE closing = :number")
_ACCOUNTS = text("SELECT id, scope, code FROM ledger_accounts")
_NAME = "closings"


@dataclass(frozen=True, slots=True)
class Closing:
    """What a closing says of itself."""

    number: int
    closed_before: datetime
    closed_at: datetime
    transactions: int
    debit_cents: int

    @property
    def where(self) -> str:
        """As findings name it."""
        return f"closing {self.number} (before {self.closed_before:%Y-%m-%d %H:%M:%S} UTC)"


def load_closings(connection: Connection) -> list[Closing]:
    """All closings by the time before which they closed."""
    return [
        Closing(row.number, row.closed_before, row.closed_at, int(row.transactions), int(row.debit_cents))
        for row in connection.execute(_CLOSINGS)
    ]


def check_closings(
    connection: Connection,
    closings: Sequence[Closing],
    transactions: Mapping[int, int],
    moved: Mapping[int, Mapping[int, int]],
) -> Iterator[Finding]:
    """Compares each closing with `transactions` by period and the cents `moved` by period and account, counted from the rows."""
    balances: Counter[int] = Counter()
    accounts = {row.id: (row.scope, row.code) for row in connection.execute(_ACCOUNTS)} if closings else {}
    for period, closing in enumerate(closings):
        if closing.number != period + 1:
            yield Finding(_NAME, closing.where, "it does not follow the closing before it: a closing is missing or was moved")
        balances.update(moved.get(period, {}))
        if closing.transactions != transactions.get(period, 0):
            what = f"{closing.transactions} transactions were closed, {transactions.get(period, 0)} are effective there"
            yield Finding(_NAME, closing.where, what)
        whole: Counter[object] = Counter()  # an account is the sum of its shards
        for account_id, cents in balances.items():
            whole[accounts.get(account_id, account_id)] += cents
        debits = sum(cents for cents in whole.values() if cents > 0)
        if closing.debit_cents != debits:
            yield Finding(_NAME, closing.where, f"its debits are {closing.debit_cents} cents; those of its entries are {debits}")
        stored = {row.account_id: int(row.balance_cents) for row in connection.execute(_BALANCES, {"number": closing.number})}
        for account_id in sorted(stored.keys() | balances.keys()):
            if stored.get(account_id, 0) != balances[account_id]:
                closed, due = stored.get(account_id, 0), balances[account_id]
                what = f"account {account_id} was closed at {closed} cents; its entries sum to {due}"
                yield Finding(_NAME, closing.where, what)
