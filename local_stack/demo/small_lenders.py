"""Three small lenders: each loan of the first has its own trouble, the second is locked out, the third has an old Mifos X.

They are kept apart from the large ones so that no fault drawn at random meets their loans: each trouble comes once a day.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from local_stack.demo.day_plan import (
    ENABLED_PRODUCTS,
    FIRST_NAMES,
    LAST_NAMES,
    TRANCHE_PRODUCT,
    Found,
    PlannedClient,
    PlannedLoan,
    PlannedPartner,
    PlannedPayment,
    PlannedSavings,
    Trouble,
    phone_of,
)

TROUBLED, LOCKED_OUT, OLD_FASHIONED = "pwani", "ziwa", "nyika"
FEE_BAND = 5_000  # the upper end, in shillings, of the one band whose fee M-Pesa has changed
FALL = 200_000  # what somebody takes from the float of the troubled lender, in shillings
OLDER_LOAN = 15_000  # what the loan still owes that the top-up pays off

_POLLED = {  # principal by trouble; only one of them lies in the band whose fee differs
    Trouble.TRANCHES: 30_000,
    Trouble.TOP_UP: 40_000,
    Trouble.UNDONE: 12_000,
    Trouble.POSTED_BY_HAND: 9_000,
    Trouble.TWO_PERSONS: 55_000,
    Trouble.OTHER_AMOUNT: 10_200,
    Trouble.BARE_RESULT: 13_000,
    Trouble.FORGOTTEN: 16_000,
    Trouble.CHECKED: 17_000,
    Trouble.CONTRADICTED: 7_000,
    Trouble.FEE_DIFFERS: 3_000,
    Trouble.NUMBER_MISSING: 8_000,
    Trouble.NUMBER_WRONG: 11_000,
}
_HOOKED = {Trouble.HELD_BACK: 6_000, Trouble.CANCELLED: 14_000, Trouble.SAME_PAYEE: 8_500}
_TRANCHES = (18_000, 12_000)
_LOCKED = (6_000, 7_000, 15_000, 26_000)
_OLD = (9_500, 12_500, 21_000)
_REPAYING = 3  # loans that customers repay on the day


class Payer(StrEnum):
    """Customers who pay in another way than the day's plain payments."""

    UNKNOWN = "unknown"  # nobody knows the reference
    MISTAKEN = "mistaken"  # meant another pay bill
    UNCONFIRMED = "unconfirmed"  # no confirmation comes
    GENEROUS = "generous"  # pays more than is owed
    PLAIN = "plain"
    ABROAD = "abroad"  # with a number of another country
    PROMPTED = "prompted"
    DECLINES = "declines"
    NEVER_ANSWERS = "never_answers"
    UNHEARD = "unheard"  # pays when prompted, and no callback tells
    DENIED = "denied"  # so too, and M-Pesa says that it failed when it is asked
    SILENT = "silent"  # declines, and no callback tells


class Role(StrEnum):
    """What an account of the troubled lender is there for (BLOCKED: of the other one)."""

    POST_ALL = "post_all"
    HOLD = "hold"
    WRONG = "wrong"  # what is posted to it belongs elsewhere
    RIGHT = "right"  # where that belongs
    BY_PHONE = "by_phone"  # the one account of its client
    AMBIGUOUS = "ambiguous"  # its client has another one
    SAVER = "saver"  # the number of its client is no loan's
    DOLLARS = "dollars"
    BLOCKED = "blocked"


_LOANS_WITH_ROLES = (Role.POST_ALL, Role.HOLD, Role.WRONG, Role.RIGHT, Role.BY_PHONE, Role.AMBIGUOUS)
_ROLE_LOAN = 5_000  # each of them, in shillings


def paying_phone(partner: PlannedPartner, payer: Payer) -> str:
    """The number from which the customer pays, in its one written form."""
    if payer is Payer.ABROAD:
        return "255712000001"
    return f"25479{partner.c2b_short_code[-3:]}{list(Payer).index(payer) + 1:04d}"


def repaid_loans(partner: PlannedPartner) -> list[PlannedLoan]:
    """The running loans that customers just repay; a loan that is paid off by a top-up is none."""
    paid_off = {loan.topup_of for loan in partner.loans}
    return [loan for loan in partner.loans if loan.found is None and loan.role is None and loan.number not in paid_off]


