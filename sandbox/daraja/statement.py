"""The statement of a short code's utility account, as a person downloads it from the M-Pesa portal (CSV).

Six lines about the account, thirteen columns, days first: as importers of real downloads read it.
"""

import csv
import io
from datetime import datetime

from sandbox.asgi import Answer, BadBodyError, Request
from sandbox.clock import eat
from sandbox.daraja.books import Payment, Payout, ShortCode
from sandbox.daraja.wire import amount_text
from sandbox.world import World

_COLUMNS = (
    "Receipt No.",
    "Completion Time",
    "Initiation Time",
    "Details",
    "Transaction Status",
    "Paid In",
    "Withdrawn",
    "Balance",
    "Balance Confirmed",
    "Reason Type",
    "Other Party Info",
    "Linked Transaction ID",
    "A/C No.",
)


def download(world: World, request: Request) -> Answer:
    """GET /control/statement?short_code=600100: everything that ever happened on it, the newest first as the portal has it."""
    code = world.mpesa.short_codes.get(request.query.get("short_code", ""))
    if code is None:
        raise BadBodyError(f"no short code {request.query.get('short_code')!r}")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    rows = sorted(_rows(code), key=lambda each: each[0], reverse=True)
    now = world.clock.now()
    writer.writerow(["Account Holder:", code.name])
    writer.writerow(["Short Code:", code.code])
    writer.writerow(["Account:", "Utility Account"])
    writer.writerow(["Time Period:", "", f"From {_time(rows[-1][0] if rows else now)}", "", f"To {_time(now)}"])
    writer.writerow(["Operator:", "sandbox", "", "", "", f"Date of Report: {_time(now)}"])
    writer.writerow(["Closing Balance:", amount_text(code.utility_cents)])
    writer.writerow(_COLUMNS)
    writer.writerows(row for _, row in rows)
    return Answer(200, text.getvalue().encode(), content_type="text/csv")


def _rows(code: ShortCode) -> list[tuple[datetime, list[str]]]:
    paid_out = [payout for payout in code.payouts if payout.result_code == "0"]
    return [(one.at, _payment(one)) for one in code.payments] + [(one.at, _payout(one)) for one in paid_out]


def _payment(one: Payment) -> list[str]:
    masked = f"{one.phone[:5]}****{one.phone[-3:]}"
    details = f"Pay Bill from {masked} - {one.payer_name} Acc. {one.bill_reference}"
    return [
        one.receipt,
        *_times(one.at),
        details,
        "Completed",
        amount_text(one.amount_cents),
        "",
        amount_text(one.utility_after_cents),
        "true",
        "Pay Bill Online",
        f"{masked} - {one.payer_name}",
        "",
        one.bill_reference,
    ]


def _payout(one: Payout) -> list[str]:
    party = f"{one.phone[:5]}****{one.phone[-3:]} - {one.receiver_name}"
    return [
        one.transaction_id,
        *_times(one.at),
        f"Business Payment to Customer {party}",
        "Completed",
        "",
        f"-{amount_text(one.amount_cents)}",
        amount_text(one.utility_after_cents),
        "true",
        "Business Payment to Customer via API",
        party,
        "",
        "",
    ]


def _times(at: datetime) -> tuple[str, str]:
    return _time(at), _time(at)


def _time(at: datetime) -> str:
    return eat(at, "%d-%m-%Y %H:%M:%S")
