"""AirTouch (Damza) SMS gateway: one POST a message (samples/sms/airtouch_damza.json)."""

import hashlib
import json
from dataclasses import dataclass, field

import httpx

from vault_core.clients.http_exchange import Answer, NotSent, exchange
from vault_core.clients.json_reading import read_json_object, text_of
from vault_core.clients.sms_gateway import SmsAck, SmsOut
from vault_core.errors import InvalidInput
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown

_SUCCESS = "1000"
# Sender, credit, password, user: the next message would meet the same.
_HALTING = {"1001": "invalid sender id", "1004": "insufficient balance", "1006": "invalid credentials", "1011": "invalid user"}
_OK, _TOO_MANY = 200, 429


@dataclass(frozen=True, slots=True)
class AirTouchLogin:
    """Where the gateway is and who we are there. `url` is the host, such as https://client.airtouch.co.ke:9012."""

    url: str
    user: str
    api_key: str = field(repr=False)


class AirTouchClient:
    """Sends texts through AirTouch. Sends once: a repeat could be a second text."""

    def __init__(self, login: AirTouchLogin, http: httpx.AsyncClient, *, timeout: float = 30.0) -> None:
        self._url = f"{login.url.rstrip('/')}/sms/api/"
        self._user = login.user
        # The gateway wants the MD5 of the key as the password; it protects nothing.
        self._password = hashlib.md5(login.api_key.encode(), usedforsecurity=False).hexdigest()
        self._http = http
        self._timeout = timeout

    async def send(self, message: SmsOut) -> Outcome[SmsAck]:
        """Hands the message over; `reference` goes along as the gateway's `sms_id`."""
        body = {
            "username": self._user,
            "password": self._password,
            "issn": message.sender,
            "msisdn": message.phone,
            "text": message.text,
            "sms_id": message.reference,
        }
        done = await exchange(
            self._http,
            "POST",
            self._url,
            timeout=self._timeout,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            content=json.dumps(body).encode(),
        )
        if isinstance(done, Answer):
            return classify_send(done.status, done.body)
        if isinstance(done, NotSent):
            return Refused("not_sent", done.cause, Refusal.RETRY_LATER)
        return Unknown(done.cause)


def classify_send(status: int, body: bytes) -> Outcome[SmsAck]:
    """What an answer of the gateway means: only its own code is a verdict; an unlisted one is Unknown."""
    if status == _TOO_MANY:
        return Refused("http_429", "the gateway asks to slow down", Refusal.RETRY_LATER)
    try:
        answer = read_json_object(body, "the answer of the SMS gateway")
    except InvalidInput as error:
        return Unknown(f"HTTP {status}: {error}")
    code = text_of(answer.get("status_code")) or ""
    if code == _SUCCESS and status == _OK:
        return Accepted(SmsAck(text_of(answer.get("message_id")) or None))
    if code in _HALTING:
        return Refused(code, _HALTING[code], Refusal.HALT)
    return Unknown(f"HTTP {status} with the gateway's code {code[:20]!r}, which is not documented")
