"""The values the Mifos X client takes and gives. Amounts are Money, dates are calendar days of the tenant."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money

# Widths of the server's columns (reference/fineract.md sections 4 and 6): a longer value is refused there after the money moved.
_PAYMENT_FIELD = 50
_IDEMPOTENCY_KEY = 50
_EXTERNAL_ID = 100
_EXPECTED_DAY_SINCE = 11  # 1.11


@dataclass(frozen=True, slots=True)
class MifosLogin:
    """Where a partner's Mifos X is and who we are there. `url` ends in /fineract-provider/api/v1."""

    url: str
    tenant: str
    user: str
    password: str = field(repr=False)
    ca_pem: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MifosCapabilities:
    """What this server can do, as found by asking it (MifosClient.probe); never assumed from a version.

    Loan transactions took external ids long before there were paths to find them by (`external_id_paths`): there they keep
    a second posting out.
    """

    status_filter: bool
    idempotency: bool
    loan_external_ids: bool
    savings_external_ids: bool
    version: str | None = None
    external_id_paths: bool = False

    @property
    def looks_at_expected_day(self) -> bool | None:
        """Which day of a first disbursal must not be a closed one: the loan's expected day, or the day it is posted under.

        The one since 1.11, whatever day is named; the other before. None where the server does not show its version: nothing that
        could be asked tells it.
        """
        if not self.external_id_paths:
            return False  # before 1.9
        found = re.match(r"1\.(\d+)", self.version or "")
        return None if found is None else int(found[1]) >= _EXPECTED_DAY_SINCE

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "MifosCapabilities":
        """Reads what `to_json` made. A missing feature counts as absent: that is the careful side."""
        version = stored.get("version")
        paths = stored.get("external_id_paths", stored.get("loan_external_ids"))  # once kept as one finding
        return cls(
            status_filter=stored.get("status_filter") is True,
            idempotency=stored.get("idempotency") is True,
            loan_external_ids=stored.get("loan_external_ids") is True,
            savings_external_ids=stored.get("savings_external_ids") is True,
            version=str(version) if version is not None else None,
            external_id_paths=paths is True,
        )


@dataclass(frozen=True, slots=True)
class LoanProduct:
    """A loan product of the partner. Enabled by `id`: names can be edited."""

    id: int
    name: str
    short_name: str
    currency: str
    active: bool
    expected_day_only: bool = False  # a disbursal is taken under the loan's expected day only


@dataclass(frozen=True, slots=True)
class PaymentType:
    """A payment type. A cash type forces the teller check on disbursal, so M-Pesa's must not be one."""

    id: int
    name: str
    is_cash: bool


@dataclass(frozen=True, slots=True)
class LoanTransaction:
    """One transaction of a loan or a savings account. A reversed one still shows and proves nothing."""

    id: int
    kind: str  # 'disbursement', 'repayment', 'deposit' or the server's own word
    amount: Money
    on: date
    external_id: str | None
    receipt: str | None
    reversed: bool


@dataclass(frozen=True, slots=True)
class PlannedTranche:
    """One tranche of a loan's plan; `disbursed_on` None: not disbursed yet.

    The server's own net amount of a tranche is that of the whole loan (seen on a running server), so it is not kept.
    """

    id: int
    expected_on: date
    principal: Money
    disbursed_on: date | None


@dataclass(frozen=True, slots=True)
class ApprovedLoan:
    """A loan as the server has it now; only `status_id` 200 may be paid out.

    `approved_on` is the day of submission for a loan without an approval (status 100). `net_disbursal` is what the
    client gets, `approved_principal` what is posted. `total_outstanding` is None before the loan is active. `tranches` is the
    plan in its order, of a loan that was read by itself: lists do not tell it.
    """

    id: int
    account_no: str
    external_id: str | None
    status_id: int
    client_id: int | None
    client_name: str | None
    group: bool
    product_id: int
    currency: str
    approved_principal: Money
    net_disbursal: Money
    multi_disburse: bool
    approved_on: date
    transactions: list[LoanTransaction]
    total_outstanding: Money | None
    tranches: tuple[PlannedTranche, ...] = ()
    expected_on: date | None = None  # of its first disbursal
    first_repayment_on: date | None = None  # where somebody fixed it: later no disbursal is taken
    top_up: bool = False  # its disbursal pays off an older loan of the client: `older_loan_id`
    older_loan_id: int | None = None
    payoff: Money | None = None  # what the older loan owes now; of an approved top-up that was read by itself
    topped_up: Money | None = None  # what its disbursal took for the older loan
    fees_at_disbursement: Money = ZERO
    overpaid: Money = ZERO  # more than was ever owed was paid
    office_id: int | None = None  # of its client: whose closed days count

    @property
    def disbursals(self) -> int:
        """How many disbursals of the loan stand. More than planned are possible: the server has no guard against it."""
        return sum(1 for each in self.transactions if each.kind == "disbursement" and not each.reversed)


