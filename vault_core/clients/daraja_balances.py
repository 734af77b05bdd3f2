"""What M-Pesa answers to the question about a short code's balances (reference/daraja.md section 6.2). A pure parser."""

from dataclasses import dataclass
from datetime import datetime

from vault_core.clients.daraja_messages import MpesaResult, read_nairobi_time
from vault_core.errors import InvalidInput
from vault_core.money import Money

_UTILITY, _WORKING, _CHARGES_PAID = "utility account", "working account", "charges paid account"
_CURRENCY = "kes"
_FIELDS = 4  # name, currency, current and available; reserved and uncleared follow


@dataclass(frozen=True, slots=True)
class AccountBalances:
    """What is available in the accounts of a short code at `at`, by M-Pesa's clock. None: not told, or not readable."""

    at: datetime
    utility: Money | None
    working: Money | None
    charges_paid: Money | None


def read_balances(result: MpesaResult) -> AccountBalances | None:
    """The balances in a result; None if it has none (failed ones carry parameters too) or does not say of when they are.

    Accounts are joined by `&`, fields by `|`: name, currency, current, available, reserved, uncleared. Which accounts there are,
    their order, and what follows the fourth field differ; an account in another currency is passed by.
    """
    told, moment = result.parameters.get("AccountBalance"), result.parameters.get("BOCompletedTime")
    if result.code != "0" or not told or not moment:
        return None
    try:
        at = read_nairobi_time(moment, "BOCompletedTime")
    except InvalidInput:
        return None
    available = _available(told)
    return AccountBalances(at, available.get(_UTILITY), available.get(_WORKING), available.get(_CHARGES_PAID))


def _available(told: str) -> dict[str, Money]:
    found: dict[str, Money] = {}
    for account in told.split("&"):
        fields = [field.strip() for field in account.split("|")]
        if len(fields) < _FIELDS or fields[1].lower() != _CURRENCY:
            continue
        try:
            found.setdefault(" ".join(fields[0].lower().split()), Money.parse_grouped(fields[3]))
        except InvalidInput:
            continue
    return found
