"""What M-Pesa holds: apps, short codes with their money, customers, and every payment that moved any."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sandbox.chance import draw, letters


@dataclass(slots=True)
class App:
    """A Daraja app: its credentials and the short codes it may speak for (none: all)."""

    consumer_key: str
    consumer_secret: str
    short_codes: frozenset[str] = frozenset()


@dataclass(slots=True)
class Customer:
    """A subscriber. `result_code` is what every payment to him ends with, if not 0; `stk_result` every prompt to pay."""

    phone: str
    name: str
    registered: bool = True
    result_code: str = "0"
    stk_result: str = "0"


@dataclass(frozen=True, slots=True)
class Payout:
    """A B2C instruction that reached the core: money moved only when `result_code` is "0"."""

    originator_conversation_id: str
    conversation_id: str
    transaction_id: str
    short_code: str
    phone: str
    amount_cents: int
    fee_cents: int
    result_code: str
    result_text: str
    receiver_name: str
    at: datetime
    utility_after_cents: int
    charges_after_cents: int
    occasion: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A C2B payment that was taken."""

    receipt: str
    short_code: str
    phone: str
    payer_name: str
    amount_cents: int
    bill_reference: str
    at: datetime
    utility_after_cents: int
    fee_cents: int = 0  # of the business
    customer_fee_cents: int = 0
    shape: str = "v2"  # how it is told (c2b_bodies.py)


@dataclass(frozen=True, slots=True)
class Reversal:
    """A request to give a C2B payment back: money moved only when `result_code` is "0". `original` is the payment's receipt."""

    originator_conversation_id: str
    conversation_id: str
    transaction_id: str
    original: str
    short_code: str
    amount_cents: int
    result_code: str
    at: datetime
    utility_after_cents: int


@dataclass(slots=True)
class Prompt:
    """A prompt to pay (STK push) and how it ended, which nobody is told before `settles_at`. Paid with "0" alone."""

    checkout_request_id: str
    merchant_request_id: str
    short_code: str
    phone: str
    amount_cents: int
    account_reference: str
    at: datetime
    settles_at: datetime
    result_code: str
    receipt: str | None = None
    questions: int = 0


@dataclass(slots=True)
class ShortCode:
    """A short code. `charges_cents` is negative: charges accrue until Safaricom collects them."""

    code: str
    name: str
    utility_cents: int = 0
    working_cents: int = 0
    charges_cents: int = 0
    initiator: str | None = None
    security_credential: str | None = None
    b2c_tariff: str = "b2c"
    c2b_bouquet: str = "business"
    external_validation: bool = False
    passkey: str | None = None
    register_again: bool = False
    pull_registered: bool = False
    confirmation_url: str | None = None
    validation_url: str | None = None
    response_type: str = "Completed"
    payouts: list[Payout] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    reversals: list[Reversal] = field(default_factory=list)
    came_back_cents: int = 0  # of payouts: what their receivers sent back to the short code


@dataclass(slots=True)
class MpesaBooks:
    """All of M-Pesa."""

    seed: int
    apps: dict[str, App] = field(default_factory=dict)
    short_codes: dict[str, ShortCode] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    tokens: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # token -> consumer key, valid until
    seen: dict[str, Payout | None] = field(default_factory=dict)  # originator conversation id -> what the core made of it
    receipts: dict[str, Payout | Payment] = field(default_factory=dict)
    reversals: dict[str, Reversal] = field(default_factory=dict)  # by M-Pesa's own originator conversation id
    prompts: dict[str, Prompt] = field(default_factory=dict)  # by CheckoutRequestID
    _serial: int = 0
    _tokens: int = 0
    _made: dict[tuple[str, ...], int] = field(default_factory=dict)

    def serial(self) -> int:
        """A number that is given once."""
        self._serial += 1
        return self._serial

    def token_number(self) -> int:
        """The number of the next token."""
        self._tokens += 1
        return self._tokens

    def receipt(self, at: datetime, *names: object) -> str:
        """A receipt for the act `names` describe: the same for the same act in the same order, never given twice."""
        key = tuple(str(name) for name in names)
        turn = self._made[key] = self._made.get(key, 0) + 1
        while True:
            receipt = _month_letters(at) + letters(self.seed, 8, "receipt", *key, turn)
            if receipt not in self.receipts:
                return receipt
            turn += 1000

    def customer(self, phone: str) -> Customer:
        """The subscriber with `phone`; a number nobody listed is a registered one."""
        if phone not in self.customers:
            self.customers[phone] = Customer(phone, _invented_name(self.seed, phone))
        return self.customers[phone]

    def paid_out(self) -> Iterator[Payout]:
        """Every payout that moved money."""
        return (payout for code in self.short_codes.values() for payout in code.payouts if payout.result_code == "0")


def _month_letters(at: datetime) -> str:
    """M-Pesa receipts begin with a letter for the year (2024: S) and one for the month."""
    return chr(ord("A") + (at.year - 2006) % 26) + chr(ord("A") + at.month - 1)


_FIRST = ("WANJIKU", "OTIENO", "AKINYI", "MWANGI", "CHEBET", "KIPTOO", "NJERI", "MUTUA", "HALIMA", "JUMA")
_LAST = ("KAMAU", "ODHIAMBO", "KARIUKI", "WAFULA", "KOECH", "MUTISO", "ABDI", "NYAMBURA", "KIMANI", "OUMA")


def _invented_name(seed: int, phone: str) -> str:
    number = draw(seed, "name", phone)
    return f"{_FIRST[number % 10]} {_LAST[number // 10 % 10]}"
