"""The bodies M-Pesa posts about a payout: the result, and the queue time-out that is no verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from sandbox.clock import eat
from sandbox.daraja.books import Payout, ShortCode
from sandbox.daraja.wire import amount_number, parameter

_OWN_TIMEOUT_URL = "http://internalapi.safaricom.co.ke/mpesa/b2cresults/v1/submit"


@dataclass(frozen=True, slots=True)
class ToldAs:
    """How a result is told. `in_texts`: with texts for numbers."""

    parameters: bool = True
    in_texts: bool = False


_PLAIN = ToldAs()


def told_as(fires: Callable[[str], bool]) -> ToldAs:
    """How the switches want a result to be told; `fires` says whether one is on for it."""
    return ToldAs(parameters=not fires("result_without_parameters"), in_texts=fires("result_in_texts"))


def result_body(payout: Payout, code: ShortCode, told: ToldAs = _PLAIN) -> bytes:
    """The result of `payout`: parameters on success only."""
    result = _outer(payout)
    if payout.result_code == "0" and told.parameters:
        result["ResultParameters"] = {"ResultParameter": _parameters(payout, code)}
    result["ReferenceData"] = {"ReferenceItem": parameter("QueueTimeoutURL", _OWN_TIMEOUT_URL)}
    body = orjson.dumps({"Result": result})
    return orjson.dumps(_in_texts(orjson.loads(body))) if told.in_texts else body


def _in_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_texts(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_in_texts(each) for each in value]
    return str(value) if isinstance(value, int | float) else value


def queue_timeout_body(payout: Payout) -> bytes:
    """The queue time-out in the form of a result envelope. No public source has a real body."""
    return orjson.dumps(
        {
            "Result": {
                "ResultType": 1,
                "ResultCode": 1,
                "ResultDesc": "The service request timed out.",
                "OriginatorConversationID": payout.originator_conversation_id,
                "ConversationID": payout.conversation_id,
            }
        }
    )


def code_value(code: str) -> int | str:
    """Result codes are numbers where they can be."""
    return int(code) if code.isdigit() else code


def _outer(payout: Payout) -> dict[str, Any]:
    return {
        "ResultType": 0,
        "ResultCode": code_value(payout.result_code),
        "ResultDesc": payout.result_text,
        "OriginatorConversationID": payout.originator_conversation_id,
        "ConversationID": payout.conversation_id,
        "TransactionID": payout.transaction_id,
    }


def _parameters(payout: Payout, code: ShortCode) -> list[dict[str, Any]]:
    return [
        parameter("TransactionAmount", payout.amount_cents // 100),
        parameter("TransactionReceipt", payout.transaction_id),
        parameter("ReceiverPartyPublicName", f"{payout.phone} - {payout.receiver_name}"),
        parameter("TransactionCompletedDateTime", eat(payout.at, "%d.%m.%Y %H:%M:%S")),
        parameter("B2CUtilityAccountAvailableFunds", amount_number(payout.utility_after_cents)),
        parameter("B2CWorkingAccountAvailableFunds", amount_number(code.working_cents)),
        parameter("B2CRecipientIsRegisteredCustomer", "Y"),
        parameter("B2CChargesPaidAccountAvailableFunds", amount_number(payout.charges_after_cents)),
    ]
