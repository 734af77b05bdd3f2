"""What a Mifos X answer means: for a write an Outcome, for a read an error of the tree. Pure functions of the answer.

The tables are reference/fineract.md sections 4, 5, 6 and 11 (the real server). Only a body in one of the server's two error
shapes is a refusal; whatever else comes back from a write may hide a posting and is Unknown.
"""

import re
from collections.abc import Mapping
from typing import Any

from vault_core.clients.json_reading import read_json, text_of, whole_number
from vault_core.clients.mifos_values import Posted
from vault_core.errors import (
    InvalidInput,
    LoginRefused,
    NotFound,
    NotUnderstood,
    RemoteBusy,
    RemoteRefusal,
    Unreachable,
    VaultError,
)
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown

LOCKED = "error.msg.loan.locked"
CONFLICT = "conflict"
LOGIN_REFUSED = "login_refused"
NOT_AUTHORIZED = "error.msg.not.authorized"
NOT_SENT = "not_sent"
BUSY = "too_many_requests"
GATEWAY = frozenset({502, 503, 504})  # of a gateway that finds no server behind it, or of a server that is not ready

_UNPROCESSED = frozenset({LOCKED, LOGIN_REFUSED, NOT_AUTHORIZED, NOT_SENT, BUSY})

# The write may have been done already, by us: only reading back can tell.
_PERHAPS_OURS = (
    "account.is.not.approve.not.disbursed.state",
    "duplicate.externalid",
    "externalid.value.must.be.unique",
    "data.integrity.issue",
)
# The calendar of the tenant stands in the way; another day it will not.
_CLOSED_DAY = ("non.working.day", "on.holiday")
_NOT_YET = ("future.date", "in.the.future")
# Products with syncExpectedWithDisbursementDate take a disbursal under the loan's expected day only.
_EXPECTED_DAY = ("match.with.expected.disbursal.date",)
# Of the partner's set-up, not of the loan: mended there, the same write goes through.
_SET_UP = ("payment.type.invalid",)
_OTHER_INSTALLATION = ("error.msg.invalid.instance.type", "error.msg.invalid.tenant.identifier", "error.msg.not.authenticated")

_WAITS_FOR_CHECKER = "waits for a checker in Mifos X (maker-checker)"
_PHONE = re.compile(r"\+?\b(?:254|0)[17]\d{8}\b")
_REASON_LENGTH = 200
_OK, _BAD_REQUEST, _UNAUTHENTICATED, _FORBIDDEN = 200, 400, 401, 403
_MISSING, _CONFLICT, _TOO_EARLY, _TOO_MANY, _SERVER_FAULT = 404, 409, 425, 429, 500


class NotThere(NotFound):
    """Mifos X says that the thing does not exist; `code` says which thing."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


def waits_for_checker(cause: str) -> bool:
    """Whether `cause` (of an Unknown made here) says that the command is stored and waits for somebody's approval."""
    return cause.startswith(_WAITS_FOR_CHECKER)


def key_is_burnt(refused: Refused) -> bool:
    """Whether the server keeps this refusal under its idempotency key and replays it for ever.

    Such a write may be tried again only with a new key (and the same external id: nothing was posted under it).
    """
    return refused.code not in _UNPROCESSED


def is_closed_day(refused: Refused) -> bool:
    """Whether the tenant takes no such movement on the day that was named, whenever it is asked: only another day will do."""
    return any(mark in refused.code.lower() for mark in _CLOSED_DAY)


def is_not_yet(refused: Refused) -> bool:
    """Whether the day that was named has not begun for the tenant: its business date lags behind."""
    return any(mark in refused.code.lower() for mark in _NOT_YET)


def is_expected_day_only(refused: Refused) -> bool:
    """Whether the loan's product takes the disbursal under the loan's expected day only."""
    return any(mark in refused.code.lower() for mark in _EXPECTED_DAY)


def classify_write(
    status: int, headers: Mapping[str, str], body: bytes, *, target: tuple[str, int], made: str, external_id: str | None
) -> Outcome[Posted]:
    """The outcome of one posting.

    Args:
        status: HTTP status.
        headers: Names in lower case.
        body: As received.
        target: The key and id of the account written to, like ("loanId", 1041): an answer about another one is a replay of
            somebody else's key.
        made: The key that holds the id of the new transaction: "subResourceId" for a disbursement, else "resourceId".
        external_id: The external id we sent, if any.
    """
    if status == _TOO_EARLY:
        return Unknown("the server still marks this idempotency key as being processed (425)")
    if status >= _SERVER_FAULT or status < _OK or status in range(300, 400):
        return Unknown(f"the server answered HTTP {status}")
    try:
        answer = read_json(body, "the answer of Mifos X")
    except InvalidInput:
        answer = None
    if status < _BAD_REQUEST:
        return _classify_success(headers, answer, target=target, made=made, external_id=external_id)
    return _classify_refusal(status, headers, answer)


