"""Whether a loan may be paid, and if not, what it waits for and what to do about it. A decision on values alone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.phones import normalise_phone

# M-Pesa B2C, a transaction (reference/daraja.md section 8).
MPESA_LEAST = Money.shillings(10)
MPESA_MOST = Money.shillings(250_000)


class HeldFor(StrEnum):
    """As in the check of `disbursements.held_for`."""

    WALLET_SHORT = "wallet_short"
    FLOAT_SHORT = "float_short"
    PRODUCT_LIMIT = "product_limit"
    PRODUCT_DISABLED = "product_disabled"
    BAD_PHONE = "bad_phone"
    CENTS = "cents"
    MPESA_LIMIT = "mpesa_limit"
    CURRENCY = "currency"
    UNRESOLVED_PAYOUT = "unresolved_payout"
    PARTNER_HALTED = "partner_halted"
    GROUP_LOAN = "group_loan"
    TRANCHE_LOAN = "tranche_loan"
    TRANCHE_NOT_DUE = "tranche_not_due"
    TOP_UP = "top_up"
    NOT_APPROVED = "not_approved"
    NOT_DUE = "not_due"
    NOT_POSTABLE = "not_postable"
    SENDING_HALTED = "sending_halted"
    MIFOS_AWAY = "mifos_away"
    BY_PERSON = "by_person"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ProductRules:
    """A loan product as the partner enabled it. `None` bounds do not bind."""

    name: str
    enabled: bool
    least: Money | None
    most: Money | None
    daily_limit: Money | None
    active: bool = True  # in Mifos X, as last read
    expected_day_only: bool = False  # Mifos X takes a disbursal under the loan's expected day only


@dataclass(frozen=True, slots=True)
class Ready:
    """May be paid to `phone` (normalised)."""

    phone: str


@dataclass(frozen=True, slots=True)
class Held:
    """Waits. `reason` says what it is and what to do, to people. `needed`: of the wallet, if that is what it waits for."""

    held_for: HeldFor
    reason: str
    needed: Money | None = None


@dataclass(frozen=True, slots=True)
class LoanFacts:
    """What the decision needs to know of an approved loan, or of the part of it that is next.

    `phone` is the client's, as Mifos X has it. `plan`: what the loan's own state or plan says against paying now. `days`: those
    that Mifos X looks at when it is posted; None where it was just read for that.
    """

    principal: Money
    payout: Money
    currency: str
    group: bool
    phone: str | None
    plan: Held | None = None
    active_client: bool = True
    days: "LoanDays | None" = None


@dataclass(frozen=True, slots=True)
class LoanDays:
    """The days by which Mifos X takes or refuses a disbursal. `first_repayment`: where somebody fixed it."""

    today: date
    approved: date
    expected: date | None
    first_repayment: date | None
    top_up: bool = False  # what its older loan owes was read for today


def examine(loan: LoanFacts, product: ProductRules | None) -> Ready | Held:
    """Whether the loan itself may be paid; the first rule that it breaks, otherwise.

    The limits of the product bind the principal, those of M-Pesa the payout. What depends on other loans (the wallet, the limit
    of a day, an unresolved payout to the same person) is decided when it is sent.
    """
    for rule in _RULES:
        held = rule(loan, product)
        if held is not None:
            return held
    try:
        return Ready(normalise_phone(loan.phone or ""))
    except InvalidInput:
        what = "no mobile number" if not (loan.phone or "").strip() else "a mobile number that is not Kenyan"
        return Held(HeldFor.BAD_PHONE, f"the client has {what}: correct it in Mifos X")


def within_daily_limit(product: ProductRules, sent_today: Money, payout: Money) -> Held | None:
    """Held if `payout` would take what was sent today for the product above its daily limit."""
    if product.daily_limit is None or sent_today + payout <= product.daily_limit:
        return None
    return Held(
        HeldFor.PRODUCT_LIMIT,
        f"{sent_today} of product {product.name} was sent today and {payout} would exceed its daily limit of "
        f"{product.daily_limit}: it goes tomorrow, or raise the limit",
    )


def _product_enabled(_loan: LoanFacts, product: ProductRules | None) -> Held | None:
    if product is not None and product.enabled:
        return None if product.active else _inactive(product)
    name = "this loan's product" if product is None else f"product {product.name}"
    return Held(HeldFor.PRODUCT_DISABLED, f"{name} is not enabled: enable it with `vault partner enable`")


def _inactive(product: ProductRules) -> Held:
    reason = f"product {product.name} is not active in Mifos X any more: activate it there, or disburse the loan by hand"
    return Held(HeldFor.PRODUCT_DISABLED, reason)


def _single_person(loan: LoanFacts, _product: ProductRules | None) -> Held | None:
    if not loan.group:
        return None
    return Held(HeldFor.GROUP_LOAN, "a group loan has no one client to pay: disburse it by hand in Mifos X")


def _plan_allows(loan: LoanFacts, _product: ProductRules | None) -> Held | None:
    return loan.plan


def _client_active(loan: LoanFacts, _product: ProductRules | None) -> Held | None:
    if loan.active_client:
        return None
    return Held(HeldFor.NOT_POSTABLE, "the client is not active in Mifos X, which would refuse the disbursal: see to it there")


def _day_will_do(loan: LoanFacts, product: ProductRules | None) -> Held | None:
    """What Mifos X refuses for its day, now and later, must not be paid (reference/fineract.md sections 4 and 11)."""
    days = loan.days
    if days is None:
        return None
    posted_on = days.today
    if product is not None and product.expected_day_only and days.expected is not None:
        only = f"product {product.name} takes a disbursal under the loan's expected day only, and that is {days.expected}"
        if days.expected > days.today:
            return Held(
                HeldFor.NOT_DUE, f"{only}: it goes then; for today, put the expected disbursement date to today in Mifos X"
            )
        if days.expected < days.approved:
            again = "undo the approval in Mifos X and approve it with an expected disbursement date from that day on"
            return Held(HeldFor.NOT_POSTABLE, f"{only}, before its approval on {days.approved}: {again}")
        if days.top_up and days.expected < days.today:
            again = "put the expected disbursement date to today in Mifos X"
            return Held(HeldFor.NOT_POSTABLE, f"{only}, and what the older loan of a top-up owes is told for today: {again}")
        posted_on = days.expected
    if days.first_repayment is not None and days.first_repayment < posted_on:
        again = "undo the approval in Mifos X and approve it with a later one, or leave the day open there"
        return Held(
            HeldFor.NOT_POSTABLE,
            f"its first repayment is fixed for {days.first_repayment}, and Mifos X takes no disbursal after that: {again}",
        )
    return None


def _shillings(loan: LoanFacts, _product: ProductRules | None) -> Held | None:
    if loan.currency == "KES":
        return None
    return Held(HeldFor.CURRENCY, f"the loan is in {loan.currency}; M-Pesa pays KES only: disburse it by hand")


def _product_limits(loan: LoanFacts, product: ProductRules | None) -> Held | None:
    if product is None:
        return None
    if product.least is not None and loan.principal < product.least:
        bound = f"below the least of {product.least}"
    elif product.most is not None and loan.principal > product.most:
        bound = f"above the most of {product.most}"
    else:
        return None
    return Held(HeldFor.PRODUCT_LIMIT, f"{loan.principal} is {bound} for product {product.name}: change the limit or the loan")


def _whole_shillings(loan: LoanFacts, _product: ProductRules | None) -> Held | None:
    if loan.payout.is_whole_shillings:
        return None
    return Held(
        HeldFor.CENTS,
        f"the payout {loan.payout} has cents, M-Pesa pays whole shillings: change the loan in Mifos X, or add a charge of "
        f"{Money(loan.payout.cents % 100)} to it that is due at disbursement",
    )


def _mpesa_limits(loan: LoanFacts, _product: ProductRules | None) -> Held | None:
    if MPESA_LEAST <= loan.payout <= MPESA_MOST:
        return None
    return Held(
        HeldFor.MPESA_LIMIT,
        f"M-Pesa pays {MPESA_LEAST} to {MPESA_MOST} at once, the payout is {loan.payout}: disburse it by hand",
    )


_RULES: tuple[Callable[[LoanFacts, ProductRules | None], Held | None], ...] = (
    _product_enabled,
    _single_person,
    _plan_allows,
    _client_active,
    _day_will_do,
    _shillings,
    _product_limits,
    _whole_shillings,
    _mpesa_limits,
)
