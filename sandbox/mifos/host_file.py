"""Fills a Mifos X host from JSON; see sandbox/README.md for the keys."""

import re
from datetime import date, timedelta
from typing import Any

from sandbox.asgi import BadBodyError
from sandbox.daraja.wire import is_phone
from sandbox.mifos.host import Client, Loan, LoanTransaction, MifosHost, PaymentType, Product, Savings, Tranche, User
from sandbox.mifos.loan_state import settle_status
from sandbox.mifos.top_ups import kept_back_cents
from sandbox.world import World

_UNPAID_LOAN_FAULTS = (
    "mifos_409_lock",
    "mifos_409_conflict",
    "mifos_403_client_not_active",
    "mifos_waits_for_checker",
    "mifos_425",
    "mifos_425_for_ever",
    "mifos_500_after_posting",
    "mifos_timeout_after_posting",
    "html_answer",
)
_PHONE_FAULTS = (
    "result_lost",
    "result_late",
    "result_twice",
    "result_contradicted",
    "result_before_answer",
    "answer_lost_after_paying",
    "queue_timeout_then_result",
    "insufficient_float",
    "initiator_locked",
    "unknown_receiver",
    "duplicate_answer",
    "soap_answer",
    "empty_answer",
    "never_processed",
    "amount_changed",
    "result_without_parameters",
    "result_in_texts",
    "spike_arrest",
    "oauth_token_dies",
    "html_answer",
)
_PLAIN_OPTIONS = (
    "tenant",
    "legacy",
    "oldest",
    "takes_external_ids",
    "html",
    "away",
    "broken",
    "nets_top_ups",
    "savings_external_ids",
    "allows_closed_days",
    "version",
    "b2c_short_code",
    "sms_user",
)
_HOST_KEYS = {
    *_PLAIN_OPTIONS,
    "business_date",
    "maker_checker",
    "closed_days",
    "users",
    "payment_types",
    "products",
    "clients",
    "loans",
    "savings",
}


def add_host(world: World, name: str, wish: Any) -> None:
    """Adds host `name`, or adds to it. Raises BadBodyError."""
    if not isinstance(wish, dict) or set(wish) - _HOST_KEYS:
        raise BadBodyError(f"mifos host {name} must be an object with some of {', '.join(sorted(_HOST_KEYS))}, got {wish!r:.200}")
    host = world.mifos.get(name) or _new_host(world, name)
    try:
        _set_options(host, wish)
        _add_people(host, wish)
        for row in wish.get("loans", ()):
            _announce(world, host, add_loan(host, row, world.clock.today()))
        for row in wish.get("savings", ()):
            _add_savings(host, row)
    except (KeyError, TypeError, ValueError) as error:
        raise BadBodyError(f"mifos host {name}: {type(error).__name__}: {error}") from error


def _new_host(world: World, name: str) -> MifosHost:
    host = world.mifos[name] = MifosHost(name)
    for kind in _system_payment_types():
        host.payment_types[host.reserve_id("payment type", kind.id)] = kind
    return host


def _set_options(host: MifosHost, wish: dict[str, Any]) -> None:
    for option in _PLAIN_OPTIONS:
        if option in wish:
            setattr(host, option, wish[option])
    host.legacy = host.legacy or host.oldest
    if "business_date" in wish:
        host.business_date = _day(wish["business_date"])
    if "maker_checker" in wish:
        host.maker_checker = frozenset(wish["maker_checker"])
    if "closed_days" in wish:
        host.closed_days = {date.fromisoformat(day): kind for day, kind in wish["closed_days"].items()}


def _add_people(host: MifosHost, wish: dict[str, Any]) -> None:
    for row in wish.get("users", ()):
        permissions = frozenset(row.get("permissions", ("ALL_FUNCTIONS",)))
        user = User(host.next_id("user"), row["username"], row["password"], permissions)
        host.users[user.name] = user
    for kind in wish.get("payment_types", ()):
        number = host.next_id("payment type")
        host.payment_types[number] = PaymentType(number, kind)
    for row in wish.get("products", ()):
        number = _id(host, "product", row)
        short = row.pop("short_name", row["name"][:4].upper())
        host.products[number] = Product(number, row.pop("name"), short, **row)
    for row in wish.get("clients", ()):
        number = _id(host, "client", row)
        host.clients[number] = Client(number, **row)


