"""What happens on the demo's day: who borrows, who repays, what goes wrong. A pure function of the seed.

The plan is data only. `local_stack/demo/world.py` turns it into the sandbox's world, `local_stack/demo/acts.py` acts it out.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

FIRST_NAMES = ("Amina", "Brian", "Cherono", "Daudi", "Esther", "Faith", "Grace", "Hassan", "Irene", "Juma", "Kamau", "Lilian")
LAST_NAMES = (
    "Achieng",
    "Barasa",
    "Chebet",
    "Kilonzo",
    "Maina",
    "Mutua",
    "Njeri",
    "Odhiambo",
    "Otieno",
    "Wanjiru",
    "Were",
    "Yusuf",
)


class Found(StrEnum):
    """How the product can come to know of an approved loan."""

    POLL = "poll"  # approved before the day began
    HOOK = "hook"  # approved during the day


class Trouble(StrEnum):
    """What a loan of the day is there for, beyond being paid: what happens to it, or what somebody does about it."""

    TRANCHES = "tranches"
    TOP_UP = "top_up"
    UNDONE = "undone"  # its disbursal is undone in Mifos X after it was posted
    POSTED_BY_HAND = "posted_by_hand"  # Mifos X refuses our posting
    TWO_PERSONS = "two_persons"  # M-Pesa never says what became of it, and it is large
    SAME_PAYEE = "same_payee"  # of the same client, approved while nobody knows what became of that
    OTHER_AMOUNT = "other_amount"  # M-Pesa pays more than was instructed
    BARE_RESULT = "bare_result"  # M-Pesa says that it was paid, without receipt and amount
    FORGOTTEN = "forgotten"  # M-Pesa takes it and knows nothing of it later
    CHECKED = "checked"  # its posting waits for a checker in Mifos X
    CONTRADICTED = "contradicted"  # M-Pesa says that it was paid, then that it failed
    FEE_DIFFERS = "fee_differs"  # M-Pesa takes another fee than its price list says
    NUMBER_MISSING = "number_missing"  # corrected, then retried
    NUMBER_WRONG = "number_wrong"  # refused for good, corrected, then released
    HELD_BACK = "held_back"  # held by a person, then released
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PlannedClient:
    """A client of one lender. `phone` is as the loan officer typed it; None where it is missing."""

    number: int
    name: str
    phone: str | None


@dataclass(frozen=True, slots=True)
class PlannedLoan:
    """A loan. `principal` and `fee_at_disbursement` are whole shillings; `repaid` loans were disbursed before the day."""

    number: int
    client: int
    product: int
    principal: int
    fee_at_disbursement: int
    found: Found | None  # None: disbursed before the day, to be repaid on it
    trouble: Trouble | None = None
    tranches: tuple[int, ...] = ()  # all due on the day
    topup_of: int | None = None  # the running loan that it pays off
    role: StrEnum | None = None  # what a running loan is there for, beyond being repaid

    @property
    def approved_before(self) -> bool:
        """Whether it was approved before the day began."""
        return self.found is not Found.HOOK


@dataclass(frozen=True, slots=True)
class PlannedSavings:
    """An active savings account; `blocked`: for credits."""

    number: int
    client: int
    role: StrEnum | None = None  # as of a loan
    currency: str = "KES"
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class PlannedPayment:
    """A customer's payment to the pay bill. `target` names account kind and number; None: the reference is nobody's."""

    number: int
    phone: str
    amount: int
    target: tuple[str, int] | None
    spelling: str  # 'plain', 'spaced', 'external', 'lower'


@dataclass(frozen=True, slots=True)
class PlannedCollectionCharges:
    """What a payment in costs the wallet: a rate (basis points) of it within bounds in shillings, and M-Pesa's fee by bouquet."""

    rate_basis_points: int
    least: int
    most: int
    bouquet: str


@dataclass(frozen=True, slots=True)
class PlannedPartner:
    """One lender's part of the day. Amounts in whole shillings.

    `host` names its books in the truth; `live`: they are on a running server, not in the sandbox. `products` are enabled.
    """

    name: str
    display_name: str
    host: str
    live: bool
    products: tuple[str, ...]
    external_prefix: str
    b2c_short_code: str
    c2b_short_code: str
    system_fee: int
    collections: PlannedCollectionCharges | None  # None: M-Pesa's fee is the customer's, and we charge nothing
    first_top_up: int
    second_top_up: int
    clients: tuple[PlannedClient, ...]
    loans: tuple[PlannedLoan, ...]
    savings: tuple[PlannedSavings, ...]
    payments: tuple[PlannedPayment, ...]
    float_at_first: int = 10_000_000  # on its B2C short code
    closed_today: bool = False  # its Mifos X takes no disbursal under the day
    asked_first: bool = False  # M-Pesa asks us before it takes a payment
    old_server: bool = False  # its Mifos X is older than idempotency keys
    every_feed: bool = False  # it prompts customers to pay, and its payments are pulled too
    overpayment: str = "post_all"

    @property
    def parts_to_pay(self) -> int:
        """How many payouts are to be found: the loans of enabled products, each tranche for itself."""
        return sum(max(1, len(loan.tranches)) for loan in self.approved if loan.product in ENABLED_PRODUCTS)

    @property
    def approved(self) -> list[PlannedLoan]:
        """The loans to be paid out on the day."""
        return [loan for loan in self.loans if loan.found is not None]

    def external_id(self, kind: str, number: int) -> str:
        """The external id of a client, loan or savings account: what a payer may write as his reference."""
        return f"{self.external_prefix}-{kind[0].upper()}{number}"


