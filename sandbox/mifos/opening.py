"""What an office does before money moves: currencies, charges, products, clients, applications, opened savings accounts.

Only the keys that count here are looked at; a number that must be unique and is not is refused as the real server refuses it.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from typing import Any

from sandbox.asgi import Answer, json_answer
from sandbox.mifos import reads
from sandbox.mifos.access import check_read, check_write
from sandbox.mifos.amounts import cents_of
from sandbox.mifos.commands import Caller, Groups, Handler
from sandbox.mifos.errors import Fault, RefusalError, integrity, not_found
from sandbox.mifos.host import Charge, Client, MifosHost, Product, Savings
from sandbox.mifos.host_file import add_loan
from sandbox.mifos.payload import Payload

_APPLIED, _APPROVED, _ACTIVE = 100, 200, 300
_SAVINGS_STEPS = {"approve": (_APPLIED, _APPROVED), "activate": (_APPROVED, _ACTIVE)}
_KES = {"code": "KES", "name": "Kenyan Shilling", "decimalPlaces": 2, "displaySymbol": "KSh", "nameCode": "currency.KES"}


async def _currencies(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "currency")
    return json_answer({"selectedCurrencyOptions": [_KES], "currencyOptions": [_KES]})


async def _charges(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "charge")
    return json_answer([{"id": each.id, "name": each.name, "active": True} for each in caller.host.charges.values()])


async def _savings_products(caller: Caller, _: Groups) -> Answer:
    check_read(caller.user, "savingsproduct")
    return json_answer([{"id": number, "name": name} for number, name in caller.host.savings_products.items()])


def _create_charge(host: MifosHost, payload: Payload, _: date) -> dict[str, Any]:
    charge = Charge(host.next_id("charge"), str(payload.body["name"]))
    host.charges[charge.id] = charge
    return {"resourceId": charge.id}


def _create_savings_product(host: MifosHost, payload: Payload, _: date) -> dict[str, Any]:
    number = host.next_id("savings product")
    host.savings_products[number] = str(payload.body["name"])
    return {"resourceId": number}


def _create_product(host: MifosHost, payload: Payload, _: date) -> dict[str, Any]:
    name, short = str(payload.body["name"]), str(payload.body.get("shortName") or "")
    if any(each.name == name or each.short_name == short for each in host.products.values()):
        text = f"Loan product with name `{name}` or short name `{short}` already exists"
        raise integrity(Fault(text, "error.msg.product.loan.duplicate.name", "name", (name,)))
    product = Product(host.next_id("product"), name, short, multi_disburse=bool(payload.body.get("multiDisburseLoan")))
    host.products[product.id] = product
    return {"resourceId": product.id}


def _create_client(host: MifosHost, payload: Payload, _: date) -> dict[str, Any]:
    body = payload.body
    mobile, external = body.get("mobileNo"), body.get("externalId")
    for each in host.clients.values():
        if mobile and each.mobile_no == mobile:
            raise _taken_number(mobile)
        if external and each.external_id == external:
            text = f"Client with externalId `{external}` already exists"
            raise integrity(Fault(text, "error.msg.client.duplicate.externalId", "externalId", (external,)))
    client = Client(host.next_id("client"), str(body.get("firstname") or ""), str(body.get("lastname") or ""), mobile, external)
    host.clients[client.id] = client
    return {"officeId": 1, "clientId": client.id, "resourceId": client.id}


def _change_client(host: MifosHost, client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """What an officer corrects: the mobile number. A number that is another client's is refused."""
    mobile = body.get("mobileNo")
    if mobile and any(each is not client and each.mobile_no == mobile for each in host.clients.values()):
        raise _taken_number(mobile)
    if "mobileNo" in body:
        client.mobile_no = mobile or None
    changes = {name: body[name] for name in ("mobileNo",) if name in body}
    return {"officeId": 1, "clientId": client.id, "resourceId": client.id, "changes": changes}


def _taken_number(mobile: str) -> RefusalError:
    text = f"Client with mobileNo `{mobile}` already exists"
    return integrity(Fault(text, "error.msg.client.duplicate.mobileNo", "mobileNo", (mobile,)))


def _apply_for_loan(host: MifosHost, payload: Payload, today: date) -> dict[str, Any]:
    body = payload.body
    external = body.get("externalId")
    if external and external in host.loan_external_ids:
        text = f"Loan with externalId `{external}` already registered."
        raise integrity(Fault(text, "error.msg.loan.duplicate.externalId", "externalId", (external,)))
    client = reads.client_by_id(host, int(body["clientId"]))
    _product(host, int(body["productId"]))
    row = {
        "client": client.id,
        "product": int(body["productId"]),
        "principal_cents": cents_of(Decimal(str(body["principal"]))),
        "fee_cents": sum(cents_of(Decimal(str(charge["amount"]))) for charge in body.get("charges") or ()),
        "status": _APPLIED,
        "external_id": external,
        "expected_on": str(body["expectedDisbursementDate"]),
        "submitted_on": str(body["submittedOnDate"]),
        "months": int(body.get("numberOfRepayments") or 3),
    }
    loan = add_loan(host, row, today)
    return {"officeId": 1, "clientId": client.id, "loanId": loan.id, "resourceId": loan.id}


