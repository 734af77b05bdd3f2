"""One Mifos X host: its users, people, accounts and everything posted to them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sandbox.asgi import Answer

SUPER = "ALL_FUNCTIONS"


@dataclass(slots=True)
class User:
    """A user of the host's tenant."""

    id: int
    name: str
    password: str
    permissions: frozenset[str] = frozenset((SUPER,))
    full_name: str = "App Administrator"

    def may(self, permission: str) -> bool:
        """Whether he has `permission` (READ_LOAN, DISBURSE_LOAN ...)."""
        action = permission.split("_", 1)[0]
        all_reads = action == "READ" and "ALL_FUNCTIONS_READ" in self.permissions
        return SUPER in self.permissions or permission in self.permissions or all_reads


@dataclass(slots=True)
class PaymentType:
    """A payment type; the system's own have a code name."""

    id: int
    name: str
    description: str = ""
    is_cash: bool = False
    position: int = 1
    code_name: str | None = ""
    is_system: bool = False


@dataclass(slots=True)
class Product:
    """A loan product. Interest is per month on the declining balance, in hundredths of a per cent."""

    id: int
    name: str
    short_name: str
    active: bool = True
    multi_disburse: bool = False
    monthly_rate_bp: int = 250
    sync_expected: bool = False  # takes a disbursal under the loan's expected day only


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge that a loan may carry. What it comes to is told with the loan."""

    id: int
    name: str


@dataclass(slots=True)
class Client:
    """A person. `mobile_no` is free text and may be missing."""

    id: int
    first_name: str
    last_name: str
    mobile_no: str | None = None
    external_id: str | None = None
    active: bool = True

    @property
    def account_no(self) -> str:
        """Nine digits, zero-padded."""
        return f"{self.id:09d}"

    @property
    def display_name(self) -> str:
        """As lists show it."""
        return f"{self.first_name} {self.last_name}"


@dataclass(slots=True)
class PaymentDetail:
    """How a transaction was paid."""

    payment_type: PaymentType | None
    account_number: str = ""
    check_number: str = ""
    routing_code: str = ""
    receipt_number: str = ""
    bank_number: str = ""


@dataclass(slots=True)
class LoanTransaction:
    """A transaction of a loan. `hidden`: undone with its disbursal, found by its external id only."""

    id: int
    kind: str  # disbursement, repayment, repaymentAtDisbursement
    amount_cents: int
    on: date
    submitted_on: date
    external_id: str | None = None
    detail: PaymentDetail | None = None
    reversed_on: date | None = None
    manually_reversed: bool = False
    hidden: bool = False


@dataclass(slots=True)
class Tranche:
    """A planned part of a loan."""

    id: int
    expected_on: date
    principal_cents: int
    disbursed_on: date | None = None


@dataclass(slots=True)
class Loan:
    """A loan. `principal_cents` is what is (to be) disbursed now, `approved_cents` what was approved."""

    id: int
    account_no: str
    product: Product
    client: Client | None
    principal_cents: int
    approved_cents: int
    proposed_cents: int
    fee_cents: int  # charged at disbursement: withheld from the payout
    net_cents: int
    months: int
    status: int
    submitted_on: date
    expected_on: date
    approved_on: date | None = None
    disbursed_on: date | None = None
    external_id: str | None = None
    group_name: str | None = None
    cob_locked: bool = False
    topup_of: int | None = None  # the loan that its disbursal pays off
    first_repayment_on: date | None = None  # where it is fixed: no disbursal is taken after it
    charges: dict[int, int] = field(default_factory=dict)  # cents by id, once somebody looked: together `fee_cents`
    tranches: list[Tranche] = field(default_factory=list)
    transactions: list[LoanTransaction] = field(default_factory=list)


@dataclass(slots=True)
class SavingsTransaction:
    """A transaction of a savings account."""

    id: int
    amount_cents: int
    on: date
    submitted_on: date
    balance_cents: int
    detail: PaymentDetail
    note: str = ""
    user_name: str = ""
    external_id: str | None = None
    reversed: bool = False


@dataclass(slots=True)
class Savings:
    """A savings account. `blocked`: for credits."""

    id: int
    account_no: str
    client: Client
    status: int = 300
    product_name: str = "Jamii Savings"
    external_id: str | None = None
    opened_on: date = date(2026, 1, 1)
    currency: str = "KES"
    blocked: bool = False
    transactions: list[SavingsTransaction] = field(default_factory=list)

    @property
    def balance_cents(self) -> int:
        """What was deposited and not undone."""
        return sum(each.amount_cents for each in self.transactions if not each.reversed)


@dataclass(slots=True)
class Hook:
    """A web hook. `events` holds (entity, action)."""

    id: int
    display_name: str
    url: str
    content_type: str
    events: tuple[tuple[str, str], ...]
    created_on: date
    active: bool = True


@dataclass(slots=True)
class CommandRow:
    """The memory of one Idempotency-Key: running until `answer` is there; then answered from here for ever."""

    done: asyncio.Event
    answer: Answer | None = None
    hidden_until: datetime | None = None  # a switch makes a finished command look as if it were still running
    stuck: bool = False  # crashed: 425 for ever


@dataclass(slots=True)
class MifosHost:
    """One server with one tenant. `legacy` behaves as before 1.9, `oldest` as 1.4 did.

    Those took external ids of loan transactions too, without paths to find them by; `takes_external_ids` False is a core that
    was changed to refuse them.
    """

    name: str
    tenant: str = "default"
    legacy: bool = False
    oldest: bool = False
    takes_external_ids: bool = True
    html: bool = False
    nets_top_ups: bool = True  # older servers do; newer ones take the older loan off only when the top-up is disbursed
    away: bool = False  # a gateway answers 503 for it
    broken: bool = False  # its database is away: 500 to everything
    savings_external_ids: bool = False
    b2c_short_code: str | None = None  # where the payouts of its loans are asked for; tells switches who may come
    sms_user: str | None = None
    business_date: date | None = None
    maker_checker: frozenset[str] = frozenset()
    closed_days: Mapping[date, str] = field(default_factory=dict)  # "holiday", or "non.working.day": then each week
    allows_closed_days: bool = False
    version: str | None = None  # shown instead of that of the options above
    users: dict[str, User] = field(default_factory=dict)
    payment_types: dict[int, PaymentType] = field(default_factory=dict)
    products: dict[int, Product] = field(default_factory=dict)
    charges: dict[int, Charge] = field(default_factory=dict)
    savings_products: dict[int, str] = field(default_factory=dict)
    clients: dict[int, Client] = field(default_factory=dict)
    loans: dict[int, Loan] = field(default_factory=dict)
    savings: dict[int, Savings] = field(default_factory=dict)
    hooks: dict[int, Hook] = field(default_factory=dict)
    commands: dict[tuple[str, str, str], CommandRow] = field(default_factory=dict)
    pending: dict[int, Any] = field(default_factory=dict)  # commands that wait for a checker (commands.PendingCommand)
    loan_external_ids: dict[str, int] = field(default_factory=dict)
    transaction_external_ids: dict[str, tuple[int, LoanTransaction]] = field(default_factory=dict)
    savings_transaction_external_ids: set[str] = field(default_factory=set)
    _counters: dict[str, int] = field(default_factory=dict)

    def next_id(self, of: str) -> int:
        """The next id of a sequence."""
        self._counters[of] = self._counters.get(of, 0) + 1
        return self._counters[of]

    def reserve_id(self, of: str, number: int) -> int:
        """Takes `number` of a sequence; what follows is higher."""
        self._counters[of] = max(self._counters.get(of, 0), number)
        return number

    @property
    def shown_version(self) -> str:
        """What /actuator/info tells."""
        if self.version is not None:
            return self.version
        if self.legacy:
            return "1.4.0" if self.oldest else "1.8.4"
        return "1.15.0-SNAPSHOT" if self.savings_external_ids else "1.11.0-SNAPSHOT"

    @property
    def looks_at_expected_day(self) -> bool:
        """Whether a disbursal is refused for a closed expected day, as since 1.11, and not for a closed day of its own."""
        return not self.shown_version.startswith(("1.4", "1.8", "1.9", "1.10"))

    def today(self, calendar_day: date) -> date:
        """The tenant's business date: his own if he keeps one, else the calendar's."""
        return self.business_date or calendar_day