def _classify_success(
    headers: Mapping[str, str], answer: Any, *, target: tuple[str, int], made: str, external_id: str | None
) -> Outcome[Posted]:
    if not isinstance(answer, dict):
        return Unknown("the server answered 200, but not with JSON of its own")
    changes = answer.get("changes")
    if answer.get("rollbackTransaction") is True or (not isinstance(changes, dict) and "commandId" in answer):
        return Unknown(f"{_WAITS_FOR_CHECKER}: nothing is posted until somebody approves it there")
    key, account_id = target
    if whole_number(answer.get(key)) != account_id:
        return Unknown(
            f"the answer is about {key} {text_of(answer.get(key))}, not {account_id}: the idempotency key was used before"
        )
    echoed = answer.get("subResourceExternalId" if made == "subResourceId" else "resourceExternalId")
    if external_id and isinstance(echoed, str) and echoed and echoed != external_id:
        return Unknown("the answer carries another external id: the idempotency key was used before")
    transaction_id = whole_number(answer.get(made))
    if transaction_id is None:
        return Unknown("the server answered 200 and names no transaction: read back")
    return Accepted(Posted(transaction_id, from_cache=headers.get("x-served-from-cache") == "true"))


def _classify_refusal(status: int, headers: Mapping[str, str], answer: Any) -> Refused | Unknown:
    if status == _TOO_MANY:
        return Refused(BUSY, "the server or a gateway before it asks to slow down", Refusal.RETRY_LATER)
    code, reason = error_of(answer)
    if status == _UNAUTHENTICATED or (status == _BAD_REQUEST and not code and "www-authenticate" in headers):
        return Refused(LOGIN_REFUSED, "user, password or tenant was refused", Refusal.HALT)
    if not code:
        if is_spring_error(answer):
            return Refused(f"http_{status}", f"HTTP {status}: {text_of(answer.get('error'))}", Refusal.HALT)
        return Unknown(f"the server answered HTTP {status} in a form that is not its own")
    if status == _CONFLICT:
        return _classify_conflict(code)
    return _classify_code(code, reason)


def _classify_conflict(code: str) -> Refused | Unknown:
    if code == LOCKED:
        return Refused(LOCKED, "the loan is locked by close-of-business", Refusal.RETRY_LATER)
    if code.endswith(".conflict"):
        return Refused(CONFLICT, "two writes met in the server; needs a new idempotency key", Refusal.RETRY_LATER)
    return Unknown(f"HTTP 409 {code}")


def _classify_code(code: str, reason: str) -> Refused | Unknown:
    lowered = code.lower()
    if any(mark in lowered for mark in _PERHAPS_OURS):
        return Unknown(f"{code}: perhaps done before; read back")
    if code == NOT_AUTHORIZED or code in _OTHER_INSTALLATION:
        return Refused(code, reason, Refusal.HALT)
    if any(mark in lowered for mark in _SET_UP):
        return Refused(code, reason, Refusal.HALT)
    if any(mark in lowered for mark in _CLOSED_DAY + _NOT_YET + _EXPECTED_DAY):
        return Refused(code, reason, Refusal.RETRY_LATER)
    return Refused(code, reason, Refusal.TERMINAL)


def error_of(answer: Any) -> tuple[str, str]:
    """The most telling code and text of a Fineract error body; ("", "") when it is not one.

    The top-level code only says "validation" or "domain rule"; the first entry of `errors`, when there is one, says which.
    """
    if not isinstance(answer, dict):
        return "", ""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code = text_of(first.get("userMessageGlobalisationCode")) or text_of(answer.get("userMessageGlobalisationCode")) or ""
    text = text_of(first.get("defaultUserMessage")) or text_of(answer.get("defaultUserMessage")) or ""
    return code, _PHONE.sub("***", text)[:_REASON_LENGTH]


def is_spring_error(answer: Any) -> bool:
    """Whether the body is the web framework's own error, sent before any command began."""
    return isinstance(answer, dict) and {"timestamp", "status", "error"} <= answer.keys()


def read_failure(status: int, headers: Mapping[str, str], body: bytes, what: str) -> VaultError:
    """The error that a read answered with `status` (not 200) raises. `what` names the request for a person."""
    try:
        answer = read_json(body, what)
    except InvalidInput:
        answer = None
    code, reason = error_of(answer)
    if status in GATEWAY:
        return Unreachable(f"{what}: no Mifos X behind its gateway (HTTP {status} {code or reason})".replace(" )", ")"))
    if status >= _SERVER_FAULT or status in {_CONFLICT, _TOO_EARLY, _TOO_MANY}:
        return RemoteBusy(f"{what}: Mifos X answered HTTP {status} {code or reason}".rstrip())
    if status == _UNAUTHENTICATED or code in _OTHER_INSTALLATION:
        return LoginRefused(
            f"{what}: Mifos X refused the user or the password (HTTP {status})", code=code or str(status), status=status
        )
    if status == _BAD_REQUEST and not code and "www-authenticate" in headers:
        return LoginRefused(f"{what}: Mifos X does not know this tenant (HTTP 400)", code="tenant", status=status)
    if not code:
        return NotUnderstood(
            f"{what}: HTTP {status}, not an answer of Mifos X; does the address end in /fineract-provider/api/v1?",
            code=str(status),
            status=status,
        )
    if status == _MISSING:
        return NotThere(f"{what}: {code}", code=code)
    return RemoteRefusal(f"{what}: Mifos X refused: {code} {reason}".rstrip(), code=code, status=status)
