"""The clients over real HTTP against the sandbox: faults of Mifos X, payouts and their results, pay bill, status, SMS, TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from uuid import uuid4

import httpx
import pytest
import stamina
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vault_core.clients.airtouch import AirTouchClient, AirTouchLogin
from vault_core.clients.daraja import B2CInstruction, DarajaClient, DarajaLogin, StatusQuestion
from vault_core.clients.daraja_messages import parse_confirmation, parse_queue_timeout, parse_result
from vault_core.clients.mifos import CoreWrite, MifosCapabilities, MifosClient, MifosLogin
from vault_core.clients.mifos_errors import key_is_burnt
from vault_core.clients.sms_gateway import SmsOut
from vault_core.disbursements.hook_hints import LoanHint, read_hook
from vault_core.errors import NotUnderstood, Unreachable
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown


@pytest.fixture(autouse=True)
def retries_do_not_wait():
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


class Control:
    """The sandbox's levers."""

    def __init__(self, base: str, http: httpx.AsyncClient) -> None:
        self.base = base
        self.http = http

    async def __call__(self, lever: str, wish: dict) -> dict:
        answer = await self.http.post(f"{self.base}/control/{lever}", json=wish)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def control(sandbox: str, http: httpx.AsyncClient) -> Control:
    return Control(sandbox, http)


@dataclass
class Receiver:
    """Takes what is posted to it, by path."""

    base: str = ""
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        async with self.arrived:
            self.bodies.setdefault(head.split()[1], []).append(body)
            self.arrived.notify_all()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def wait_for(self, path: str, count: int = 1) -> list[bytes]:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.bodies.get(path, ())) >= count)
            return self.bodies[path]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    taker = Receiver()
    server = await asyncio.start_server(taker.take, "127.0.0.1", 0)
    taker.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield taker


# ------------------------------------------------------------------ Mifos X


@pytest.fixture
async def core(sandbox: str, http: httpx.AsyncClient, control: Control) -> MifosClient:
    """A host with one approved loan (1) of KES 2,000 and one active savings account (1)."""
    await control("setup", {"mifos": {"alpha": world_of_one_loan()}})
    return client_of(sandbox, http)


def world_of_one_loan(**more) -> dict:
    world = {
        "users": [{"username": "mifos", "password": "password"}],
        "payment_types": ["M-Pesa"],
        "products": [{"id": 1, "name": "Biashara Loan"}],
        "clients": [{"id": 1, "first_name": "Wanjiku", "last_name": "Kamau", "mobile_no": "0708374149"}],
        "loans": [{"id": 1, "client": 1, "product": 1, "principal_cents": 200000}],
        "savings": [{"id": 1, "client": 1}],
    }
    return {**world, **more}


def client_of(sandbox: str, http: httpx.AsyncClient) -> MifosClient:
    login = MifosLogin(f"{sandbox}/mifos/alpha/fineract-provider/api/v1", "default", "mifos", "password")
    return MifosClient(login, http, write_timeout=10)


async def disbursement(core: MifosClient, **changes) -> CoreWrite:
    loan = await core.loan(1)
    fields = {
        "amount": Money.shillings(2000),
        "on": loan.approved_on,
        "payment_type_id": 4,
        "receipt": "SKL8T4W2QZ",
        "account_number": "254708374149",
        "external_id": f"pv-{uuid4()}",
        "idempotency_key": str(uuid4()),
    }
    return CoreWrite(**{**fields, **changes})


async def test_a_posting_behind_a_lost_or_broken_answer_is_unknown_and_its_key_gives_the_truth(core, control):
    for fault in ("mifos_timeout_after_posting", "mifos_500_after_posting"):
        await control("setup", {"mifos": {"alpha": {"loans": [{"id": 1, "client": 1, "product": 1, "principal_cents": 200000}]}}})
        await control("faults", {fault: {"units": ["loan:1"]}})
        await control("settings", {"hang_ms": 50})
        posting = await disbursement(core)
        assert isinstance(await core.disburse(1, posting), Unknown)
        found = await core.loan_transaction_by_external_id(1, posting.external_id)
        assert (found.receipt, found.reversed) == (posting.receipt, False)
        if fault == "mifos_timeout_after_posting":
            again = await core.disburse(1, posting)
            assert (again.value.transaction_id, again.value.from_cache) == (found.id, True)


async def test_a_lock_keeps_the_key_a_conflict_burns_it_and_neither_posts(core, control):
    posting = await disbursement(core)
    await control("faults", {"mifos_409_lock": {"units": ["loan:1"]}})
    locked = await core.disburse(1, posting)
    assert (locked.code, locked.refusal, key_is_burnt(locked)) == ("error.msg.loan.locked", Refusal.RETRY_LATER, False)
    await control("faults", {"mifos_409_conflict": {"units": ["loan:1"]}})
    met = await core.disburse(1, posting)
    assert (met.code, met.refusal, key_is_burnt(met)) == ("conflict", Refusal.RETRY_LATER, True)
    assert await core.disburse(1, posting) == met
    fresh_key = await disbursement(core, external_id=posting.external_id)
    assert isinstance(await core.disburse(1, fresh_key), Accepted)


