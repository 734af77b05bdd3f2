"""M-Pesa's Daraja interface: payouts, status questions, C2B registration (reference/daraja.md)."""

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import httpx
import stamina

from vault_core.clients.daraja_answers import classify_payment, classify_registration, read_token, token_was_refused
from vault_core.clients.daraja_pull import (
    PULL_QUERY_PATH,
    PULL_REGISTER_PATH,
    PullAnswer,
    PullQuestion,
    classify_pull,
    classify_pull_registration,
    pull_body,
    pull_registration_body,
)
from vault_core.clients.daraja_reversal import REVERSAL_PATH, ReversalInstruction, reversal_body
from vault_core.clients.daraja_stk import (
    StkAck,
    StkFate,
    StkPrompt,
    StkQuestion,
    classify_fate,
    classify_prompt,
    prompt_body,
    question_body,
)
from vault_core.clients.daraja_values import (
    B2CAck,
    B2CInstruction,
    BalanceQuestion,
    DarajaLogin,
    QueryAck,
    StatusQuestion,
    TokenFetch,
    TokenStore,
)
from vault_core.clients.http_exchange import Answer, Exchange, NotSent, exchange
from vault_core.errors import NotFound, PermanentError, RemoteBusy, RemoteRefusal, TransientError, Unreachable
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown

__all__ = [
    "B2CAck",
    "B2CInstruction",
    "BalanceQuestion",
    "DarajaClient",
    "DarajaLogin",
    "QueryAck",
    "ReversalInstruction",
    "StatusQuestion",
    "TokenFetch",
    "TokenStore",
]

MayGo = Callable[[], Awaitable[bool]]

_B2C = "/mpesa/b2c/v3/paymentrequest"
_STATUS = "/mpesa/transactionstatus/v1/query"
_BALANCE = "/mpesa/accountbalance/v1/query"
_REGISTER = "/mpesa/c2b/v2/registerurl"
_PROMPT = "/mpesa/stkpush/v1/processrequest"
_PROMPT_QUERY = "/mpesa/stkpushquery/v1/query"
_TOKEN = "/oauth/v1/generate"  # noqa: S105 - a path

_TOKEN_ATTEMPTS = 3
_PLAIN = re.compile(r"[^A-Za-z0-9 .,:/_-]+")  # other characters made requests fail in silence (section 2.1)