def plan_small_lenders(seed: int) -> tuple[PlannedPartner, PlannedPartner, PlannedPartner]:
    """The three, with payments to accounts of their own."""
    chance = random.Random(f"{seed} small")  # noqa: S311 - a plan, not a secret
    troubled = [
        PlannedLoan(number, number, 1, principal, 0, Found.HOOK if trouble in _HOOKED else Found.POLL, trouble)
        for number, (trouble, principal) in enumerate({**_POLLED, **_HOOKED}.items(), 1)
    ]
    locked, old = (
        [PlannedLoan(number, number, 1, principal, 0, Found.POLL) for number, principal in enumerate(principals, 1)]
        for principals in (_LOCKED, _OLD)
    )
    first = _lender(chance, 2, TROUBLED, "Pwani Microcredit", "gamma", "600400", "700400", _with_their_terms(troubled))
    second = _lender(chance, 3, LOCKED_OUT, "Ziwa Chama", "delta", "600500", "700500", locked)
    third = _lender(chance, 4, OLD_FASHIONED, "Nyika Mikopo", "epsilon", "600600", "700600", old)
    blocked = PlannedSavings(2, second.savings[0].client, Role.BLOCKED, blocked=True)
    return (
        replace(_with_roles(chance, first), every_feed=True),
        replace(second, savings=(*second.savings, blocked), closed_today=True, asked_first=True),
        replace(third, old_server=True),
    )


def loan_with(partner: PlannedPartner, trouble: Trouble) -> PlannedLoan:
    """The loan that is there for this trouble."""
    return next(loan for loan in partner.loans if loan.trouble is trouble)


def _with_their_terms(loans: Sequence[PlannedLoan]) -> list[PlannedLoan]:
    """The loans with a plan of tranches for one, another's client for one, and before one the older loan that it pays off."""
    older = len(loans) + 1
    made: list[PlannedLoan] = []
    for loan in loans:
        if loan.trouble is Trouble.TRANCHES:
            made.append(replace(loan, product=TRANCHE_PRODUCT, tranches=_TRANCHES))
        elif loan.trouble is Trouble.SAME_PAYEE:
            made.append(replace(loan, client=next(each.client for each in loans if each.trouble is Trouble.TWO_PERSONS)))
        elif loan.trouble is Trouble.TOP_UP:
            made += [PlannedLoan(older, loan.client, 1, OLDER_LOAN, 0, None), replace(loan, topup_of=older)]
        else:
            made.append(loan)
    return made


def _with_roles(chance: random.Random, partner: PlannedPartner) -> PlannedPartner:
    """The lender with the accounts that are there for the ways of single payments, each of a client of its own."""
    last = max(loan.number for loan in partner.loans)
    roles = enumerate(_LOANS_WITH_ROLES, last + 1)
    loans = [PlannedLoan(number, number, 1, _ROLE_LOAN, 0, None, role=role) for number, role in roles]
    savers = last + len(loans) + 1
    savings = [
        PlannedSavings(2, loans[_LOANS_WITH_ROLES.index(Role.AMBIGUOUS)].client, Role.AMBIGUOUS),
        PlannedSavings(3, savers, Role.SAVER),
        PlannedSavings(4, savers + 1, Role.DOLLARS, currency="USD"),
    ]
    clients = [
        PlannedClient(number, f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}", phone_of(chance, 2, number))
        for number in range(last + 1, savers + 2)
    ]
    return replace(
        partner,
        clients=(*partner.clients, *clients),
        loans=(*partner.loans, *loans),
        savings=(*partner.savings, *savings),
    )


def _lender(
    chance: random.Random,
    index: int,
    name: str,
    display_name: str,
    host: str,
    b2c: str,
    c2b: str,
    loans: Sequence[PlannedLoan],
) -> PlannedPartner:
    last = max(loan.number for loan in loans)
    repaying = [PlannedLoan(last + place, last + place, 1, 40_000, 0, None) for place in range(1, _REPAYING + 1)]
    clients = [
        PlannedClient(number, f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}", phone_of(chance, index, number))
        for number in range(1, last + _REPAYING + 1)
    ]
    for loan in loans:
        if loan.trouble is Trouble.NUMBER_MISSING:
            clients[loan.client - 1] = replace(clients[loan.client - 1], phone=None)
    savings = PlannedSavings(1, repaying[0].client)
    # The first of the loans is paid off on the day: a payment to it afterwards would be one to a closed loan.
    targets = [("loan", loan.number) for loan in repaying[1:]] + [("savings", savings.number)]
    return PlannedPartner(
        name=name,
        display_name=display_name,
        host=host,
        live=False,
        products=tuple(ENABLED_PRODUCTS.values()),
        external_prefix=name.upper(),
        b2c_short_code=b2c,
        c2b_short_code=c2b,
        system_fee=30,
        collections=None,
        first_top_up=5_000,
        second_top_up=0,
        clients=tuple(clients),
        loans=(*loans, *repaying),
        savings=(savings,),
        payments=tuple(
            PlannedPayment(number, phone_of(chance, index, 900 + number), chance.randrange(50, 3_000, 10), target, "plain")
            for number, target in enumerate(targets, 1)
        ),
        overpayment="to_savings",
    )