def add_loan(host: MifosHost, row: dict[str, Any], today: date) -> Loan:
    """Adds a loan from its JSON; unless a status is given it is approved."""
    number = _id(host, "loan", row)
    cents, fee, status = row.pop("principal_cents"), row.pop("fee_cents", 0), row.pop("status", 200)
    expected_on = _day(row.pop("expected_on", None)) or today
    approved_on = _day(row.pop("approved_on", None)) or today
    disbursed_on = _day(row.pop("disbursed_on", None)) or today - timedelta(days=7)
    earliest = min(expected_on, approved_on, disbursed_on if status >= 300 else today)
    submitted_on = _day(row.pop("submitted_on", None)) or earliest
    tranches = [
        Tranche(host.next_id("tranche"), _day(each.get("expected_on")) or today, each["principal_cents"])
        for each in row.pop("tranches", ())
    ]
    client, first_repayment_on = row.pop("client", None), _day(row.pop("first_repayment_on", None))
    loan = Loan(
        id=number,
        account_no=row.pop("account_no", f"{number:09d}"),
        product=host.products[row.pop("product")],
        client=None if client is None else host.clients[client],
        principal_cents=cents,
        approved_cents=cents,
        proposed_cents=cents,
        fee_cents=fee,
        net_cents=cents,
        months=row.pop("months", 3),
        status=status if status < 300 else 200,
        submitted_on=submitted_on,
        expected_on=expected_on,
        approved_on=approved_on if status >= 200 else None,
        tranches=tranches,
        first_repayment_on=first_repayment_on,
        **row,
    )
    if status >= 300:
        loan.approved_on = min(approved_on, disbursed_on)
        _disburse(host, loan, disbursed_on)
    loan.net_cents = loan.principal_cents - kept_back_cents(host, loan)
    host.loans[number] = loan
    if loan.external_id:
        host.loan_external_ids[loan.external_id] = number
    return loan


def _disburse(host: MifosHost, loan: Loan, day: date) -> None:
    loan.disbursed_on = day
    transaction = LoanTransaction(host.next_id("transaction"), "disbursement", loan.principal_cents, day, day)
    loan.transactions.append(transaction)
    settle_status(loan)


def _add_savings(host: MifosHost, row: dict[str, Any]) -> None:
    number = _id(host, "savings", row)
    account_no = row.pop("account_no", f"{number:09d}")
    opened_on = _day(row.pop("opened_on", None)) or date(2026, 1, 1)
    host.savings[number] = Savings(number, account_no, host.clients[row.pop("client")], opened_on=opened_on, **row)


def _announce(world: World, host: MifosHost, loan: Loan) -> None:
    """Names the loan and the phone to the switches: what is not paid yet may be met by those about paying."""
    if loan.status >= 300 or loan.client is None:
        return
    for fault in _UNPAID_LOAN_FAULTS:
        world.faults.announce(fault, host.name, f"loan:{loan.id}")
    if loan.status == 100:
        world.faults.announce("hook_missing", host.name, f"loan:{loan.id}")
    phone = f"254{re.sub(r'[^0-9]', '', loan.client.mobile_no or '')[-9:]}"
    if not is_phone(phone):
        return
    for fault in _PHONE_FAULTS:
        world.faults.announce(fault, host.b2c_short_code or "", phone)
    for fault in ("sms_refused", "sms_timed_out_after_sending"):
        world.faults.announce(fault, host.sms_user or "", phone)


def _id(host: MifosHost, of: str, row: dict[str, Any]) -> int:
    return host.reserve_id(of, row.pop("id")) if "id" in row else host.next_id(of)


def _day(value: Any) -> date | None:
    return None if value is None else date.fromisoformat(value)


def _system_payment_types() -> list[PaymentType]:
    """What a fresh server comes with."""
    return [
        PaymentType(1, "Money Transfer", "Money Transfer", code_name=None),
        _system_type(2, "Chargeback"),
        _system_type(3, "Refund"),
    ]


def _system_type(number: int, what: str) -> PaymentType:
    name = f"Repayment Adjustment {what}"
    return PaymentType(number, name, name, code_name=f"REPAYMENT_ADJUSTMENT_{what.upper()}", is_system=True)
