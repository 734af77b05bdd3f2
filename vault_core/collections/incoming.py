"""A customer's payment as one of the feeds tells it, and what its tellings together know (DESIGN.md section 5).

A payment may be told by its confirmation, an STK push, a pull and a statement, in any order and any number of times. Each knows
something else: an STK push the phone in clear, a confirmation the reference and the balance. What is known in the end must not
depend on the order, so of two words about one field the one that says more stands, whichever came first.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from vault_core.collections.matching import normalise_reference
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.phones import normalise_phone

COLLECTION_CALL = "collection.post"  # the call that finds a payment's account and posts it there

_HASHED = re.compile(r"[0-9a-f]{64}")
_SECOND_HAND = ("pull", "statement")  # feeds that are read because a confirmation may be missing


@dataclass(frozen=True, slots=True)
class IncomingPayment:
    """One payment as a feed tells it. (short code, receipt) is its identity across all feeds.

    `reference_doubted`: it is one person's word, and the payment more than one person assigns alone. It finds no account.
    """

    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime
    source: str  # the feed: 'c2b', 'stk', 'pull' or 'statement'
    event_id: UUID  # the evidence that is kept of it: an inbound event, a pull answer, a row of a statement
    org_balance: Money | None  # the short code's balance after it, as M-Pesa says
    bill_reference: str = field(repr=False)  # empty: the feed does not tell it
    payer_phone: str | None = field(repr=False)  # as it came: masked, hashed or plain
    payer_name: str | None = field(repr=False)
    reference_doubted: bool = False


class Booking(StrEnum):
    """What booking a payment did."""

    BOOKED = "booked"
    DUPLICATE = "duplicate"
    CONFLICT = "same receipt with another amount: case opened, nothing booked"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a payment beside what identifies it."""

    org_balance: Money | None
    bill_reference: str = field(repr=False)
    payer_phone: str | None = field(repr=False)
    payer_name: str | None = field(repr=False)


def facts_of(payment: IncomingPayment) -> Facts:
    """What this telling knows for sure."""
    reference = "" if payment.reference_doubted else payment.bill_reference
    return Facts(payment.org_balance, reference, payment.payer_phone, payment.payer_name)


def merged(known: Facts, told: Facts) -> Facts:
    """What both know together. Of tellings that do not contradict each other the same in any order, however often merged.

    A phone in clear says more than a hashed one, that more than a masked one; a name of more words more than a shorter one. A
    reference or balance that is known is never replaced: the payment may have been posted by it.
    """
    return Facts(
        org_balance=told.org_balance if known.org_balance is None else known.org_balance,
        bill_reference=known.bill_reference if known.bill_reference.strip() else told.bill_reference,
        payer_phone=max(known.payer_phone, told.payer_phone, key=_says_of_phone),
        payer_name=max(known.payer_name, told.payer_name, key=_says_of_name),
    )


def contradictions(known: Facts, known_amount: Money, told: IncomingPayment) -> tuple[str, ...]:
    """In what a telling contradicts what is known of its receipt: 'amount', 'bill reference'."""
    references = {normalise_reference(one) for one in (known.bill_reference, told.bill_reference)} - {""}
    found = {"amount": known_amount != told.amount, "bill reference": len(references) > 1}
    return tuple(name for name, contradicts in found.items() if contradicts)


def clear_phone(phone: str | None) -> str | None:
    """The phone in its one written form, if it came in clear; a masked or hashed one cannot be looked up."""
    if not phone or "*" in phone:
        return None
    try:
        return normalise_phone(phone)
    except InvalidInput:
        return None


def is_found_late(payment: IncomingPayment, now: datetime, after: timedelta) -> bool:
    """Whether its confirmation is missing: a pull or a statement tells of it first, longer than `after` since it happened."""
    return payment.source in _SECOND_HAND and now - payment.happened_at > after


def _says_of_phone(phone: str | None) -> tuple[int, bool, str]:
    text = (phone or "").strip()
    if (clear := clear_phone(text)) is not None:
        return 3, text == clear, text
    return (0 if not text else 2 if _HASHED.fullmatch(text) else 1), False, text


def _says_of_name(name: str | None) -> tuple[int, int, str]:
    text = (name or "").strip()
    return len(text.split()), len(text), text
