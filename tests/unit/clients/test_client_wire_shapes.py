"""What the clients put on the wire, and what they make of a connection that fails."""

import base64
import hashlib
import json
import logging
from datetime import date, timedelta

import httpx
import pytest
import stamina

from vault_core.clients.airtouch import AirTouchClient, AirTouchLogin, classify_send
from vault_core.clients.daraja import B2CInstruction, BalanceQuestion, DarajaClient, DarajaLogin, StatusQuestion
from vault_core.clients.http_exchange import Answer, NoAnswer, NotSent, exchange
from vault_core.clients.mifos import CoreWrite, MifosCapabilities, MifosClient, MifosLogin
from vault_core.clients.sms_gateway import SmsAck, SmsOut
from vault_core.errors import ConfigurationError, InvalidInput, LoginRefused, NotUnderstood, RemoteBusy, Unreachable
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

LOGIN = MifosLogin("https://core.example/fineract-provider/api/v1/", "default", "vault", "pass-w0rd")
DARAJA = DarajaLogin("https://mpesa.example", "consumer-k", "consumer-s", "vaultapi", "crede.ntial")
CAPABLE = MifosCapabilities(status_filter=True, idempotency=True, loan_external_ids=True, savings_external_ids=False)
WRITE = CoreWrite(
    Money(1500050), date(2026, 11, 20), 26, "SKL8T4W2QZ", "254708374149", "pv-d-1", "key-1", "M-Pesa B2C SKL8T4W2QZ"
)
POSTED = {"loanId": 7, "savingsId": 7, "resourceId": 7, "subResourceId": 90, "changes": {"status": {"id": 300}}}


