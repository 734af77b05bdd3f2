"""The results of payouts as M-Pesa would tell them, made from its books, so that a benchmark can tell them at its own pace."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vault_core.clock import NAIROBI


def result_bodies(truth: Mapping[str, Any], short_codes: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Short code and result of every payout in the sandbox's truth, by its originator conversation id."""
    codes = truth["mpesa"]["short_codes"]
    return {row["originator_conversation_id"]: (code, _body(row)) for code in short_codes for row in codes[code]["b2c"]}


def _body(row: Mapping[str, Any]) -> bytes:
    at = datetime.fromisoformat(row["at"]).astimezone(NAIROBI)
    parameters = {
        "TransactionAmount": row["amount_cents"] // 100,
        "TransactionReceipt": row["receipt"],
        "ReceiverPartyPublicName": f"{row['phone']} - WANJIKU KAMAU",
        "TransactionCompletedDateTime": f"{at:%d.%m.%Y %H:%M:%S}",
        "B2CRecipientIsRegisteredCustomer": "Y",
    }
    result = {
        "ResultType": 0,
        "ResultCode": 0,
        "ResultDesc": "The service request is processed successfully.",
        "OriginatorConversationID": row["originator_conversation_id"],
        "ConversationID": row["conversation_id"],
        "TransactionID": row["receipt"],
        "ResultParameters": {"ResultParameter": [{"Key": key, "Value": value} for key, value in parameters.items()]},
        "ReferenceData": {"ReferenceItem": {"Key": "QueueTimeoutURL", "Value": "http://internalapi.safaricom.co.ke/timeout"}},
    }
    return json.dumps({"Result": result}).encode()