async def test_a_key_that_is_still_running_is_unknown(core, control):
    await control("settings", {"in_process_ms": 20})
    await control("faults", {"mifos_425_for_ever": {"units": ["loan:1"]}})
    posting = await disbursement(core)
    for _ in range(2):
        outcome = await core.disburse(1, posting)
        assert isinstance(outcome, Unknown)
    assert await core.loan_transaction_by_external_id(1, posting.external_id) is None


async def test_a_posting_that_waits_for_a_checker_is_unknown(sandbox, http, control):
    clerk = {"username": "mifos", "password": "password", "permissions": ["ALL_FUNCTIONS_READ", "DISBURSE_LOAN"]}
    await control("setup", {"mifos": {"alpha": world_of_one_loan(users=[clerk], maker_checker=["DISBURSE_LOAN"])}})
    core = client_of(sandbox, http)
    outcome = await core.disburse(1, await disbursement(core))
    assert isinstance(outcome, Unknown)
    assert "checker" in outcome.cause
    assert (await core.loan(1)).status_id == 200


async def test_an_old_server_is_found_out_and_still_gives_only_approved_loans(sandbox, http, control):
    active = {"id": 2, "client": 1, "product": 1, "principal_cents": 100000, "status": 300}
    world = world_of_one_loan(legacy=True)
    await control("setup", {"mifos": {"alpha": {**world, "loans": [*world["loans"], active]}}})
    core = client_of(sandbox, http)
    found = await core.probe()
    assert (found.status_filter, found.idempotency, found.external_id_paths, found.savings_external_ids) == (
        False,
        False,
        False,
        False,
    )
    assert found.loan_external_ids
    await control("setup", {"mifos": {"alpha": {"takes_external_ids": False}}})
    assert not (await core.probe()).loan_external_ids
    assert [loan.id for loan in (await core.approved_loans(found, offset=0)).loans] == [1]
    mistaken = MifosCapabilities(status_filter=True, idempotency=False, loan_external_ids=False, savings_external_ids=False)
    assert [loan.id for loan in (await core.approved_loans(mistaken, offset=0)).loans] == [1]


async def test_an_old_server_without_loans_or_with_approved_ones_only_is_found_out_too(sandbox, http, control):
    await control("setup", {"mifos": {"alpha": world_of_one_loan(legacy=True, loans=[])}})
    core = client_of(sandbox, http)
    assert (await core.probe()).status_filter is False
    await control("setup", {"mifos": {"alpha": {"loans": [{"id": 1, "client": 1, "product": 1, "principal_cents": 200000}]}}})
    assert (await core.probe()).status_filter is False


async def test_the_newest_servers_take_an_external_id_on_a_deposit(sandbox, http, control):
    await control("setup", {"mifos": {"alpha": world_of_one_loan(savings_external_ids=True)}})
    core = client_of(sandbox, http)
    assert (await core.probe()).savings_external_ids is True
    deposit = await disbursement(core)
    assert isinstance(await core.deposit(1, deposit), Accepted)
    assert [t.external_id for t in (await core.savings_account(1)).transactions] == [deposit.external_id]


async def test_a_tenant_with_a_business_date_shows_it(sandbox, http, control):
    await control("setup", {"mifos": {"alpha": world_of_one_loan(business_date="2026-11-20")}})
    assert await client_of(sandbox, http).business_date() == date(2026, 11, 20)


async def test_a_host_that_answers_with_a_web_page_is_not_understood(sandbox, http, control):
    await control("setup", {"mifos": {"alpha": {"html": True}}})
    with pytest.raises(NotUnderstood, match="not JSON"):
        await client_of(sandbox, http).log_in()


async def test_an_approval_reaches_the_hook_with_the_loan_in_it(core, control, receiver):
    waiting = {"id": 5, "client": 1, "product": 1, "principal_cents": 100000, "status": 100}
    await control("setup", {"mifos": {"alpha": {"loans": [waiting]}}})
    await core.create_hook(f"{receiver.base}/i/hook/")
    await receiver.wait_for("/i/hook/")  # the ping
    await control("approve", {"host": "alpha", "loans": [5]})
    assert read_hook({}, (await receiver.wait_for("/i/hook/", 2))[-1]) == LoanHint(5)


# ------------------------------------------------------------------ TLS