class Wire:
    """Stands where the other side is: keeps what came and answers from a list, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self))

    @property
    def last_body(self):
        return json.loads(self.requests[-1].content)


class OneToken:
    """A TokenStore in memory."""

    def __init__(self) -> None:
        self.refused: list[str | None] = []
        self._kept: str | None = None

    async def token(self, fetch, *, refused=None):
        self.refused.append(refused)
        if self._kept is None or refused == self._kept:
            self._kept = (await fetch())[0]
        return self._kept


@pytest.fixture(autouse=True)
def retries_do_not_wait():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def ok(body) -> httpx.Response:
    return httpx.Response(200, json=body)


def mifos(wire: Wire) -> MifosClient:
    return MifosClient(LOGIN, wire.http, write_timeout=60)


# ------------------------------------------------------------------ one exchange


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ConnectError("refused"), NotSent),
        (httpx.ConnectTimeout(""), NotSent),
        (httpx.PoolTimeout(""), NotSent),
        (httpx.ReadTimeout(""), NoAnswer),
        (httpx.WriteTimeout(""), NoAnswer),
        (httpx.ReadError("reset"), NoAnswer),
        (httpx.WriteError("broken pipe"), NoAnswer),
        (httpx.RemoteProtocolError("disconnected"), NoAnswer),
        (httpx.DecodingError("bad gzip"), NoAnswer),
    ],
)
async def test_a_failed_connection_is_told_from_a_lost_answer(failure, kind):
    done = await exchange(Wire(failure).http, "POST", "https://x.example/", timeout=1)
    assert isinstance(done, kind)


async def test_an_address_that_is_no_url_is_a_fault_of_the_settings():
    with pytest.raises(ConfigurationError, match="is not a URL"):
        await exchange(Wire(ok({})).http, "GET", "https://x.example:port/", timeout=1)


async def test_no_cookie_of_one_call_travels_with_the_next():
    wire = Wire(httpx.Response(200, headers={"set-cookie": "JSESSIONID=someone; Path=/"}, json=[]))
    http = wire.http
    for tenant in ("one", "two"):
        await MifosClient(MifosLogin("https://core.example/api/v1", tenant, "u", "p"), http, write_timeout=60).payment_types()
    assert [request.headers.get("cookie") for request in wire.requests] == [None, None]


async def test_an_endless_answer_is_cut_off():
    async def endless():
        while True:
            yield b"x" * 2**20

    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: httpx.Response(200, content=endless())))
    done = await exchange(http, "GET", "https://x.example/", timeout=60)
    assert isinstance(done, NoAnswer)
    assert "larger" in done.cause


# ------------------------------------------------------------------ Mifos X


async def test_a_call_to_mifos_says_who_we_are_and_for_which_tenant():
    wire = Wire(ok([]))
    await mifos(wire).payment_types()
    request = wire.requests[0]
    assert str(request.url) == "https://core.example/fineract-provider/api/v1/paymenttypes"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"vault:pass-w0rd").decode()
    assert request.headers["fineract-platform-tenantid"] == "default"


async def test_the_approved_loans_are_asked_for_with_status_order_and_limit_and_on_old_servers_by_their_own_filter():
    wire = Wire(ok({"totalFilteredRecords": 0, "pageItems": []}))
    await mifos(wire).approved_loans(CAPABLE, offset=100)
    assert dict(wire.requests[-1].url.params) == {
        "status": "200",
        "offset": "100",
        "limit": "100",
        "orderBy": "id",
        "sortOrder": "ASC",
    }
    old = MifosCapabilities(status_filter=False, idempotency=False, loan_external_ids=False, savings_external_ids=False)
    await mifos(wire).approved_loans(old, offset=0, limit=50)
    assert wire.requests[-1].url.params["sqlSearch"] == "l.loan_status_id=200"
    assert "status" not in wire.requests[-1].url.params
    assert wire.requests[-1].url.params["limit"] == "50"


async def test_a_disbursement_is_written_with_amount_as_text_receipt_external_id_and_key():
    wire = Wire(ok(POSTED))
    outcome = await mifos(wire).disburse(7, WRITE)
    assert outcome.value.transaction_id == 90
    assert wire.requests[0].url.params["command"] == "disburse"
    assert wire.requests[0].headers["idempotency-key"] == "key-1"
    assert wire.last_body == {
        "actualDisbursementDate": "2026-11-20",
        "transactionAmount": "15000.50",
        "receiptNumber": "SKL8T4W2QZ",
        "paymentTypeId": 26,
        "accountNumber": "254708374149",
        "externalId": "pv-d-1",
        "note": "M-Pesa B2C SKL8T4W2QZ",
        "locale": "en",
        "dateFormat": "yyyy-MM-dd",
    }


async def test_what_is_not_given_is_not_sent_an_empty_idempotency_key_least_of_all():
    wire = Wire(ok(POSTED))
    bare = CoreWrite(Money(100), date(2026, 11, 20), 26, "R", None, None, None)
    outcome = await mifos(wire).deposit(7, bare)
    assert outcome.value.transaction_id == 7
    assert "idempotency-key" not in wire.requests[0].headers
    assert set(wire.last_body) == {
        "transactionDate",
        "transactionAmount",
        "receiptNumber",
        "paymentTypeId",
        "locale",
        "dateFormat",
    }
    with pytest.raises(InvalidInput, match="idempotency key"):
        CoreWrite(Money(100), date(2026, 11, 20), 26, "R", None, None, "")


@pytest.mark.parametrize(
    "change",
    [
        {"amount": Money(0)},
        {"amount": Money(-1)},
        {"receipt": "R" * 51},
        {"receipt": ""},
        {"account_number": "1" * 51},
        {"external_id": "x" * 101},
        {"idempotency_key": "k" * 51},
    ],
)
def test_a_posting_that_the_server_would_cut_or_misread_is_not_made(change):
    fields = {
        "amount": Money(100),
        "on": date(2026, 11, 20),
        "payment_type_id": 1,
        "receipt": "R",
        "account_number": None,
        "external_id": None,
        "idempotency_key": None,
    }
    with pytest.raises(InvalidInput):
        CoreWrite(**{**fields, **change})


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(httpx.ConnectError("no"), Refusal.RETRY_LATER), (httpx.ReadTimeout(""), None), (httpx.Response(502, text="<html>"), None)],
)
async def test_a_posting_is_sent_once_and_a_lost_answer_is_unknown(failure, expected):
    wire = Wire(failure)
    outcome = await mifos(wire).repay(7, WRITE)
    assert len(wire.requests) == 1
    if expected is None:
        assert isinstance(outcome, Unknown)
    else:
        assert (outcome.code, outcome.refusal) == ("not_sent", expected)


async def test_a_200_of_an_old_server_that_names_no_transaction_is_read_back_and_not_guessed():
    wire = Wire(ok({"loanId": 7, "resourceId": 7, "changes": {"status": {"id": 300}}}))
    assert isinstance(await mifos(wire).disburse(7, WRITE), Unknown)


async def test_a_read_is_tried_again_while_the_server_is_busy_and_no_more_than_three_times(caplog):
    wire = Wire(httpx.Response(503, text="<html>"), httpx.ConnectError("no"), ok([]))
    assert await mifos(wire).payment_types() == []
    down = Wire(httpx.ReadTimeout(""))
    with pytest.raises(Unreachable), caplog.at_level(logging.DEBUG):
        await mifos(down).payment_types()
    assert len(down.requests) == 3
    busy = Wire(httpx.Response(429))
    with pytest.raises(RemoteBusy):
        await mifos(busy).loan_products()
    assert "pass-w0rd" not in caplog.text


async def test_a_refused_login_is_not_tried_again():
    wire = Wire(httpx.Response(401, json={"timestamp": "t", "status": 401, "error": "Unauthorized", "path": "/"}))
    with pytest.raises(LoginRefused):
        await mifos(wire).log_in()
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Welcome</html>"),
        httpx.Response(302, headers={"location": "/login"}),
        httpx.Response(200, json={"a": 1}),
    ],
)
async def test_a_server_that_is_no_mifos_is_said_so(answer):
    with pytest.raises(NotUnderstood):
        await mifos(Wire(answer)).log_in()


@pytest.mark.parametrize("reference", ["%", "_", "1%", "a b", "a/b", "", "  ", "ln#1", "é1", "x" * 101])
async def test_a_reference_that_could_be_a_wildcard_is_never_sent(reference):
    wire = Wire(ok([]))
    assert await mifos(wire).find_accounts(reference) == []
    assert wire.requests == []


async def test_a_search_is_exact_even_where_the_server_is_not():
    near = {
        "entityId": 2,
        "entityAccountNo": "0000010412",
        "entityType": "LOAN",
        "parentId": 1,
        "parentName": "A",
        "parentType": "client",
    }
    wire = Wire(ok([near]))
    assert await mifos(wire).find_accounts("000001041") == []
    assert dict(wire.requests[0].url.params) == {"query": "000001041", "resource": "loans,savings", "exactMatch": "true"}


@pytest.mark.parametrize("url", ["https://us.example/i/token", "https://us.example/i/token/?x=1/"])
async def test_a_hook_address_that_the_server_would_break_is_refused_here(url):
    wire = Wire(ok({"resourceId": 1}))
    with pytest.raises(InvalidInput):
        await mifos(wire).create_hook(url)
    assert wire.requests == []


async def test_a_business_date_is_none_where_it_is_not_kept_not_shown_or_not_known():
    not_kept = httpx.Response(
        404,
        json={
            "userMessageGlobalisationCode": "error.msg.resource.not.found",
            "errors": [{"userMessageGlobalisationCode": "error.msg.businessdate.not.found"}],
        },
    )
    not_shown = httpx.Response(403, json={"userMessageGlobalisationCode": "error.msg.not.authorized"})
    not_known = httpx.Response(404, text="")
    for answer in (not_kept, not_shown, not_known):
        assert await mifos(Wire(answer)).business_date() is None
    assert await mifos(Wire(ok({"date": [2026, 11, 20]}))).business_date() == date(2026, 11, 20)
    with pytest.raises(NotUnderstood):
        await mifos(Wire(ok({"date": "soon"}))).business_date()


def test_a_ca_that_is_no_certificate_is_a_fault_of_the_settings():
    with pytest.raises(ConfigurationError, match="not PEM"):
        MifosClient(
            MifosLogin("https://x.example/api/v1", "default", "u", "p", "no certificate"), Wire(ok([])).http, write_timeout=60
        )


def test_logins_do_not_show_their_secrets():
    shown = repr([LOGIN, DARAJA, AirTouchLogin("https://sms.example", "u", "api-k3y"), MifosLogin("u", "t", "u", "p", "PEM")])
    for secret in ("pass-w0rd", "consumer-k", "consumer-s", "crede.ntial", "api-k3y", "PEM"):
        assert secret not in shown


def test_capabilities_survive_json_and_a_missing_one_counts_as_absent():
    stored = json.loads(json.dumps(CAPABLE.to_json()))
    assert MifosCapabilities.from_json(stored) == CAPABLE
    assert MifosCapabilities.from_json({}) == MifosCapabilities(
        status_filter=False, idempotency=False, loan_external_ids=False, savings_external_ids=False
    )


# ------------------------------------------------------------------ Daraja

TOKEN = httpx.Response(200, json={"access_token": "token-1", "expires_in": "3599"})
SECOND_TOKEN = httpx.Response(200, json={"access_token": "token-2", "expires_in": 3599})
ACK = httpx.Response(
    200,
    json={"ConversationID": "AG_1", "OriginatorConversationID": "ours-1", "ResponseCode": "0", "ResponseDescription": "Accept"},
)
DEAD = httpx.Response(
    401, json={"requestId": "1", "errorCode": "401.002.01", "errorMessage": "Error Occurred - Invalid Access Token - token-1"}
)


def instruction(**changes) -> B2CInstruction:
    fields = {
        "originator_conversation_id": "ours-1",
        "amount": Money.shillings(1500),
        "phone": "254708374149",
        "short_code": "600992",
        "command": "BusinessPayment",
        "remarks": "Loan #1041 @ Biashara & Co",
        "occasion": "0a1b",
        "result_url": "https://us.example/i/r",
        "timeout_url": "https://us.example/i/t",
    }
    return B2CInstruction(**{**fields, **changes})


def daraja(wire: Wire) -> DarajaClient:
    return DarajaClient(DARAJA, wire.http, OneToken())


async def test_a_payout_goes_out_as_version_three_with_every_value_as_text():
    wire = Wire(TOKEN, ACK)
    outcome = await daraja(wire).pay(instruction())
    assert (outcome.value.conversation_id, outcome.value.originator_conversation_id) == ("AG_1", "ours-1")
    taken, paid = wire.requests
    assert str(taken.url) == "https://mpesa.example/oauth/v1/generate?grant_type=client_credentials"
    assert taken.headers["authorization"] == "Basic " + base64.b64encode(b"consumer-k:consumer-s").decode()
    assert (paid.url.path, paid.headers["authorization"]) == ("/mpesa/b2c/v3/paymentrequest", "Bearer token-1")
    assert json.loads(paid.content) == {
        "OriginatorConversationID": "ours-1",
        "InitiatorName": "vaultapi",
        "SecurityCredential": "crede.ntial",
        "CommandID": "BusinessPayment",
        "Amount": "1500",
        "PartyA": "600992",
        "PartyB": "254708374149",
        "Remarks": "Loan 1041 Biashara Co",
        "QueueTimeOutURL": "https://us.example/i/t",
        "ResultURL": "https://us.example/i/r",
        "Occassion": "0a1b",
    }


async def test_a_dead_token_is_replaced_once_and_the_same_payout_sent_again():
    wire = Wire(TOKEN, DEAD, SECOND_TOKEN, ACK)
    assert isinstance(await daraja(wire).pay(instruction()), Accepted)
    first, second = wire.requests[1], wire.requests[3]
    assert first.content == second.content
    assert second.headers["authorization"] == "Bearer token-2"


async def test_a_second_dead_token_ends_the_call_as_not_done():
    wire = Wire(TOKEN, DEAD, SECOND_TOKEN, DEAD)
    outcome = await daraja(wire).pay(instruction())
    assert (outcome.code, outcome.refusal) == ("token_refused", Refusal.RETRY_LATER)
    assert len(wire.requests) == 4


async def test_a_product_missing_on_the_app_stops_the_queue_without_a_new_token():
    answer = httpx.Response(
        401,
        json={"errorCode": "401.003.01", "errorMessage": "Invalid Access Token - Invalid API call as no apiproduct match found"},
    )
    wire = Wire(TOKEN, answer)
    outcome = await daraja(wire).pay(instruction())
    assert (outcome.code, outcome.refusal, len(wire.requests)) == ("no_apiproduct", Refusal.HALT, 2)


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (httpx.Response(400, json={"requestId": "1", "errorCode": "", "errorMessage": ""}), Refusal.HALT),
        (httpx.ConnectError("no"), Refusal.RETRY_LATER),
        (httpx.Response(503, text="<html>Incapsula incident ID</html>"), Refusal.RETRY_LATER),
        (httpx.Response(200, text="<html>"), Refusal.HALT),
    ],
)
async def test_without_a_token_nothing_was_sent(answer, refusal):
    wire = Wire(answer)
    outcome = await daraja(wire).pay(instruction())
    assert isinstance(outcome, Refused)
    assert outcome.refusal is refusal
    assert all(request.url.path == "/oauth/v1/generate" for request in wire.requests)
    resent = await daraja(Wire(answer)).pay(instruction(resend=True))
    assert isinstance(resent, Unknown)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout(""),
        httpx.RemoteProtocolError("gone"),
        httpx.Response(200, text=""),
        httpx.Response(200, json={}),
        httpx.Response(
            200, json={"ConversationID": "", "OriginatorConversationID": "", "ResponseCode": "", "ResponseDescription": ""}
        ),
        httpx.Response(200, json={"ResponseCode": "0"}),
        httpx.Response(200, json={"ConversationID": "AG_1"}),
        httpx.Response(200, json={"ResponseCode": "1", "ResponseDescription": "Duplicate OriginatorConversationID."}),
        httpx.Response(200, text="<html>"),
        httpx.Response(500, text="<soap/>"),
        httpx.Response(500, json={"errorCode": "500.002.1001", "errorMessage": "System internal error."}),
        httpx.Response(500, json={"errorCode": "500.002.1001", "errorMessage": ""}),
        httpx.Response(500, json={"errorCode": "500.003.02", "errorMessage": ""}),
        httpx.Response(500, json={"errorCode": "500.001.1001", "errorMessage": "Merchant does not exist"}),
        httpx.Response(503, json={"errorCode": "500.003.1001", "errorMessage": "Service is currently unreachable"}),
        httpx.Response(400, text="<html>"),
        httpx.Response(400, json={"errorCode": "", "errorMessage": ""}),
        httpx.Response(409, json={"errorCode": "409.001", "errorMessage": "?"}),
        httpx.Response(302, headers={"location": "/"}),
    ],
    ids=repr,
)
async def test_what_is_no_documented_refusal_of_a_payout_is_unknown(answer):
    assert isinstance(await daraja(Wire(TOKEN, answer)).pay(instruction()), Unknown)


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (httpx.ConnectTimeout(""), Refusal.RETRY_LATER),
        (httpx.Response(429, text="slow"), Refusal.RETRY_LATER),
        (
            httpx.Response(
                500,
                json={
                    "fault": {
                        "faultstring": "Spike arrest violation. Allowed rate : 5ps",
                        "detail": {"errorcode": "policies.ratelimit.SpikeArrestViolation"},
                    }
                },
            ),
            Refusal.RETRY_LATER,
        ),
        (
            httpx.Response(
                500, json={"errorCode": "500.003.02", "errorMessage": "System is busy. Please try again in few minutes."}
            ),
            Refusal.RETRY_LATER,
        ),
        (httpx.Response(400, json={"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid PartyB"}), Refusal.TERMINAL),
        (httpx.Response(400, json={"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid Amount"}), Refusal.TERMINAL),
        (
            httpx.Response(400, json={"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid InitiatorName"}),
            Refusal.HALT,
        ),
        (httpx.Response(400, json={"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid ResultURL"}), Refusal.HALT),
        (httpx.Response(404, json={"errorCode": "404.002.01", "errorMessage": "Resource not found"}), Refusal.HALT),
        (httpx.Response(405, json={"errorCode": "405.001", "errorMessage": "Method Not Allowed"}), Refusal.HALT),
        (
            httpx.Response(200, json={"ResponseCode": "2001", "ResponseDescription": "The initiator information is invalid."}),
            Refusal.TERMINAL,
        ),
    ],
    ids=repr,
)
async def test_a_documented_refusal_of_a_payout_is_not_done(answer, refusal):
    outcome = await daraja(Wire(TOKEN, answer)).pay(instruction())
    assert isinstance(outcome, Refused)
    assert outcome.refusal is refusal
    assert isinstance(await daraja(Wire(TOKEN, answer)).pay(instruction(resend=True)), Unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": Money(150050)},
        {"amount": Money(0)},
        {"phone": "0708374149"},
        {"phone": "254208374149"},
        {"originator_conversation_id": ""},
    ],
)
def test_a_payout_that_could_not_be_right_is_not_made(change):
    with pytest.raises(InvalidInput):
        instruction(**change)


def test_a_payout_does_not_show_the_phone():
    assert "254708374149" not in repr(instruction())


async def test_a_status_question_names_our_id_and_leaves_the_receipt_out():
    wire = Wire(TOKEN, ACK)
    question = StatusQuestion("ours-1", "600992", "https://us.example/i/r", "https://us.example/i/t", "attempt-9")
    outcome = await daraja(wire).query_status(question)
    assert outcome.value.conversation_id == "AG_1"
    assert wire.requests[-1].url.path == "/mpesa/transactionstatus/v1/query"
    assert wire.last_body["OriginalConversationID"] == "ours-1"
    assert wire.last_body["IdentifierType"] == "4"
    assert wire.last_body["Occasion"] == "attempt-9"
    assert "TransactionID" not in wire.last_body
    assert "OriginatorConversationID" not in wire.last_body


async def test_a_balance_question_has_the_documented_fields_and_no_other():
    wire = Wire(TOKEN, ACK)
    outcome = await daraja(wire).query_balance(BalanceQuestion("600992", "https://us.example/i/r", "https://us.example/i/t"))
    assert outcome.value.conversation_id == "AG_1"
    assert wire.requests[-1].url.path == "/mpesa/accountbalance/v1/query"
    assert wire.last_body.keys() == {
        "Initiator", "SecurityCredential", "CommandID", "PartyA", "IdentifierType", "ResultURL", "QueueTimeOutURL", "Remarks"
    }  # fmt: skip
    assert (wire.last_body["CommandID"], wire.last_body["PartyA"], wire.last_body["IdentifierType"]) == (
        "AccountBalance", "600992", "4"
    )  # fmt: skip


async def test_the_pay_bill_addresses_are_registered_on_version_two():
    wire = Wire(
        TOKEN,
        httpx.Response(200, json={"OriginatorCoversationID": "1", "ResponseCode": "00000000", "ResponseDescription": "success"}),
    )
    outcome = await daraja(wire).register_c2b_urls("600984", "https://us.example/i/c", "https://us.example/i/v")
    assert outcome == Accepted(None)
    assert wire.requests[-1].url.path == "/mpesa/c2b/v2/registerurl"
    assert wire.last_body == {
        "ShortCode": "600984",
        "ResponseType": "Completed",
        "ConfirmationURL": "https://us.example/i/c",
        "ValidationURL": "https://us.example/i/v",
    }


async def test_a_token_lives_as_long_as_the_gateway_says():
    client = daraja(Wire(TOKEN))
    assert await client.fetch_token() == ("token-1", timedelta(seconds=3599))


# ------------------------------------------------------------------ AirTouch

SMS = SmsOut("msg-1", "254700000001", "Umelipwa KES 1,500", "DAMZA")


async def test_a_text_goes_out_with_the_hashed_key_and_our_reference():
    wire = Wire(ok({"status_code": "1000", "status_desc": "SUCCESS", "message_id": None}))
    client = AirTouchClient(AirTouchLogin("https://sms.example:9012/", "sim-user", "api-k3y"), wire.http)
    assert await client.send(SMS) == Accepted(SmsAck(None))
    assert str(wire.requests[0].url) == "https://sms.example:9012/sms/api/"
    password = hashlib.md5(b"api-k3y", usedforsecurity=False).hexdigest()
    assert wire.last_body == {
        "username": "sim-user",
        "password": password,
        "issn": "DAMZA",
        "msisdn": "254700000001",
        "text": "Umelipwa KES 1,500",
        "sms_id": "msg-1",
    }
    assert "254700000001" not in repr(SMS)


@pytest.mark.parametrize("code", ["1001", "1004", "1006", "1011"])
def test_a_refusal_of_the_sms_gateway_stops_the_queue(code):
    outcome = classify_send(200, json.dumps({"status_code": code, "status_desc": "no", "message_id": None}).encode())
    assert (outcome.code, outcome.refusal) == (code, Refusal.HALT)


def test_a_reference_of_the_gateway_is_kept_whatever_its_type():
    assert classify_send(200, b'{"status_code": 1000, "message_id": 77}') == Accepted(SmsAck("77"))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout(""),
        httpx.Response(500, text="x"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"status_code": "1002"}),
        httpx.Response(500, json={"status_code": "1000"}),
    ],
)
async def test_a_text_that_the_gateway_may_have_is_unknown_and_sent_once(answer):
    wire = Wire(answer)
    outcome = await AirTouchClient(AirTouchLogin("https://sms.example", "u", "k"), wire.http).send(SMS)
    assert isinstance(outcome, Unknown)
    assert len(wire.requests) == 1


async def test_a_text_that_never_left_may_be_sent_again():
    outcome = await AirTouchClient(AirTouchLogin("https://sms.example", "u", "k"), Wire(httpx.ConnectError("no")).http).send(SMS)
    assert (outcome.code, outcome.refusal) == ("not_sent", Refusal.RETRY_LATER)


async def test_an_answer_is_an_answer_whatever_its_status():
    done = await exchange(
        Wire(httpx.Response(418, headers={"X-Tea": "1"}, text="pot")).http, "GET", "https://x.example/", timeout=1
    )
    assert done == Answer(418, done.headers, b"pot")
    assert done.headers["x-tea"] == "1"
