"""The M-Pesa core behind the gateway: decides what becomes of a payout and moves the money."""

from dataclasses import dataclass, replace

from sandbox.chance import draw
from sandbox.daraja.books import Payout, ShortCode
from sandbox.daraja.fees import b2c_fee
from sandbox.world import World

MINIMUM_CENTS = 10_00
MAXIMUM_CENTS = 250_000_00

_TEXTS = {
    "0": "The service request is processed successfully.",
    "1": "The balance is insufficient for the transaction.",
    "2": "Declined due to limit rule: less than the minimum transaction amount.",
    "3": "Declined due to limit rule: greater than the maximum transaction amount.",
    "4": "Declined due to limit rule: would exceed the daily transfer limit.",
    "8": "Declined due to limit rule: would exceed the maximum balance.",
    "17": "System internal error.",
    "2001": "The initiator information is invalid.",
    "2040": "Credit Party customer type (Unregistered or Registered Customer) can't be supported by the service.",
    "8006": "The security credential is locked.",
    "SFC_IC0003": "The operator does not exist.",
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """A payment request the gateway has taken."""

    originator_conversation_id: str
    conversation_id: str
    code: ShortCode
    initiator: str
    credential: str
    phone: str
    amount_cents: int
    occasion: str


def pay_out(world: World, order: Instruction) -> Payout:
    """Carries out `order`, writes it into the books and returns what became of it. Money moves only with code 0."""
    books, code = world.mpesa, order.code
    customer = books.customer(order.phone)
    result = _verdict(world, order)
    if result == "0" and _fault(world, "amount_changed", order):
        order = replace(order, amount_cents=order.amount_cents + world.settings.amount_change_cents)
    at = world.clock.now()
    receipt = books.receipt(at, "b2c", code.code, order.phone, order.amount_cents)
    fee = 0
    if result == "0":
        fee = _fee_cents(world, order)
        code.utility_cents -= order.amount_cents
        code.charges_cents -= fee
    payout = Payout(
        originator_conversation_id=order.originator_conversation_id,
        conversation_id=order.conversation_id,
        transaction_id=receipt,
        short_code=code.code,
        phone=order.phone,
        amount_cents=order.amount_cents,
        fee_cents=fee,
        result_code=result,
        result_text=result_text(result),
        receiver_name=customer.name,
        at=at,
        utility_after_cents=code.utility_cents,
        charges_after_cents=code.charges_cents,
        occasion=order.occasion,
    )
    code.payouts.append(payout)
    books.seen[order.originator_conversation_id] = payout
    books.receipts[receipt] = payout
    return payout


def result_text(code: str) -> str:
    """M-Pesa's words for a result code."""
    return _TEXTS.get(code, f"Failed with code {code}.")


def _verdict(world: World, order: Instruction) -> str:
    code, customer = order.code, world.mpesa.customer(order.phone)
    if order.initiator != (code.initiator or order.initiator) or order.credential != (
        code.security_credential or order.credential
    ):
        return "2001"
    if _fault(world, "initiator_locked", order):
        return "8006"
    if order.amount_cents < MINIMUM_CENTS:
        return "2"
    if order.amount_cents > MAXIMUM_CENTS:
        return "3"
    if customer.result_code != "0":
        return customer.result_code
    if not customer.registered or _fault(world, "unknown_receiver", order):
        return "2040" if draw(world.seed, "unknown", order.phone) % 2 else "SFC_IC0003"
    if order.amount_cents > code.utility_cents or _fault(world, "insufficient_float", order):
        return "1"
    return "0"


def _fee_cents(world: World, order: Instruction) -> int:
    """By the short code's price list, or by the one that `tariff_changed` says M-Pesa has brought in since."""
    fee = b2c_fee(order.amount_cents, order.code.b2c_tariff)
    if world.faults.fires("tariff_changed", order.code.code, str(fee.band), order.originator_conversation_id):
        return max(0, fee.business_cents + world.settings.fee_change_cents)
    return fee.business_cents


def _fault(world: World, fault: str, order: Instruction) -> bool:
    return world.faults.fires(fault, order.code.code, order.phone, str(order.amount_cents))