@dataclass(frozen=True, slots=True)
class LoanPage:
    """One page of approved loans. `total` counts the whole result on the server; `unreadable` names rows not understood.

    `ids` are those of all its rows in the server's order, also of rows that are not in `loans`.
    """

    total: int
    loans: list[ApprovedLoan]
    unreadable: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MifosPerson:
    """A client. `mobile_no` is free text as typed at the partner; None when unset."""

    id: int
    display_name: str
    mobile_no: str | None
    active: bool = True


@dataclass(frozen=True, slots=True)
class SavingsAccount:
    """A savings account with its transactions, newest first as the server sends them."""

    id: int
    account_no: str
    balance: Money
    active: bool
    client_id: int | None
    client_name: str | None
    transactions: list[LoanTransaction]


class AccountState(StrEnum):
    """Where a loan or a savings account stands, as far as a payment is concerned."""

    PENDING = "pending"
    APPROVED = "approved"  # not paid out or opened yet
    ACTIVE = "active"
    BLOCKED = "blocked"  # active, but it takes no credits
    TRANSFER = "transfer"  # on its way to another office
    OVERPAID = "overpaid"
    CLOSED = "closed"
    WRITTEN_OFF = "written_off"
    REJECTED = "rejected"  # or withdrawn by the client
    OTHER = "other"


OPEN_STATES = frozenset({AccountState.ACTIVE, AccountState.BLOCKED, AccountState.TRANSFER})  # a payment may mean them


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """An account as the server has it. Only an `active` one takes a payment."""

    kind: str  # 'loan' or 'savings'
    id: int
    account_no: str
    external_id: str | None
    client_id: int | None
    client_name: str | None = field(repr=False)
    state: AccountState
    currency: str
    product_id: int | None = None

    @property
    def active(self) -> bool:
        """Whether it takes a payment now."""
        return self.state is AccountState.ACTIVE


@dataclass(frozen=True, slots=True)
class AccountPage:
    """One page of all loans or all savings accounts. `ids` are those of all its rows in the server's order, read or not.

    `total` counts the whole list on the server; `unreadable` names rows that were not understood.
    """

    total: int
    ids: tuple[int, ...]
    accounts: tuple[FoundAccount, ...]
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedClient:
    """A client as the list of all clients has it. `mobile_no` is free text."""

    id: int
    account_no: str
    display_name: str = field(repr=False)
    mobile_no: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientPage:
    """One page of all clients, in the order of their ids. `total` counts the whole list on the server."""

    total: int
    clients: tuple[ListedClient, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of its clients."""
        return tuple(client.id for client in self.clients)


@dataclass(frozen=True, slots=True)
class MifosHook:
    """A web hook of the server. `events` are pairs like ('LOAN', 'APPROVE')."""

    id: int
    name: str
    url: str | None
    active: bool
    events: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CoreWrite:
    """One disbursement, repayment or deposit to post.

    Raises InvalidInput for what the server would cut off or misread: an amount that is not positive, an empty idempotency key
    (one key for the whole server, reference/fineract.md section 11.1), a value wider than its column.
    """

    amount: Money
    on: date
    payment_type_id: int | None
    receipt: str
    account_number: str | None
    external_id: str | None
    idempotency_key: str | None
    note: str = ""

    def __post_init__(self) -> None:
        if self.amount <= Money(0):
            raise InvalidInput(f"a posting of {self.amount} to Mifos X: the amount must be above zero")
        _within("receipt", self.receipt, _PAYMENT_FIELD)
        _within("account number", self.account_number, _PAYMENT_FIELD)
        _within("external id", self.external_id, _EXTERNAL_ID)
        _within("idempotency key", self.idempotency_key, _IDEMPOTENCY_KEY)


def _within(what: str, value: str | None, width: int) -> None:
    if value is not None and not 0 < len(value) <= width:
        raise InvalidInput(f"the {what} of a posting has {len(value)} characters; Mifos X takes 1 to {width}, or none at all")


@dataclass(frozen=True, slots=True)
class Posted:
    """The transaction the server made. `from_cache`: it answered an idempotency key it had already seen."""

    transaction_id: int
    from_cache: bool