class DarajaClient:
    """One partner's M-Pesa.

    A call is repeated in only one case: the gateway turned the access token away, which proves that nothing was done; then once,
    with a fresh token and the same body. Everything else is the caller's decision.
    """

    def __init__(self, login: DarajaLogin, http: httpx.AsyncClient, tokens: TokenStore, *, timeout: float = 30.0) -> None:
        self._login = login
        self._http = http
        self._tokens = tokens
        self._timeout = timeout
        self._base = login.url.rstrip("/")

    async def pay(self, instruction: B2CInstruction, *, may_go: MayGo | None = None) -> Outcome[B2CAck]:
        """Sends one payout. Accepted means queued, not paid; Refused means that this instruction has not been taken.

        `may_go` is asked once an access token is at hand, which can take long, right before each sending.
        """
        done = await self._post(_B2C, b2c_body(self._login, instruction), may_go)
        if isinstance(done, Answer):
            return classify_payment(done, resend=instruction.resend)
        outcome = _without_answer(done)
        if instruction.resend and isinstance(outcome, Refused):
            return Unknown(f"this send did not leave ({outcome.code}: {outcome.reason}); an earlier one may have been taken")
        return outcome

    async def query_status(self, question: StatusQuestion) -> Outcome[QueryAck]:
        """Asks what became of a payout. Moves no money: any outcome but Accepted may simply be asked again later."""
        return await self._ask(_STATUS, status_body(self._login, question))

    async def reverse(self, instruction: ReversalInstruction) -> Outcome[QueryAck]:
        """Asks that a customer's payment be given back. Accepted means queued; Refused means that this request was not taken."""
        done = await self._post(REVERSAL_PATH, reversal_body(self._login, instruction))
        if isinstance(done, Answer):
            outcome: Outcome[B2CAck] = classify_payment(done, resend=instruction.resend)
        else:
            outcome = _without_answer(done)
        if isinstance(outcome, Accepted):
            return Accepted(QueryAck(outcome.value.conversation_id, outcome.value.originator_conversation_id))
        if instruction.resend and isinstance(outcome, Refused):
            return Unknown(f"this sending did not leave ({outcome.code}: {outcome.reason}); an earlier one may have been taken")
        return outcome

    async def query_balance(self, question: BalanceQuestion) -> Outcome[QueryAck]:
        """Asks for the balances of a short code. Moves no money: any outcome but Accepted may simply be asked again later."""
        return await self._ask(_BALANCE, balance_body(self._login, question))

    async def _ask(self, path: str, body: Mapping[str, str]) -> Outcome[QueryAck]:
        done = await self._post(path, body)
        if not isinstance(done, Answer):
            return _without_answer(done)
        outcome = classify_payment(done, resend=False)
        if isinstance(outcome, Accepted):
            return Accepted(QueryAck(outcome.value.conversation_id, outcome.value.originator_conversation_id))
        return outcome

    @property
    def can_prompt(self) -> bool:
        """Whether the partner has a passkey, without which there is no STK push."""
        return self._login.passkey is not None

    async def prompt(self, prompt: StkPrompt) -> Outcome[StkAck]:
        """Asks a customer to pay, once: each call is a prompt on a phone. Accepted means prompted, Refused that nobody was.

        Raises NotFound without a passkey.
        """
        done = await self._post(_PROMPT, prompt_body(self._passkey(), prompt))
        return classify_prompt(done) if isinstance(done, Answer) else _without_answer(done)

    async def query_prompt(self, question: StkQuestion) -> Outcome[StkFate]:
        """Asks what became of a prompt, and is answered at once. Moves no money. Raises NotFound without a passkey."""
        done = await self._post(_PROMPT_QUERY, question_body(self._passkey(), question))
        return classify_fate(done) if isinstance(done, Answer) else _without_answer(done)

    def _passkey(self) -> str:
        if self._login.passkey is None:
            raise NotFound("no passkey: set it with `vault partner set-secret NAME mpesa_passkey`")
        return self._login.passkey

    async def register_c2b_urls(
        self, short_code: str, confirmation_url: str, validation_url: str, response_type: str = "Completed"
    ) -> Outcome[None]:
        """Registers where payments to a short code are told. In production it works once; then `already_registered`."""
        body = {
            "ShortCode": short_code,
            "ResponseType": response_type,
            "ConfirmationURL": confirmation_url,
            "ValidationURL": validation_url,
        }
        done = await self._post(_REGISTER, body)
        return classify_registration(done) if isinstance(done, Answer) else _without_answer(done)

    async def register_pull(self, short_code: str, nominated_number: str, callback_url: str) -> Outcome[None]:
        """Switches Pull Transactions on for a short code. Safe to repeat: one that is on already counts as done."""
        done = await self._post(PULL_REGISTER_PATH, pull_registration_body(short_code, nominated_number, callback_url))
        return classify_pull_registration(done) if isinstance(done, Answer) else _without_answer(done)

    async def pull(self, question: PullQuestion) -> PullAnswer:
        """Asks for the payments of a short code. Moves no money: any outcome but Accepted may simply be asked again later."""
        done = await self._post(PULL_QUERY_PATH, pull_body(question))
        if not isinstance(done, Answer):
            return PullAnswer(_without_answer(done))
        return PullAnswer(classify_pull(done), done.status, done.body)

    async def fetch_token(self) -> tuple[str, timedelta]:
        """A new access token and its lifetime, tried up to three times.

        For a TokenStore and for proving key and secret: taking one may kill the token that others hold. Raises LoginRefused,
        NotUnderstood, Unreachable or RemoteBusy.
        """
        pair = f"{self._login.consumer_key}:{self._login.consumer_secret}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}", "Accept": "application/json"}
        url, params = f"{self._base}{_TOKEN}", {"grant_type": "client_credentials"}
        async for attempt in stamina.retry_context(
            on=(Unreachable, RemoteBusy), attempts=_TOKEN_ATTEMPTS, timeout=None, wait_initial=0.2, wait_max=2.0, wait_jitter=0.2
        ):
            with attempt:
                done = await exchange(self._http, "GET", url, timeout=self._timeout, headers=headers, params=params)
                if isinstance(done, Answer):
                    return read_token(done)
                raise Unreachable(f"M-Pesa at {self._base}: {done.cause}")
        raise AssertionError("a retry context either returns or raises")

    async def _post(self, path: str, body: Mapping[str, str], may_go: MayGo | None = None) -> Exchange | Refused:
        """The exchange, or Refused when no token could be had, or it might not go any more, so that nothing was sent."""
        token, content = "", json.dumps(body).encode()
        done: Exchange | None = None
        for refused in (False, True):
            try:
                token = await self._tokens.token(self.fetch_token, refused=token if refused else None)
            except TransientError as error:
                return Refused("no_token", str(error), Refusal.RETRY_LATER)
            except PermanentError as error:
                code = error.code if isinstance(error, RemoteRefusal) and error.code else "no_token"
                return Refused(code, str(error), Refusal.HALT)
            if may_go is not None and not await may_go():
                return Refused("stopped", "sending was stopped before it left", Refusal.RETRY_LATER)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
            done = await exchange(
                self._http, "POST", f"{self._base}{path}", timeout=self._timeout, headers=headers, content=content
            )
            if not isinstance(done, Answer) or not token_was_refused(done):
                return done
        assert done is not None  # noqa: S101 - the loop ran
        return done