def _apply_for_savings(host: MifosHost, payload: Payload, _: date) -> dict[str, Any]:
    body = payload.body
    client = reads.client_by_id(host, int(body["clientId"]))
    number = host.next_id("savings")
    name = host.savings_products[int(body["productId"])]
    opened = payload.day("submittedOnDate") or date.min
    host.savings[number] = Savings(number, f"{number:09d}", client, _APPLIED, name, body.get("externalId"), opened)
    return {"officeId": 1, "clientId": client.id, "savingsId": number, "resourceId": number}


def _product(host: MifosHost, number: int) -> Product:
    if number not in host.products:
        text = f"Loan product with identifier {number} does not exist"
        raise not_found(Fault(text, "error.msg.loanproduct.id.invalid", "id", (number,)))
    return host.products[number]


async def _savings_step(caller: Caller, at: Groups) -> Answer:
    command = caller.request.query.get("command", "")
    if command not in _SAVINGS_STEPS:
        raise reads.unsupported_command(command, tuple(_SAVINGS_STEPS))
    check_write(caller.user, f"{command.upper()}_SAVINGSACCOUNT")
    account = reads.savings_by_id(caller.host, int(at[0]))
    was, becomes = _SAVINGS_STEPS[command]
    if account.status != was:
        text = f"The savings account cannot be brought to {command} from its state"
        raise integrity(Fault(text, f"validation.msg.savingsaccount.{command}.not.in.expected.state"))
    caller.world.note(caller.request)
    account.status = becomes
    return json_answer({"officeId": 1, "clientId": account.client.id, "savingsId": account.id, "resourceId": account.id})


async def _update_client(caller: Caller, at: Groups) -> Answer:
    check_write(caller.user, "UPDATE_CLIENT")
    client = reads.client_by_id(caller.host, int(at[0]))
    body = caller.request.json_object()
    caller.world.note(caller.request)
    return json_answer(_change_client(caller.host, client, body))


def _creating(
    permission: str, resource: str, required: tuple[str, ...], create: Callable[[MifosHost, Payload, date], dict[str, Any]]
) -> Callable[[Caller, Groups], Awaitable[Answer]]:
    async def handler(caller: Caller, _: Groups) -> Answer:
        check_write(caller.user, permission)
        payload = Payload(caller.request.json_object(), resource)
        for name in required:
            payload.required(name)
        payload.check()
        caller.world.note(caller.request)
        return json_answer(create(caller.host, payload, caller.host.today(caller.world.clock.today())))

    return handler


_LOAN_KEYS = ("clientId", "productId", "principal", "expectedDisbursementDate", "submittedOnDate")

OPENING_ROUTES: tuple[tuple[str, re.Pattern[str], str, Handler], ...] = (
    ("GET", re.compile(r"/api/v1/currencies"), "currencies", _currencies),
    ("GET", re.compile(r"/api/v1/charges"), "charges", _charges),
    ("POST", re.compile(r"/api/v1/charges"), "create charge", _creating("CREATE_CHARGE", "charge", ("name",), _create_charge)),
    ("GET", re.compile(r"/api/v1/savingsproducts"), "savings products", _savings_products),
    (
        "POST",
        re.compile(r"/api/v1/savingsproducts"),
        "create savings product",
        _creating("CREATE_SAVINGSPRODUCT", "savingsproduct", ("name",), _create_savings_product),
    ),
    (
        "POST",
        re.compile(r"/api/v1/loanproducts"),
        "create product",
        _creating("CREATE_LOANPRODUCT", "loanproduct", ("name",), _create_product),
    ),
    (
        "POST",
        re.compile(r"/api/v1/clients"),
        "create client",
        _creating("CREATE_CLIENT", "client", ("officeId",), _create_client),
    ),
    ("PUT", re.compile(r"/api/v1/clients/(\d+)"), "change client", _update_client),
    ("POST", re.compile(r"/api/v1/loans"), "apply for loan", _creating("CREATE_LOAN", "loan", _LOAN_KEYS, _apply_for_loan)),
    (
        "POST",
        re.compile(r"/api/v1/savingsaccounts"),
        "apply for savings",
        _creating("CREATE_SAVINGSACCOUNT", "savingsaccount", ("clientId", "productId"), _apply_for_savings),
    ),
    ("POST", re.compile(r"/api/v1/savingsaccounts/(\d+)"), "savings step", _savings_step),
)