def loan_of(partner: PlannedPartner, role: StrEnum) -> PlannedLoan:
    """The running loan that is there for this."""
    return next(loan for loan in partner.loans if loan.role is role)


def savings_of(partner: PlannedPartner, role: StrEnum) -> PlannedSavings:
    """The savings account that is there for this."""
    return next(account for account in partner.savings if account.role is role)


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The whole day."""

    seed: int
    partners: tuple[PlannedPartner, ...]


NORMAL_FLOAT = 10_000_000
TRANCHE_PRODUCT = 4
ENABLED_PRODUCTS = {1: "Biashara", 2: "Mkopo Rahisi", TRANCHE_PRODUCT: "Kilimo Awamu"}
DISABLED_PRODUCT = (3, "Elimu")
LIMITS = (500, 60_000)
_APPROVED = 110  # a lender
_RUNNING = 60
_SAVINGS = 30
_PAYMENTS = 155
_STRAY_PAYMENTS = 2
_BAD_PHONES = ("", "12345")


def plan_day(seed: int) -> DayPlan:
    """The plan of `seed` for the two large lenders: 220 approved loans, 310 customer payments."""
    chance = random.Random(seed)  # noqa: S311 - a plan, not a secret
    return DayPlan(
        seed=seed,
        partners=(
            _partner(chance, 0, "umoja", "Umoja Credit", "alpha", "600100", "700100", 25, rich=True),
            _partner(chance, 1, "jirani", "Jirani Sacco", "beta", "600200", "700200", 40, rich=False),
        ),
    )


def _partner(
    chance: random.Random,
    index: int,
    name: str,
    display_name: str,
    host: str,
    b2c: str,
    c2b: str,
    system_fee: int,
    *,
    rich: bool,
) -> PlannedPartner:
    clients = [
        PlannedClient(number, f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}", phone_of(chance, index, number))
        for number in range(1, _APPROVED + _RUNNING + 1)
    ]
    loans = [_approved_loan(chance, number) for number in range(1, _APPROVED + 1)]
    loans += [
        PlannedLoan(number, number, chance.choice([1, 2]), chance.randrange(40_000, 60_000, 100), 0, None)
        for number in range(_APPROVED + 1, _APPROVED + _RUNNING + 1)
    ]
    for position, bad in enumerate(_BAD_PHONES):  # loans whose client cannot be paid: held with a reason, never guessed
        clients[position] = PlannedClient(position + 1, clients[position].name, bad or None)
    savings = [PlannedSavings(number, _APPROVED + number) for number in range(1, _SAVINGS + 1)]
    return PlannedPartner(
        name=name,
        display_name=display_name,
        host=host,
        live=False,
        products=tuple(ENABLED_PRODUCTS.values()),
        external_prefix=name.upper(),
        b2c_short_code=b2c,
        c2b_short_code=c2b,
        system_fee=system_fee,
        collections=PlannedCollectionCharges(50, 4, 10, "mgao") if rich else None,
        # One wallet is short at first: about half of its loans wait until the second top-up comes.
        first_top_up=60_000 if rich else 2_500,
        second_top_up=0 if rich else 20_000,
        float_at_first=1_000_000 if rich else NORMAL_FLOAT,  # the rich one's float does not suffice until more is bought
        clients=tuple(clients),
        loans=tuple(loans),
        savings=tuple(savings),
        payments=tuple(_payments(chance, index, clients)),
    )


def phone_of(chance: random.Random, index: int, number: int) -> str:
    """A number for client `number` of lender `index`, in one of the spellings that loan officers use."""
    subscriber = f"{index + 1}{number:04d}{chance.randrange(1000):03d}"
    return chance.choice(
        [f"07{subscriber}", f"+2547{subscriber}", f"2547{subscriber}", f"07{subscriber[:2]} {subscriber[2:5]} {subscriber[5:]}"]
    )


def _approved_loan(chance: random.Random, number: int) -> PlannedLoan:
    principal = chance.randrange(1_000, 50_000, 50)
    product, fee = chance.choice([1, 2]), chance.choice([0, 0, 0, 150, 300])
    if number % 40 == 0:
        product = DISABLED_PRODUCT[0]
    elif number % 37 == 0:
        principal = LIMITS[1] + 5_000  # above the product's limit here
    return PlannedLoan(number, number, product, principal, fee, Found.POLL if number % 2 else Found.HOOK)


def _payments(chance: random.Random, index: int, clients: list[PlannedClient]) -> list[PlannedPayment]:
    payments: list[PlannedPayment] = []
    for number in range(1, _PAYMENTS + 1):
        target: tuple[str, int] | None
        if number <= _STRAY_PAYMENTS:
            target = None
        elif number % 4 == 0:
            target = ("savings", chance.randrange(1, _SAVINGS + 1))
        else:
            target = ("loan", chance.randrange(_APPROVED + 1, _APPROVED + _RUNNING + 1))
        payer = clients[chance.randrange(len(_BAD_PHONES), len(clients))].phone or phone_of(chance, index, number)
        spelling = "plain" if target is None else chance.choice(["plain", "plain", "spaced", "external", "lower"])
        payments.append(PlannedPayment(number, payer, chance.randrange(50, 3_000, 10), target, spelling))
    return payments