@pytest.fixture(scope="session")
def own_ca(tmp_path_factory) -> tuple[str, ssl.SSLContext]:
    """A self-signed certificate for 127.0.0.1 as partners have them, and a server context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Partner CA")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_text(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return pem, context


async def test_a_server_with_a_certificate_of_its_own_is_reached_with_its_ca_only(own_ca, http):
    pem, context = own_ca

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/fineract-provider/api/v1"
    async with server:
        trusting = MifosClient(MifosLogin(url, "default", "u", "p", pem), http, write_timeout=10)
        await trusting.log_in()
        await trusting.aclose()
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await MifosClient(MifosLogin(url, "default", "u", "p"), http, write_timeout=10).log_in()


# ------------------------------------------------------------------ M-Pesa

SHORT_CODE, PHONE = "600100", "254708374149"
CREDENTIAL = "credential-text"


class KeptToken:
    """A TokenStore in memory, counting how many tokens were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self._token: str | None = None

    async def token(self, fetch, *, refused=None):
        if self._token is None or refused == self._token:
            self._token = (await fetch())[0]
            self.taken += 1
        return self._token


@pytest.fixture
async def mpesa(sandbox: str, http: httpx.AsyncClient, control: Control) -> DarajaClient:
    world = {
        "apps": [{"consumer_key": "key", "consumer_secret": "secret", "short_codes": [SHORT_CODE]}],
        "short_codes": {
            SHORT_CODE: {
                "name": "ALPHA CREDIT",
                "utility_cents": 10_000_000,
                "initiator": "api",
                "security_credential": CREDENTIAL,
            }
        },
        "customers": [{"phone": PHONE, "name": "JANE TEST DOE"}],
    }
    await control("setup", {"mpesa": world})
    login = DarajaLogin(f"{sandbox}/daraja", "key", "secret", "api", CREDENTIAL)
    return DarajaClient(login, http, KeptToken())


def payout(receiver: Receiver, **changes) -> B2CInstruction:
    fields = {
        "originator_conversation_id": str(uuid4()),
        "amount": Money.shillings(1500),
        "phone": PHONE,
        "short_code": SHORT_CODE,
        "command": "BusinessPayment",
        "remarks": "Loan 1",
        "occasion": "attempt-1",
        "result_url": f"{receiver.base}/i/result",
        "timeout_url": f"{receiver.base}/i/timeout",
    }
    return B2CInstruction(**{**fields, **changes})


async def test_a_payout_is_acknowledged_and_its_result_tells_who_got_what(mpesa, receiver):
    instruction = payout(receiver)
    outcome = await mpesa.pay(instruction)
    assert isinstance(outcome, Accepted), outcome
    assert outcome.value.originator_conversation_id == instruction.originator_conversation_id
    result = parse_result((await receiver.wait_for("/i/result"))[0])
    assert (result.code, result.amount, result.receiver_name) == ("0", Money.shillings(1500), "JANE TEST DOE")
    assert result.originator_conversation_id == instruction.originator_conversation_id
    assert result.conversation_id == outcome.value.conversation_id
    assert result.utility_balance == Money(10_000_000) - Money.shillings(1500)
    assert result.receipt
    assert abs(result.completed_at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_the_same_id_sent_again_is_unknown_and_pays_nothing_more(mpesa, receiver, http, sandbox):
    instruction = payout(receiver)
    assert isinstance(await mpesa.pay(instruction), Accepted)
    again = await mpesa.pay(instruction)
    assert isinstance(again, Unknown)
    assert "duplicate" in again.cause
    await receiver.wait_for("/i/result")
    truth = (await http.get(f"{sandbox}/truth")).text
    assert truth.count(instruction.originator_conversation_id) == 1


async def test_a_token_that_dies_early_is_replaced_and_the_payout_goes_through(mpesa, receiver, control):
    await control("faults", {"oauth_token_dies": {"units": [PHONE]}})
    outcome = await mpesa.pay(payout(receiver))
    assert isinstance(outcome, Accepted)
    assert mpesa._tokens.taken == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("answer_lost_after_paying", Unknown), ("duplicate_answer", Unknown), ("html_answer", Unknown), ("spike_arrest", Refused)],
)
async def test_a_gateway_that_misbehaves_never_makes_a_payout_look_refused_when_it_was_made(
    mpesa, receiver, control, fault, kind
):
    await control("settings", {"hang_ms": 50})
    await control("faults", {fault: {"units": [PHONE]}})
    outcome = await mpesa.pay(payout(receiver))
    assert isinstance(outcome, kind)
    if isinstance(outcome, Refused):
        assert outcome.refusal is Refusal.RETRY_LATER


