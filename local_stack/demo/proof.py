"""The proof table: what really happened outside, what our ledger says, what the reports say, and the difference.

The truth comes from the sandbox's own books, which the product never reads; the ledger from its entries; the reports from the
Parquet files that finance would open. A difference is allowed only if open cases name exactly that money.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

PAID = "paid out over M-Pesa"
COLLECTED = "collected over M-Pesa"
DISBURSED = "disbursed in Mifos X (principal)"
REPAID = "repaid and deposited in Mifos X"
SUSPENSE = "held in suspense"
MPESA_FEES = "M-Pesa fees of payouts"
SYSTEM_FEES = "system fees and their excise"
SMS = "SMS, at the lender's price a part"
LINES = (PAID, COLLECTED, DISBURSED, REPAID, SUSPENSE, MPESA_FEES, SYSTEM_FEES, SMS)

_EXCISE = Decimal("0.15")

_LEDGER = text(
    """
    SELECT p.name AS partner, t.kind, a.code, sum(e.amount_cents)::bigint AS cents
    FROM ledger_transactions t
    JOIN partners p ON p.id = t.partner_id
    JOIN ledger_entries e ON e.transaction_id = t.id
    JOIN ledger_accounts a ON a.id = e.account_id
    GROUP BY 1, 2, 3
    """
)


@dataclass(frozen=True, slots=True)
class ProofLine:
    """One line of the table, in cents. `case_cents` is the money that open cases name for this line."""

    partner: str
    line: str
    truth_cents: int
    ledger_cents: int
    report_cents: int
    case_cents: int

    @property
    def difference_cents(self) -> int:
        """The largest distance between the three; 0 when they agree."""
        return max(self.truth_cents, self.ledger_cents, self.report_cents) - min(
            self.truth_cents, self.ledger_cents, self.report_cents
        )

    @property
    def holds(self) -> bool:
        """No difference, or exactly the one that open cases name."""
        return self.difference_cents in {0, self.case_cents}


@dataclass(frozen=True, slots=True)
class PartnerTerms:
    """What the proof needs to know of a partner to read the truth books: where it stands in them and its prices (cents)."""

    name: str
    host: str
    b2c_short_code: str
    c2b_short_code: str
    sms_user: str
    sms_price_cents: int
    system_fee_cents: int


def truth_of(terms: PartnerTerms, truth: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, int]:
    """The partner's lines from the sandbox's books, less what was in Mifos X before the day began (`before`)."""
    codes = truth["mpesa"]["short_codes"]
    payouts, payments = codes[terms.b2c_short_code]["b2c"], codes[terms.c2b_short_code]["c2b"]
    collected = _total(payments)
    disbursed, repaid = _in_core(truth, terms.host), _in_core(before, terms.host)
    posted_in = disbursed[1] - repaid[1]
    fee = Decimal(terms.system_fee_cents)
    fee_and_excise = int(fee + (fee * _EXCISE).to_integral_value(ROUND_HALF_UP))
    messages = truth["sms"]["users"].get(terms.sms_user, {}).get("messages", [])
    return {
        PAID: _total(payouts),
        COLLECTED: collected,
        DISBURSED: disbursed[0] - repaid[0],
        REPAID: posted_in,
        SUSPENSE: collected - posted_in,
        MPESA_FEES: sum(payout["fee_cents"] for payout in payouts),
        SYSTEM_FEES: fee_and_excise * len(payouts),
        SMS: sum(message["parts"] for message in messages) * terms.sms_price_cents,
    }


def ledger_lines(connection: Connection) -> dict[str, dict[str, int]]:
    """Every partner's lines from the ledger's entries."""
    moved: dict[str, dict[tuple[str, str], int]] = {}
    for row in connection.execute(_LEDGER):
        moved.setdefault(row.partner, {})[row.kind, row.code] = row.cents

    def lines(of: Mapping[tuple[str, str], int]) -> dict[str, int]:
        def sum_of(code: str, *kinds: str) -> int:
            return sum(cents for (kind, account), cents in of.items() if account == code and (not kinds or kind in kinds))

        return {
            PAID: -sum_of("b2c_float", "disbursement_paid"),
            COLLECTED: sum_of("c2b_float", "collection"),
            DISBURSED: sum_of("loan_book", "disbursement_posted"),
            REPAID: -sum_of("loan_book", "collection_posted") - sum_of("savings_book", "collection_posted"),
            SUSPENSE: -sum_of("suspense") - sum_of("collected_unposted"),
            MPESA_FEES: -sum_of("fees:mpesa"),
            SYSTEM_FEES: -sum_of("fees:system") - sum_of("tax:excise"),
            SMS: -sum_of("fees:sms"),
        }

    return {partner: lines(of) for partner, of in moved.items()}


def report_lines(reconciliation: pd.DataFrame, charges: pd.DataFrame, sms: pd.DataFrame, partner: str) -> dict[str, int]:
    """A partner's lines from the day's report files."""
    rows, lines, messages = (frame[frame["partner"] == partner] for frame in (reconciliation, charges, sms))
    out, inward = rows[rows["flow"] == "disbursement"], rows[rows["flow"] == "collection"]

    def charged(*names: str) -> int:
        return int(lines[lines["line"].isin(names)]["amount_cents"].sum())

    in_suspense = inward[inward["outcome"].isin(["in_suspense", "not_posted_yet"])]
    return {
        PAID: int(out["rail_cents"].sum()),
        COLLECTED: int(inward["rail_cents"].sum()),
        DISBURSED: int(out["core_cents"].sum()),
        REPAID: int(inward["core_cents"].sum()),
        SUSPENSE: int(in_suspense["difference_cents"].sum()),
        MPESA_FEES: charged("mpesa_fee"),
        SYSTEM_FEES: charged("system_fee", "excise"),
        SMS: int(messages["charged_cents"].sum()),
    }


def prove(
    partner: str, truth: Mapping[str, int], ledger: Mapping[str, int], report: Mapping[str, int], cases: Mapping[str, int]
) -> list[ProofLine]:
    """The partner's proof lines, in the order of LINES. `cases` is the money that open cases name, by line."""
    return [ProofLine(partner, line, truth[line], ledger.get(line, 0), report[line], cases.get(line, 0)) for line in LINES]


def _total(movements: Iterable[Mapping[str, int]]) -> int:
    return sum(movement["amount_cents"] for movement in movements)


def _in_core(truth: Mapping[str, Any], host: str) -> tuple[int, int]:
    """Disbursed, and repaid plus deposited, on a Mifos host; reversed transactions left out."""
    book = truth["mifos"][host]
    accounts = [*book["loans"].values(), *book["savings"].values()]
    live = [transaction for account in accounts for transaction in account["transactions"] if not transaction["reversed"]]
    out = sum(transaction["amount_cents"] for transaction in live if transaction["kind"] == "disbursement")
    inward = sum(transaction["amount_cents"] for transaction in live if transaction["kind"] in {"repayment", "deposit"})
    return out, inward
