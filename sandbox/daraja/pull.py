"""Pull Transactions: registered once a short code, then asked for the C2B payments of the last 48 hours."""

from datetime import datetime, timedelta
from typing import Any

from sandbox.asgi import Answer, Request, json_answer
from sandbox.clock import EAT, eat
from sandbox.daraja.books import Payment, ShortCode
from sandbox.daraja.oauth import opened
from sandbox.daraja.wire import amount_text, error, invalid, is_callback_url, is_phone, text_of
from sandbox.world import World

_REACHES_BACK = timedelta(hours=48)
_BAD_TOKEN = (401, "401.003.01", "Error Occurred - Invalid Access Token")


async def register(world: World, request: Request) -> Answer:
    """POST /pulltransactions/v1/register. A second time it says so, with a success's status."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    checks = (
        ("ShortCode", text_of(body, "ShortCode") in books.short_codes),
        ("RequestType", body.get("RequestType") == "Pull"),
        ("NominatedNumber", is_phone(text_of(body, "NominatedNumber"))),
        ("CallBackURL", is_callback_url(text_of(body, "CallBackURL"))),
    )
    for name, right in checks:
        if not right:
            return invalid(books, name)
    code = books.short_codes[text_of(body, "ShortCode")]
    world.note(request)
    status, words = (
        ("1001", "Shortcode already Registered") if code.pull_registered else ("1000", "Shortcode Registered Successfully")
    )
    code.pull_registered = True
    answer = {"ResponseRefID": _reference(world), "ResponseStatus": status, "ShortCode": code.code, "ResponseDescription": words}
    return json_answer(answer)


async def query(world: World, request: Request) -> Answer:
    """POST /pulltransactions/v1/query: the payments between two moments of East Africa Time, from a row on."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    code = books.short_codes.get(text_of(body, "ShortCode"))
    start, end, offset = _moment(body, "StartDate"), _moment(body, "EndDate"), text_of(body, "OffSetValue")
    if code is None or not code.pull_registered:
        return error(books, 401, "401.001", "The short code is not registered for pull transactions")
    if start is None or start < world.clock.now() - _REACHES_BACK:
        return invalid(books, "StartDate")
    if end is None or end < start:
        return invalid(books, "EndDate")
    if not offset.isdigit():
        return invalid(books, "OffSetValue")
    if world.faults.fires("pull_fails", code.code, f"pull:{code.code}:{offset}", str(books.serial())):
        return error(books, 503, "503.001", "Service is currently unreachable")
    rows = _rows(world, code, start, end)
    first = 0 if _fires(world, "pull_offset_ignored", code) else int(offset)
    return _page(world, code, rows[first : first + world.settings.pull_page_rows])


def _page(world: World, code: ShortCode, rows: list[dict[str, Any]]) -> Answer:
    if not rows and _fires(world, "pull_none_is_500", code):
        return error(world.mpesa, 500, "500.001.1001", "No transactions found for the period")
    spelling = ("Response Status", "RequestID") if _fires(world, "pull_odd_keys", code) else ("ResponseCode", "ResponseRefID")
    answer = {
        spelling[1]: _reference(world),
        spelling[0]: "1000" if rows else "1001",
        "ResponseMessage": "Success",
        "Response": [rows],
    }
    return json_answer(answer)


def _rows(world: World, code: ShortCode, start: datetime, end: datetime) -> list[dict[str, Any]]:
    in_utc = _fires(world, "pull_utc_times", code)
    rows = []
    for payment in code.payments:
        at = payment.at.replace(microsecond=0)
        if start <= at <= end:
            row = _row(code, payment, in_utc=in_utc)
            doubled = world.faults.fires("pull_row_doubled", code.code, payment.phone, payment.receipt)
            rows += [row, row] if doubled else [row]
    return rows


def _row(code: ShortCode, payment: Payment, *, in_utc: bool) -> dict[str, Any]:
    """The time is East Africa Time with a Z behind it, as it seems to be in the portal's sample; or truly UTC."""
    written = f"{payment.at:%Y-%m-%dT%H:%M:%S}" if in_utc else eat(payment.at, "%Y-%m-%dT%H:%M:%S")
    return {
        "transactionId": payment.receipt,
        "trxDate": f"{written}Z",
        "msisdn": int(payment.phone.removeprefix("254")),
        "sender": payment.payer_name.split()[0],
        "transactiontype": "c2b-pay-bill-debit",
        "billreference": payment.bill_reference,
        "amount": amount_text(payment.amount_cents),
        "organizationname": code.name,
    }


def _moment(body: dict[str, Any], name: str) -> datetime | None:
    try:
        return datetime.strptime(text_of(body, name), "%Y-%m-%d %H:%M:%S").replace(tzinfo=EAT)
    except ValueError:
        return None


def _fires(world: World, fault: str, code: ShortCode) -> bool:
    return world.faults.fires(fault, code.code, f"pull:{code.code}", str(world.mpesa.serial()))


def _reference(world: World) -> str:
    return f"26178-{world.mpesa.serial():08d}-2"
