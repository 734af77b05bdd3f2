"""The partner's view of its wallet, from the SQL view `wallet_transactions`: what moved it, why, and what was left.

In the order in which the wallet was moved, which is that of booked time, as on a bank's statement: `at` is when it happened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import InvalidInput
from vault_core.identifiers import lowest_id_at
from vault_core.ledger.as_of import BOOKED_WITHIN
from vault_core.money import Money

_BEGINNING = datetime(1970, 1, 2, tzinfo=UTC)

# In the order in which a charge's lines are shown.
_LINES = {"mpesa_fee": "M-Pesa fee", "system_fee": "system fee", "excise": "excise duty", "sms": "SMS"}

_ROW = text(
    """
    SELECT a.id, low.version AS after, ledger_version_before(a.id, :high_id, low.version) AS reach
    FROM ledger_accounts a CROSS JOIN LATERAL (SELECT ledger_version_before(a.id, :low_id) AS version OFFSET 0) AS low
    WHERE a.scope = :partner_id AND a.code = 'wallet'
    """
)
# Newest first. The bounds by version only narrow what is looked at: what is shown is said by booked_at.
_LIST = text(
    """
    SELECT * FROM wallet_transactions
    WHERE account_id = :row AND account_version > :after AND account_version <= :reach
          AND booked_at >= :start AND booked_at < :end
    ORDER BY account_version DESC LIMIT :most
    """
)


@dataclass(frozen=True, slots=True)
class FeeLine:
    """One line of a charge, and the dated tariff or terms it came from (None: not known). Negative: given back."""

    line: str
    amount: Money
    tariff: str | None

    @property
    def words(self) -> str:
        """What the line is, for the partner."""
        return _LINES.get(self.line, self.line.replace("_", " "))


@dataclass(frozen=True, slots=True)
class WalletTransaction:
    """One movement of a wallet: `amount` in (positive) or out. `version` counts them from 1: gap-free, and the key of a page.

    `carried_from` is when it really happened, if that period was closed before it was told of.
    """

    at: datetime
    booked_at: datetime
    kind: str
    reference: str
    description: str
    amount: Money
    fee_lines: tuple[FeeLine, ...]
    balance_after: Money
    transaction_id: UUID
    version: int
    carried_from: datetime | None
    reversed_kind: str | None

    @property
    def words(self) -> str:
        """What it was, in a partner's words."""
        return words_for(self.kind, self.reference, self.description, self.reversed_kind)


def words_for(kind: str, reference: str, description: str, reversed_kind: str | None = None) -> str:
    """A wallet movement in a partner's words. An unknown kind is said by its own name."""
    match kind:
        case "topup":
            return f"Top-up, bank reference {reference}"
        case "charges":
            words = _sentence(description or "charges")
            return words if reference in words else f"{words}, M-Pesa receipt {reference}"
        case "sms":
            return f"SMS: {description.replace('_', ' ')}" if description else "SMS"
        case "correction":
            return f"Correction, reference {reference}"
        case "reversal":
            return (
                f"Given back: {words_for(reversed_kind, reference, '')}" if reversed_kind else f"Reversal, reference {reference}"
            )
        case _:
            return f"{_sentence(kind.replace('_', ' '))}, reference {reference}"


def _fee_lines(lines: Sequence[Mapping[str, Any]]) -> tuple[FeeLine, ...]:
    read = [FeeLine(line["line"], Money(line["amount_cents"]), line["tariff"]) for line in lines]
    known = list(_LINES)
    return tuple(sorted(read, key=lambda line: known.index(line.line) if line.line in known else len(known)))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


async def list_wallet_transactions(
    connection: AsyncConnection,
    partner_id: UUID,
    *,
    start: datetime | None = None,
    end: datetime,
    below: int | None = None,
    most: int = 100,
) -> Sequence[WalletTransaction]:
    """What was booked in [start, end) (aware; no start: from the first), newest first, at most `most`.

    For the next page pass the last one's `version` as `below`. A page costs what it shows, however long the history is.
    """
    if most < 1:
        raise InvalidInput(f"a page of {most} movements shows nothing: ask for at least one")
    start = start or _BEGINNING
    bounds = {"low_id": lowest_id_at(start - BOOKED_WITHIN), "high_id": lowest_id_at(end + BOOKED_WITHIN)}
    row = (await connection.execute(_ROW, {"partner_id": partner_id, **bounds})).one_or_none()
    if row is None:
        return []
    reach = row.reach if below is None else min(row.reach, below - 1)
    asked = {"row": row.id, "after": row.after, "reach": reach, "start": start, "end": end, "most": most}
    rows = await connection.execute(_LIST, asked)
    return [
        WalletTransaction(
            at=row.at,
            booked_at=row.booked_at,
            kind=row.kind,
            reference=row.reference,
            description=row.description,
            amount=Money(row.amount_cents),
            fee_lines=_fee_lines(row.fee_lines),
            balance_after=Money(row.balance_after_cents),
            transaction_id=row.transaction_id,
            version=row.account_version,
            carried_from=row.carried_from,
            reversed_kind=row.reversed_kind,
        )
        for row in rows
    ]
