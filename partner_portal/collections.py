"""Requests to pay and the payments that came in."""

from datetime import datetime
from typing import Any

from starlette.responses import JSONResponse, Response

from partner_portal.operations import Call, Operation, Parameter
from partner_portal.problems import Fault, Problem, invalid
from partner_portal.reading import Place, only, read_day, read_id, read_limit, read_object, read_place, read_query, write_place
from vault_core.clock import business_day
from vault_core.collections.day_listing import TakenPayment, list_taken_payments
from vault_core.collections.stk_asking import LONGEST_KEY, StkWish, ask_to_pay
from vault_core.collections.stk_requests import StkRequest, load_request
from vault_core.errors import KeyReused
from vault_core.money import Money
from vault_core.partners.api_tokens import Scope

_KEY = "Idempotency-Key"


async def ask(call: Call) -> Response:
    """Prompts a customer, once for each key."""
    read_query(call.request, frozenset())
    key = _key(call)
    fields = only(
        await read_object(call.request, call.settings.body_cap),
        {"phone": str, "amount": Money, "account_reference": str},
        {"description": str},
    )
    wish = StkWish(
        partner_id=call.caller.partner_id,
        key=key,
        amount=fields["amount"],
        phone=fields["phone"],
        account_reference=fields["account_reference"],
        description=fields.get("description", "payment"),
        asked_by=call.caller.actor,
    )
    try:
        request, is_new = await ask_to_pay(call.runtime, call.connections, wish)
    except KeyReused as error:
        raise Problem(422, "idempotency-key-reused", str(error)) from error
    location = {"Location": f"/v1/collections/stk/{request.id}"}
    return JSONResponse(_request_json(request), 201 if is_new else 200, location)


async def show(call: Call) -> Response:
    """One request to pay."""
    read_query(call.request, frozenset())
    request_id = read_id(call.request.path_params["id"])
    async with call.runtime.engine.connect() as connection:
        request = await load_request(connection, call.runtime, call.caller.partner_id, request_id)
    return JSONResponse(_request_json(request))


async def list_(call: Call) -> Response:
    """The payments of a day."""
    query = read_query(call.request, frozenset({"date", "cursor", "limit"}))
    day = read_day("date", query.get("date"), business_day(call.runtime.clock.now()))
    after, most = read_place(query.get("cursor")), read_limit(query.get("limit"), call.settings.page_most)
    async with call.runtime.engine.connect() as connection:
        found = await list_taken_payments(
            connection,
            call.runtime,
            call.caller.partner_id,
            day,
            after=None if after is None else (after.at, after.id),
            most=most + 1,
        )
    page = found[:most]
    cursor = write_place(Place(page[-1].happened_at, page[-1].id)) if len(found) > most else None
    return JSONResponse({"date": day.isoformat(), "payments": [_payment_json(one) for one in page], "next_cursor": cursor})


def _key(call: Call) -> str:
    given = call.request.headers.getlist(_KEY)
    if len(given) != 1 or not 0 < len(given[0]) <= LONGEST_KEY or not given[0].isascii() or not given[0].isprintable():
        what = f"send one {_KEY} of 1 to {LONGEST_KEY} printable ASCII characters, a new one for each new request to pay"
        raise invalid(what, Fault(_KEY, "missing, repeated or malformed"))
    return given[0]


def _request_json(request: StkRequest) -> dict[str, Any]:
    return {
        "id": str(request.id),
        "state": request.state.value,
        "reason": request.reason,
        "phone": request.masked_phone,
        "amount": _shillings(request.amount),
        "currency": "KES",
        "account_reference": request.account_reference,
        "description": request.description,
        "asked_at": request.asked_at.isoformat(),
        "ended_at": _moment(request.ended_at),
        "receipt": request.receipt,
    }


def _payment_json(payment: TakenPayment) -> dict[str, Any]:
    account = None if payment.account_no is None else {"kind": payment.account_kind, "account_no": payment.account_no}
    return {
        "receipt": payment.receipt,
        "amount": _shillings(payment.amount),
        "currency": "KES",
        "happened_at": payment.happened_at.isoformat(),
        "state": payment.state,
        "told_by": payment.source,
        "reference": payment.reference,
        "phone": payment.phone,
        "account": account,
        "posted_at": _moment(payment.posted_at),
        "stk_request_id": None if payment.request_id is None else str(payment.request_id),
    }


def _shillings(amount: Money) -> str:
    return str(amount.as_decimal())


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


_PAGE = (
    Parameter("cursor", "query", "`next_cursor` of the page before.", {"type": "string"}),
    Parameter("limit", "query", "How many at most; 50 if left out.", {"type": "integer", "minimum": 1, "maximum": 200}),
)

OPERATIONS = (
    Operation(
        "POST",
        "/v1/collections/stk",
        "askToPay",
        "Ask a customer to pay",
        "Prompts the customer's phone (M-Pesa STK push), once for each Idempotency-Key. The same key and body again prompts "
        "nobody and answers the request as it stands by then. A state `unknown` is no failure: the prompt may have reached the "
        "phone, so do not send another one before this request has ended.",
        Scope.COLLECT_WRITE,
        ask,
        {
            201: ("The request is on record; `state` says how the prompt went.", "StkRequest"),
            200: ("Asked before.", "StkRequest"),
        },
        parameters=(
            Parameter(
                _KEY,
                "header",
                "Yours, a new one for each new request to pay.",
                {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
                required=True,
            ),
        ),
        body="StkWish",
        problems=(409, 413, 415, 422),
    ),
    Operation(
        "GET",
        "/v1/collections/stk/{id}",
        "showStkRequest",
        "What became of a request to pay",
        "Ask every few seconds until `state` is `paid`, `declined`, `refused` or `expired`. An `expired` or `declined` one may "
        "still become `paid`: money counts, whenever it is told.",
        Scope.COLLECT_READ,
        show,
        {200: ("The request.", "StkRequest")},
        parameters=(Parameter("id", "path", "Its `id`.", {"type": "string", "format": "uuid"}, required=True),),
        problems=(404,),
    ),
    Operation(
        "GET",
        "/v1/collections",
        "listCollections",
        "The payments of a day",
        "All that came in on the pay bill that day, the oldest first. One that is told late takes its place by when it happened.",
        Scope.COLLECT_READ,
        list_,
        {200: ("A page.", "PaymentPage")},
        parameters=(
            Parameter("date", "query", "The day in Nairobi; today if left out.", {"type": "string", "format": "date"}),
            *_PAGE,
        ),
    ),
)