async def test_a_queue_timeout_comes_before_the_result_and_is_no_verdict(mpesa, receiver, control):
    await control("settings", {"late_ms": 100})
    await control("faults", {"queue_timeout_then_result": {"units": [PHONE]}})
    instruction = payout(receiver)
    await mpesa.pay(instruction)
    notice = parse_queue_timeout((await receiver.wait_for("/i/timeout"))[0])
    assert notice.originator_conversation_id == instruction.originator_conversation_id
    assert parse_result((await receiver.wait_for("/i/result"))[0]).code == "0"


async def test_a_lost_result_is_found_by_a_status_question(mpesa, receiver, control):
    await control("faults", {"result_lost": {"units": [PHONE]}})
    instruction = payout(receiver)
    await mpesa.pay(instruction)
    question = StatusQuestion(
        instruction.originator_conversation_id, SHORT_CODE, f"{receiver.base}/i/answer", f"{receiver.base}/i/late", "attempt-1"
    )
    asked = await mpesa.query_status(question)
    assert isinstance(asked, Accepted)
    answer = parse_result((await receiver.wait_for("/i/answer"))[0])
    assert (answer.code, answer.transaction_status, answer.amount) == ("0", "Completed", Money.shillings(1500))
    assert answer.payment_originator_conversation_id == instruction.originator_conversation_id
    assert answer.conversation_id == asked.value.conversation_id
    assert answer.reference_items["Occasion"] == "attempt-1"
    assert answer.receiver_phone == PHONE
    unknown = StatusQuestion(str(uuid4()), SHORT_CODE, f"{receiver.base}/i/nobody", f"{receiver.base}/i/late", "x")
    await mpesa.query_status(unknown)
    assert parse_result((await receiver.wait_for("/i/nobody"))[0]).code == "2033"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"short_code": "600999"}, Refusal.HALT),
        ({"command": "NoSuchCommand"}, Refusal.HALT),
        ({"result_url": "nowhere"}, Refusal.HALT),
    ],
)
async def test_a_setting_that_the_gateway_refuses_stops_the_queue(mpesa, receiver, change, refusal):
    outcome = await mpesa.pay(payout(receiver, **change))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.refusal) == ("400.002.02", refusal)


@pytest.mark.usefixtures("mpesa")
async def test_a_wrong_key_or_secret_stops_the_queue_before_anything_is_sent(sandbox, http, receiver):
    wrong = DarajaClient(DarajaLogin(f"{sandbox}/daraja", "key", "no", "api", CREDENTIAL), http, KeptToken())
    outcome = await wrong.pay(payout(receiver))
    assert isinstance(outcome, Refused)
    assert (outcome.refusal, "key or secret" in outcome.reason) == (Refusal.HALT, True)


async def test_a_pay_bill_is_registered_once_and_its_payments_are_told(mpesa, receiver, control):
    urls = (f"{receiver.base}/i/paid", f"{receiver.base}/i/check")
    assert await mpesa.register_c2b_urls(SHORT_CODE, *urls) == Accepted(None)
    again = await mpesa.register_c2b_urls(SHORT_CODE, *urls)
    assert (again.code, again.refusal) == ("already_registered", Refusal.TERMINAL)
    paid = await control("c2b", {"short_code": SHORT_CODE, "phone": PHONE, "amount_cents": 125050, "bill_reference": "000001041"})
    told = parse_confirmation((await receiver.wait_for("/i/paid"))[0])
    assert (told.receipt, told.amount, told.short_code, told.bill_reference) == (
        paid["receipt"],
        Money(125050),
        SHORT_CODE,
        "000001041",
    )


# ------------------------------------------------------------------ SMS


async def test_texts_are_sent_refused_and_left_unknown(sandbox, http, control):
    await control(
        "setup",
        {
            "sms": {
                "users": [{"user": "sim", "api_key": "SIM", "senders": ["LENDER"], "price_cents": 80, "balance_cents": 100000}]
            }
        },
    )
    await control("settings", {"hang_ms": 50})
    gateway = AirTouchClient(AirTouchLogin(f"{sandbox}/airtouch", "sim", "SIM"), http)
    assert isinstance(await gateway.send(SmsOut("m-1", PHONE, "Umelipwa", "LENDER")), Accepted)
    stranger = await gateway.send(SmsOut("m-2", PHONE, "Umelipwa", "NOBODY"))
    assert (stranger.code, stranger.refusal) == ("1001", Refusal.HALT)
    wrong = await AirTouchClient(AirTouchLogin(f"{sandbox}/airtouch", "sim", "NO"), http).send(
        SmsOut("m-3", PHONE, "x", "LENDER")
    )
    assert (wrong.code, wrong.refusal) == ("1006", Refusal.HALT)
    await control("faults", {"sms_timed_out_after_sending": {"units": [PHONE]}})
    assert isinstance(await gateway.send(SmsOut("m-4", PHONE, "Umelipwa tena", "LENDER")), Unknown)
