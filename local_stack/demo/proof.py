"""The proof table: what really happened outside, what our ledger says, what the reports say, and the difference.

The truth comes from the sandbox's own books, which the product never reads; the ledger's side is its trial balance, as auditors
see it; the reports are the Parquet files that finance would open. A difference is allowed only if open cases name that money.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import pandas as pd

from local_stack.demo.day_plan import PlannedCollectionCharges
from vault_core.ledger.balances import TrialLine

PAID = "paid out over M-Pesa"
COLLECTED = "collected over M-Pesa"
DISBURSED = "disbursed in Mifos X (principal)"
REPAID = "repaid and deposited in Mifos X"
SUSPENSE = "held in suspense"
MPESA_FEES = "M-Pesa fees that the wallet bears"
SYSTEM_FEES = "system fees and their excise"
SMS = "SMS, at the lender's price a part"
LENT = "disbursed less repaid in Mifos X"
WALLET = "left in the wallet"
TOPPED_UP = "topped up through the bank"
HOUSE = "house"
LINES = (PAID, COLLECTED, DISBURSED, REPAID, SUSPENSE, MPESA_FEES, SYSTEM_FEES, SMS)

_EXCISE = Decimal("0.15")


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
    collections: PlannedCollectionCharges | None = None


def truth_of(terms: PartnerTerms, truth: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, int]:
    """The partner's lines from the sandbox's books, less what was in Mifos X before the day began (`before`).

    Of what was paid out, what its receivers sent back is no more paid.
    """
    codes = truth["mpesa"]["short_codes"]
    payouts, payments = codes[terms.b2c_short_code]["b2c"], codes[terms.c2b_short_code]["c2b"]
    given_back = [each for each in codes[terms.c2b_short_code].get("reversals", ()) if each["result_code"] == "0"]
    collected = _total(payments) - _total(given_back)
    disbursed, repaid = _in_core(truth, terms.host), _in_core(before, terms.host)
    posted_in = disbursed[1] - repaid[1]
    messages = truth["sms"]["users"].get(terms.sms_user, {}).get("messages", [])
    return {
        PAID: _total(payouts) - codes[terms.b2c_short_code].get("came_back_cents", 0),
        COLLECTED: collected,
        DISBURSED: disbursed[0] - repaid[0],
        REPAID: posted_in,
        SUSPENSE: collected - posted_in,
        MPESA_FEES: sum(paid["fee_cents"] for paid in [*payouts, *(payments if terms.collections else [])]),
        SYSTEM_FEES: _with_excise(terms.system_fee_cents) * len(payouts) + _collection_fees(terms, payments),
        SMS: sum(message["parts"] for message in messages) * terms.sms_price_cents,
    }


def _collection_fees(terms: PartnerTerms, payments: Iterable[Mapping[str, int]]) -> int:
    charges = terms.collections
    if charges is None:
        return 0
    rate = Decimal(charges.rate_basis_points) / 10_000
    shares = [int((payment["amount_cents"] * rate).to_integral_value(ROUND_HALF_UP)) for payment in payments]
    return sum(_with_excise(min(max(share, charges.least * 100), charges.most * 100)) for share in shares)


def _with_excise(cents: int) -> int:
    return cents + int((cents * _EXCISE).to_integral_value(ROUND_HALF_UP))


def ledger_lines(trial: Iterable[TrialLine], names: Mapping[UUID, str]) -> dict[str, dict[str, int]]:
    """Every partner's lines, and the HOUSE's, from the trial balance of a ledger in which nothing was before the day."""
    balances: dict[str, dict[str, int]] = {}
    for line in trial:
        owner = HOUSE if line.account.partner_id is None else names[line.account.partner_id]
        balances.setdefault(owner, {})[line.account.code] = line.debit.cents - line.credit.cents

    def debits(owner: str, *codes: str) -> int:
        return sum(balances.get(owner, {}).get(code, 0) for code in codes)

    lines = {
        partner: {
            PAID: -debits(partner, "b2c_float"),
            COLLECTED: debits(partner, "c2b_float"),
            LENT: debits(partner, "loan_book", "savings_book"),
            SUSPENSE: -debits(partner, "suspense", "collected_unposted"),
            WALLET: -debits(partner, "wallet"),
        }
        for partner in names.values()
    }
    house = {
        TOPPED_UP: debits(HOUSE, "bank:settlement"),
        MPESA_FEES: -debits(HOUSE, "fees:mpesa"),
        SYSTEM_FEES: -debits(HOUSE, "fees:system", "tax:excise"),
        SMS: -debits(HOUSE, "fees:sms"),
    }
    return {**lines, HOUSE: house}


def partner_lines(day: Mapping[str, int], topped_up: int) -> dict[str, int]:
    """A partner's day (by LINES) in the lines that its accounts show. `topped_up` is what came into its wallet, in cents."""
    return {
        PAID: day[PAID],
        COLLECTED: day[COLLECTED],
        LENT: day[DISBURSED] - day[REPAID],
        SUSPENSE: day[SUSPENSE],
        WALLET: topped_up - day[MPESA_FEES] - day[SYSTEM_FEES] - day[SMS],
    }


