"""Reversal of a customer's payment on the wire (reference/daraja.md section 6.3): the request, and what its result says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vault_core.clients.daraja_messages import MpesaResult, read_nairobi_time
from vault_core.clients.daraja_values import DarajaLogin
from vault_core.errors import InvalidInput
from vault_core.money import Money

REVERSAL_PATH = "/mpesa/reversal/v1/request"
ALREADY_REVERSED = "R000001"
# Nothing was reversed: a bad receipt, no balance, an initiator or a short code that may not. Whatever is not listed says nothing.
_FAILURES = frozenset({"R000002", "1", "11", "18", "20", "21", "22", "24", "25", "29", "2001", "2006", "2028", "8006"})
_FINAL_FAILURES = frozenset({"cancelled", "declined", "expired", "failed"})
_ORGANISATION = "11"


@dataclass(frozen=True, slots=True)
class ReversalInstruction:
    """Gives back the payment of `receipt`, whole. `resend`: an earlier sending of it may have been taken."""

    receipt: str
    amount: Money
    short_code: str
    remarks: str
    occasion: str
    result_url: str
    timeout_url: str
    resend: bool = False


@dataclass(frozen=True, slots=True)
class SaysReversed:
    """It was given back, under a receipt of its own. `at` None: it does not say when."""

    receipt: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class SaysNotReversed:
    """It was not given back and will not be."""


@dataclass(frozen=True, slots=True)
class SaysNothing:
    """No verdict, and why. `for_a_person`: asking again will not help."""

    why: str
    for_a_person: bool = False


ReversalVerdict = SaysReversed | SaysNotReversed | SaysNothing


def reversal_body(login: DarajaLogin, instruction: ReversalInstruction) -> dict[str, str]:
    """The request; `RecieverIdentifierType` is M-Pesa's spelling."""
    amount = instruction.amount
    return {
        "Initiator": login.initiator,
        "SecurityCredential": login.security_credential,
        "CommandID": "TransactionReversal",
        "TransactionID": instruction.receipt,
        "Amount": str(amount.as_decimal()) if amount.cents % 100 else amount.whole_shillings_text(),
        "ReceiverParty": instruction.short_code,
        "RecieverIdentifierType": _ORGANISATION,
        "ResultURL": instruction.result_url,
        "QueueTimeOutURL": instruction.timeout_url,
        "Remarks": instruction.remarks,
        "Occasion": instruction.occasion,
    }


def read_reversal_result(said: MpesaResult, receipt: str, amount: Money) -> ReversalVerdict:
    """What a result says of the reversal of `receipt`. Only a whole reversal of that very payment is one."""
    if said.code == ALREADY_REVERSED:
        return SaysNothing("M-Pesa says that it was reversed before, and not under which receipt", for_a_person=True)
    if said.code in _FAILURES:
        return SaysNotReversed()
    if said.code != "0":
        return SaysNothing(f"code {said.code} does not tell whether it was reversed")
    about = said.parameters.get("OriginalTransactionID")
    if about and about != receipt:
        return SaysNothing(f"the result is about {about}, not {receipt}", for_a_person=True)
    return _reversed(said, said.transaction_id, amount, receipt, ("TransCompletedTime",))


def read_reversal_status(said: MpesaResult, receipt: str, amount: Money) -> ReversalVerdict:
    """What the answer to a status question about the reversal of `receipt` says of it."""
    status = (said.transaction_status or "").lower()
    if said.code != "0" or not status:
        return SaysNothing(f"code {said.code} does not tell what became of it")
    if status in _FINAL_FAILURES:
        return SaysNotReversed()
    if status != "completed":
        return SaysNothing(f"status {said.transaction_status}")
    return _reversed(said, said.receipt, amount, receipt, ("FinalisedTime", "FinalizedTime"))


def charge_words(said: MpesaResult) -> str:
    """What the result says that M-Pesa took for the reversal, for a person; empty for nothing.

    No price list has it and no sample shows it. M-Pesa takes it from the pay bill's own charges account, as all its fees there.
    """
    told = said.parameters.get("Charge", "").strip()
    return "" if not told.strip("0.") else f"M-Pesa's charge: {told[:40]}"


def _reversed(
    said: MpesaResult, own: str | None, amount: Money, original: str, times: tuple[str, ...]
) -> SaysReversed | SaysNothing:
    if said.amount is not None and said.amount != amount:
        return SaysNothing(f"{said.amount} was given back, not {amount}", for_a_person=True)
    if not own or own == original or own.endswith("0000000"):
        return SaysNothing("it says that it was given back, and names no receipt of the reversal")
    return SaysReversed(own, _time(said.parameters, times))


def _time(parameters: Mapping[str, str], keys: tuple[str, ...]) -> datetime | None:
    text = next((parameters[key] for key in keys if parameters.get(key)), None)
    try:
        return None if text is None else read_nairobi_time(text, "the time of the reversal")
    except InvalidInput:
        return None
