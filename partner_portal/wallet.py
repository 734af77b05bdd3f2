"""The partner's wallet and what moved it."""

import re
from datetime import timedelta
from typing import Any

from starlette.responses import JSONResponse, Response

from partner_portal.operations import Call, Operation, Parameter
from partner_portal.problems import Fault, invalid
from partner_portal.reading import read_day, read_limit, read_query
from vault_core.clock import business_day, day_bounds
from vault_core.money import Money
from vault_core.partners.api_tokens import Scope
from vault_core.wallets.wallet import load_wallet
from vault_core.wallets.wallet_transactions import WalletTransaction, list_wallet_transactions

_MONTH = timedelta(days=30)
_DAY = {"type": "string", "format": "date"}


async def show(call: Call) -> Response:
    """What is in the wallet."""
    read_query(call.request, frozenset())
    async with call.runtime.engine.connect() as connection:
        wallet = await load_wallet(connection, call.caller.partner_id)
    return JSONResponse(
        {
            "posted": _shillings(wallet.posted),
            "held": _shillings(wallet.held),
            "available": _shillings(wallet.available),
            "low_balance": _shillings(wallet.low_threshold),
            "low_since": None if wallet.low_since is None else wallet.low_since.isoformat(),
            "short_since": None if wallet.short_since is None else wallet.short_since.isoformat(),
            "currency": "KES",
        }
    )


async def list_(call: Call) -> Response:
    """What moved the wallet, the newest first."""
    query = read_query(call.request, frozenset({"from", "to", "cursor", "limit"}))
    last = read_day("to", query.get("to"), business_day(call.runtime.clock.now()))
    first = read_day("from", query.get("from"), last - _MONTH)
    if first > last:
        raise invalid("from is a day after to", Fault("from", "after to"))
    most = read_limit(query.get("limit"), call.settings.page_most)
    async with call.runtime.engine.connect() as connection:
        found = await list_wallet_transactions(
            connection,
            call.caller.partner_id,
            start=day_bounds(first)[0],
            end=day_bounds(last)[1],
            below=_below(query.get("cursor")),
            most=most + 1,
        )
    page = found[:most]
    return JSONResponse(
        {
            "from": first.isoformat(),
            "to": last.isoformat(),
            "transactions": [_json(one) for one in page],
            "next_cursor": str(page[-1].version) if len(found) > most else None,
        }
    )


def _below(given: str | None) -> int | None:
    if given is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,17}", given, re.ASCII):
        raise invalid("cursor is what `next_cursor` of the page before said", Fault("cursor", "not one of ours"))
    return int(given)


def _json(one: WalletTransaction) -> dict[str, Any]:
    return {
        "id": str(one.transaction_id),
        "at": one.at.isoformat(),
        "booked_at": one.booked_at.isoformat(),
        "what": one.words,
        "reference": one.reference,
        "amount": _shillings(one.amount),
        "balance_after": _shillings(one.balance_after),
        "currency": "KES",
        "fees": [{"line": fee.line, "amount": _shillings(fee.amount)} for fee in one.fee_lines],
    }


def _shillings(amount: Money) -> str:
    return str(amount.as_decimal())


OPERATIONS = (
    Operation(
        "GET",
        "/v1/wallet",
        "showWallet",
        "What is in the wallet",
        "`held` is set aside for payouts under way; `available` is the rest.",
        Scope.WALLET_READ,
        show,
        {200: ("The wallet.", "Wallet")},
    ),
    Operation(
        "GET",
        "/v1/wallet/transactions",
        "listWalletTransactions",
        "What moved the wallet",
        "By the time of booking, the newest first.",
        Scope.WALLET_READ,
        list_,
        {200: ("A page.", "WalletPage")},
        parameters=(
            Parameter("from", "query", "First day in Nairobi; 30 days before `to` if left out.", _DAY),
            Parameter("to", "query", "Last day in Nairobi; today if left out.", _DAY),
            Parameter("cursor", "query", "`next_cursor` of the page before.", {"type": "string"}),
            Parameter("limit", "query", "How many at most; 50 if left out.", {"type": "integer", "minimum": 1, "maximum": 200}),
        ),
    ),
)