def b2c_body(login: DarajaLogin, instruction: B2CInstruction) -> dict[str, str]:
    """The v3 payout request, every value as text (section 2.1); `Occassion` has a double s and is always there."""
    return {
        "OriginatorConversationID": instruction.originator_conversation_id,
        "InitiatorName": login.initiator,
        "SecurityCredential": login.security_credential,
        "CommandID": instruction.command,
        "Amount": instruction.amount.whole_shillings_text(),
        "PartyA": instruction.short_code,
        "PartyB": instruction.phone,
        "Remarks": _plain(instruction.remarks) or "payout",
        "QueueTimeOutURL": instruction.timeout_url,
        "ResultURL": instruction.result_url,
        "Occassion": _plain(instruction.occasion),
    }


def status_body(login: DarajaLogin, question: StatusQuestion) -> dict[str, str]:
    """The status question by our id. `TransactionID` is left out: an empty one beside it gets an empty answer (section 6.1)."""
    return {
        "Initiator": login.initiator,
        "SecurityCredential": login.security_credential,
        "CommandID": "TransactionStatusQuery",
        "OriginalConversationID": question.originator_conversation_id,
        "PartyA": question.short_code,
        "IdentifierType": "4",
        "ResultURL": question.result_url,
        "QueueTimeOutURL": question.timeout_url,
        "Remarks": "status",
        "Occasion": _plain(question.occasion),
    }


def balance_body(login: DarajaLogin, question: BalanceQuestion) -> dict[str, str]:
    """The question about the balances of a short code (section 6.2)."""
    return {
        "Initiator": login.initiator,
        "SecurityCredential": login.security_credential,
        "CommandID": "AccountBalance",
        "PartyA": question.short_code,
        "IdentifierType": "4",
        "ResultURL": question.result_url,
        "QueueTimeOutURL": question.timeout_url,
        "Remarks": "balance",
    }


def _plain(text: str) -> str:
    return " ".join(_PLAIN.sub(" ", text).split())[:100]


def _without_answer(done: Exchange | Refused) -> Refused | Unknown:
    if isinstance(done, Refused):
        return done
    if isinstance(done, NotSent):
        return Refused("not_sent", done.cause, Refusal.RETRY_LATER)
    return Unknown(done.cause if not isinstance(done, Answer) else f"HTTP {done.status}")