def house_lines(days: Iterable[Mapping[str, int]], topped_up: int) -> dict[str, int]:
    """All partners' days in the lines that the house's accounts show, which are theirs together."""
    together = list(days)
    return {TOPPED_UP: topped_up} | {line: sum(day[line] for day in together) for line in (MPESA_FEES, SYSTEM_FEES, SMS)}


def report_lines(reconciliation: pd.DataFrame, charges: pd.DataFrame, sms: pd.DataFrame, partner: str) -> dict[str, int]:
    """A partner's lines from the day's report files."""
    rows, lines, messages = (frame[frame["partner"] == partner] for frame in (reconciliation, charges, sms))
    out, inward, given_back = (rows[rows["flow"] == flow] for flow in ("disbursement", "collection", "reversal"))

    def charged(*names: str) -> int:
        return int(lines[lines["line"].isin(names)]["amount_cents"].sum())

    in_suspense = inward[inward["outcome"].isin(["in_suspense", "not_posted_yet"])]
    return {
        PAID: int(out["rail_cents"].sum()) - int(out["made_good_cents"].sum()),
        COLLECTED: int(inward["rail_cents"].sum()) - int(given_back["rail_cents"].sum()),
        DISBURSED: int(out["core_cents"].sum()),
        REPAID: int(inward["core_cents"].sum()),
        SUSPENSE: int(in_suspense["difference_cents"].sum()),
        MPESA_FEES: charged("mpesa_fee"),
        SYSTEM_FEES: charged("system_fee", "excise"),
        SMS: int(messages["charged_cents"].sum()),
    }


def prove(
    owner: str, truth: Mapping[str, int], ledger: Mapping[str, int], report: Mapping[str, int], cases: Mapping[str, int]
) -> list[ProofLine]:
    """The proof lines of a partner or the HOUSE, in the order of `truth`. `cases`: the money that open cases name, by line."""
    return [ProofLine(owner, line, truth[line], ledger.get(line, 0), report[line], cases.get(line, 0)) for line in truth]


def _total(movements: Iterable[Mapping[str, int]]) -> int:
    return sum(movement["amount_cents"] for movement in movements)


def _in_core(truth: Mapping[str, Any], host: str) -> tuple[int, int]:
    """Disbursed, and repaid plus deposited over M-Pesa, on a Mifos host; reversed transactions left out."""
    book = truth["mifos"][host]
    accounts = [*book["loans"].values(), *book["savings"].values()]
    live = [transaction for account in accounts for transaction in account["transactions"] if not transaction["reversed"]]
    # Without a receipt it is no money of M-Pesa's: cash at the counter, or what a top-up lends to pay an older loan off.
    live = [each for each in live if each["receipt"]]
    out = sum(transaction["amount_cents"] for transaction in live if transaction["kind"] == "disbursement")
    received = [each for each in live if each["kind"] in {"repayment", "deposit"}]
    inward = sum(transaction["amount_cents"] for transaction in received)
    return out, inward
