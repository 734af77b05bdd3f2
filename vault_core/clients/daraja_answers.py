"""What an answer of Daraja means. Pure functions, strictly by reference/daraja.md section 2.5.

One error code has several texts, and opposite meanings (500.002.1001 is a duplicate, an outage or maintenance), so the text
decides with the code. What is not a documented refusal is Unknown: after a payout only evidence tells whether money moved.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from vault_core.clients.daraja_values import B2CAck
from vault_core.clients.http_exchange import Answer
from vault_core.clients.json_reading import read_json_object, text_of
from vault_core.errors import InvalidInput, LoginRefused, NotUnderstood, RemoteBusy, VaultError
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown

TOKEN_REFUSED = "token_refused"  # noqa: S105 - the name of a refusal
NO_PRODUCT = "no_apiproduct"
SLOW_DOWN = "slow_down"
ALREADY_REGISTERED = "already_registered"

# The same fault has a spelling per interface (section 1).
_TOKEN_CODES = frozenset({"401.002.01", "404.001.03", "400.003.01", "401.003.01"})
_GATEWAY_CODES = re.compile(r"400\.00[23]\.\d+|40[14]\.\d+\.\d+|405\.\d+", re.ASCII)
_SLOW_TEXTS = ("spike arrest", "quota violation", "system is busy", "under maintenance")
# Fields that come from the partner's settings: the next payout would meet the same.
_OUR_SETTINGS = ("initiator", "securitycredential", "partya", "shortcode", "commandid", "url", "header", "identifier")
ALL_ZERO = re.compile(r"0+")
_PHONE = re.compile(r"\+?\b(?:254|0)[17]\d{8}\b")
_REASON_LENGTH = 200
_OK, _BAD_REQUEST, _TOO_MANY, _SERVER_FAULT = 200, 400, 429, 500
_DEFAULT_LIFETIME = timedelta(minutes=50)


@dataclass(frozen=True, slots=True)
class Said:
    """An error envelope: code and text, or the empty text."""

    code: str
    text: str

    @property
    def lowered(self) -> str:
        """The text to look for words in."""
        return self.text.lower()


def token_was_refused(answer: Answer) -> bool:
    """Whether the answer says that the access token is dead, so that a new one and the same request are right.

    "no apiproduct match found" comes in the same envelope and is no such case: a new token does not help.
    """
    body = read_envelope(answer)
    if body is None:
        return False
    said = said_in(body)
    dead = said.code in _TOKEN_CODES or "invalid access token" in said.lowered
    return answer.status >= _BAD_REQUEST and dead and "apiproduct" not in said.lowered


def classify_payment(answer: Answer, *, resend: bool) -> Outcome[B2CAck]:
    """The outcome of a payout or a status question. On a `resend` only an acknowledgement is a verdict.

    An earlier send of the same id may have been taken, so that a refusal of this one says nothing about the instruction.
    """
    outcome = _classify(answer)
    if resend and isinstance(outcome, Refused):
        cause = f"refused on a resend ({outcome.code}: {outcome.reason}); an earlier send may have been taken"
        return Unknown(cause, outcome.code)
    return outcome


def classify_registration(answer: Answer) -> Outcome[None]:
    """The outcome of a C2B registration. "Already registered" is a refusal: the URLs that stand may be others."""
    body = read_envelope(answer)
    if body is None:
        return Unknown(f"HTTP {answer.status} without a JSON object")
    code = text_of(body.get("ResponseCode")) or ""
    if answer.status == _OK and ALL_ZERO.fullmatch(code):
        return Accepted(None)
    said = said_in(body)
    if "already registered" in said.lowered or "duplicate notification info" in said.lowered:
        return Refused(ALREADY_REGISTERED, "C2B URLs are registered already; delete them in the portal first", Refusal.TERMINAL)
    if answer.status == _OK:
        return Unknown(f"HTTP 200 with ResponseCode {code[:20]!r}")
    return classify_error(answer.status, said)


def read_token(answer: Answer) -> tuple[str, timedelta]:
    """The access token and its lifetime (`expires_in` is a number or a text). Raises what `token_failure` makes."""
    if answer.status != _OK:
        raise token_failure(answer)
    body = read_envelope(answer) or {}
    token = text_of(body.get("access_token"))
    if not token:
        raise NotUnderstood(
            "M-Pesa's token answer holds no access_token; is the address a Daraja host?", code="token", status=_OK
        )
    seconds = text_of(body.get("expires_in")) or ""
    plain = re.fullmatch(r"[0-9]{1,6}(\.0+)?", seconds)
    return token, timedelta(seconds=int(seconds.split(".", maxsplit=1)[0])) if plain else _DEFAULT_LIFETIME


def token_failure(answer: Answer) -> VaultError:
    """The error of a refused token request. A wrong key or secret is HTTP 400 with an empty text."""
    said = said_in(read_envelope(answer) or {})
    if answer.status >= _SERVER_FAULT or answer.status == _TOO_MANY:
        return RemoteBusy(f"M-Pesa's token service answered HTTP {answer.status} {said.code}".rstrip())
    detail = f"{said.code} {without_secrets(said.text)}".strip() or "no text, which is what a wrong key or secret gets"
    return LoginRefused(
        f"M-Pesa refused the consumer key or secret (HTTP {answer.status}: {detail})",
        code=said.code or str(answer.status),
        status=answer.status,
    )


def _classify(answer: Answer) -> Outcome[B2CAck]:
    body = read_envelope(answer)
    if answer.status == _OK:
        return _classify_ok(body)
    if body is None and answer.status != _TOO_MANY:
        return Unknown(f"HTTP {answer.status} without a JSON object")
    return classify_error(answer.status, said_in(body or {}))


def _classify_ok(body: Mapping[str, Any] | None) -> Outcome[B2CAck]:
    if body is None:
        return Unknown("HTTP 200 without a JSON object")
    code, text = text_of(body.get("ResponseCode")) or "", text_of(body.get("ResponseDescription")) or ""
    conversation_id = text_of(body.get("ConversationID"))
    if code and not ALL_ZERO.fullmatch(code):
        if "duplicate" in text.lower():
            return Unknown(f"HTTP 200 with ResponseCode {code[:20]}: the id was seen before; that says nothing about payment")
        return Refused(code[:40], without_secrets(text), Refusal.TERMINAL)
    if not code or not conversation_id:
        return Unknown("HTTP 200 without ResponseCode or ConversationID")
    return Accepted(B2CAck(conversation_id, text_of(body.get("OriginatorConversationID")) or ""))


def classify_error(status: int, said: Said) -> Refused | Unknown:
    """What an error means, whichever interface sent it."""
    lowered = said.lowered
    if "duplicate" in lowered:
        return Unknown("the id was seen before (duplicate); that says nothing about payment")
    if status == _TOO_MANY or (status >= _SERVER_FAULT and any(text in lowered for text in _SLOW_TEXTS)):
        return Refused(SLOW_DOWN, without_secrets(said.text) or f"HTTP {status}", Refusal.RETRY_LATER)
    if not _BAD_REQUEST <= status < _SERVER_FAULT or not said.code:
        return Unknown(f"HTTP {status} {said.code} {without_secrets(said.text)}".rstrip())
    if "apiproduct" in lowered:
        return Refused(NO_PRODUCT, "the M-Pesa app lacks this product or version; tick it in the portal", Refusal.HALT)
    if said.code in _TOKEN_CODES or "invalid access token" in lowered:
        return Refused(TOKEN_REFUSED, "a fresh access token was refused too", Refusal.RETRY_LATER)
    if not _GATEWAY_CODES.fullmatch(said.code):
        return Unknown(f"HTTP {status} {said.code} {without_secrets(said.text)}".rstrip())
    ours = not said.code.startswith("400.") or any(field in lowered for field in _OUR_SETTINGS)
    return Refused(said.code, without_secrets(said.text), Refusal.HALT if ours else Refusal.TERMINAL)


def read_envelope(answer: Answer) -> dict[str, Any] | None:
    """The JSON object of an answer, or None."""
    try:
        return read_json_object(answer.body, "the answer of M-Pesa")
    except InvalidInput:
        return None


def said_in(body: Mapping[str, Any]) -> Said:
    """Code and text of {requestId, errorCode, errorMessage}, or of Apigee's own {fault: {faultstring, detail: {errorcode}}}."""
    fault = body.get("fault")
    if isinstance(fault, dict):
        detail = fault.get("detail")
        code = text_of(detail.get("errorcode")) if isinstance(detail, dict) else None
        return Said(code or "", text_of(fault.get("faultstring")) or "")
    return Said(text_of(body.get("errorCode")) or "", text_of(body.get("errorMessage")) or "")


def without_secrets(text: str) -> str:
    """The text without what it may carry: access tokens and phones."""
    text = re.sub(r"(?i)(invalid access token)\s*-\s*\S+", r"\1", text)
    return _PHONE.sub("***", text)[:_REASON_LENGTH]
