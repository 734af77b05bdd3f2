"""What each report's columns are: the one place that the frames, the checks, the workbooks and docs/reports.md agree on."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "cents", "count", "moment", "flag"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, what it holds, and whether it may be empty. `cents` are integer Kenyan cents, `moment` is UTC."""

    name: str
    kind: Kind
    means: str
    optional: bool = False


RECONCILIATION = (
    Column("partner", "text", "short name of the lender"),
    Column("flow", "text", "disbursement (money out, B2C), collection (money in, C2B) or reversal (a payment given back)"),
    Column("receipt", "text", "M-Pesa receipt: the key of all three legs"),
    Column("reference", "text", "our own id of the disbursement or collection", optional=True),
    Column("account", "text", "Mifos X account number of the loan or savings account", optional=True),
    Column("happened_at", "moment", "when M-Pesa completed it", optional=True),
    Column("ledger_cents", "cents", "our ledger: what left or reached the M-Pesa account", optional=True),
    Column("rail_cents", "cents", "M-Pesa's own evidence: result, confirmation or status answer", optional=True),
    Column(
        "made_good_cents",
        "cents",
        "of a payout of another amount than instructed: what came back to the M-Pesa account since (sent after it: below zero)",
        optional=True,
    ),
    Column(
        "core_due_cents",
        "cents",
        "what our ledger says stands in Mifos X (principal of a loan, a repayment, a deposit)",
        optional=True,
    ),
    Column("core_cents", "cents", "what Mifos X was read to hold under this receipt, reversals left out", optional=True),
    Column("outcome", "text", "matched, or the type of break (docs/reports.md)"),
    Column("difference_cents", "cents", "the money the break is about; 0 when matched"),
    Column("case_open", "flag", "whether an open case explains the break"),
    Column("age_hours", "count", "hours since it happened, 0 when matched"),
)

CHARGES = (
    Column("partner", "text", "short name of the lender"),
    Column("charged_at", "moment", "when the wallet was charged"),
    Column("subject", "text", "disbursement, collection or message"),
    Column("reference", "text", "M-Pesa receipt of the disbursement or collection, or our id of the message"),
    Column("line", "text", "mpesa_fee, system_fee, excise or sms"),
    Column("amount_cents", "cents", "the charge"),
    Column("tariff", "text", "provider, product and first day of the tariff the amount came from", optional=True),
    Column("band_from_cents", "cents", "where the tariff's band begins", optional=True),
    Column("band_to_cents", "cents", "where it ends, included", optional=True),
    Column("system_fee", "text", "our id of the system fee the amount came from", optional=True),
    Column("tariff_confirmed", "flag", "false where no source states the band"),
    Column("ledger_transaction", "text", "the ledger transaction that took it from the wallet"),
)

SMS = (
    Column("partner", "text", "short name of the lender"),
    Column("message", "text", "our id of the message"),
    Column("template", "text", "what it told"),
    Column("phone", "text", "the receiver's number, in clear: finance settles disputes with it"),
    Column("written_at", "moment", "when it was written"),
    Column("state", "text", "queued, accepted, delivered, refused or unknown"),
    Column("attempts", "count", "tries at the gateway"),
    Column("parts", "count", "parts by our own count (GSM-7 or UCS-2)"),
    Column("price_cents", "cents", "parts times the partner's price"),
    Column("charged_cents", "cents", "what the ledger took from the wallet; 0 unless the gateway accepted it"),
    Column("reason", "text", "why it was refused or is unknown", optional=True),
)

FINANCE_DAY = (
    Column("partner", "text", "short name of the lender"),
    Column("figure", "text", "disbursements, collections, break: <type>, charge: <line>, sms <state>"),
    Column("count", "count", "rows of the report behind it"),
    Column("amount_cents", "cents", "their sum: money moved, money in doubt, charges taken"),
)
