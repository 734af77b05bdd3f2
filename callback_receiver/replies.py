"""The answers that senders need, ready to send.

Sources: reference/daraja.md sections 3 and 4.2, reference/fineract.md section 7.
"""

from dataclasses import dataclass

from vault_core.collections.validation import Code


@dataclass(frozen=True, slots=True)
class Reply:
    """One ASGI answer: its two messages, made once."""

    start: dict[str, object]
    body: dict[str, object]


def make_reply(
    status: int, body: bytes = b"", *, headers: tuple[tuple[bytes, bytes], ...] = (), content_type: bytes = b"application/json"
) -> Reply:
    """A Reply of `status` with `body` and, besides its type and length, `headers`."""
    return Reply(
        start={
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers],
        },
        body={"type": "http.response.body", "body": body},
    )


_RESULT_TAKEN = make_reply(200, b'{"ResultCode":0,"ResultDesc":"Accepted"}')
_TAKEN = make_reply(200, b"{}")

ACKNOWLEDGEMENT_OF = {
    "c2b_confirmation": make_reply(200, b'{"ResultCode":0,"ResultDesc":"Success"}'),
    "b2c_result": _RESULT_TAKEN,
    "b2c_timeout": _RESULT_TAKEN,
    "stk_result": _RESULT_TAKEN,
    "query_result": _RESULT_TAKEN,
    "query_timeout": _RESULT_TAKEN,
    "mifos_hook": _TAKEN,
    "sms_report": _TAKEN,
}
VALIDATION_REPLY = {  # the code is text here, a number in a confirmation's reply: as documented
    code: make_reply(
        200, f'{{"ResultCode":"{code}","ResultDesc":"{"Accepted" if code is Code.ACCEPTED else "Rejected"}"}}'.encode()
    )
    for code in Code
}
PING = _TAKEN
NOT_SIGNED = make_reply(401)
NOT_FOUND = make_reply(404)
WRONG_METHOD = make_reply(405, headers=((b"allow", b"GET, POST"),))
TOO_LARGE = make_reply(413, headers=((b"connection", b"close"),))
COME_BACK = make_reply(503, headers=((b"retry-after", b"5"),))
