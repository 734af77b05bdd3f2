"""What M-Pesa is told when it asks whether a payment may be taken, by a real receiver over a real mirror."""

import json
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, create_engine, text

from tests.integration.callback_receiver.conftest import PARTNER, ReceiverProcess
from vault_core.secrets import Sealer

ACCEPTED = {"ResultCode": "0", "ResultDesc": "Accepted"}
SAMPLES = Path(__file__).parents[2] / "data" / "daraja"
_ACCOUNT = text(
    """
    INSERT INTO mifos_accounts (partner_id, kind, account_id, account_no, external_id, currency, state, client_id, phone_hash,
                                refreshed_at)
    VALUES (:partner, :kind, :id, :number, :external_id, 'KES', :state, 7, :phone, now())
    """
)
_MIRROR = text(
    """
    INSERT INTO mifos_mirrors (partner_id, due_at, read_at, renewed_at) VALUES (:partner, now(), now(), now())
    ON CONFLICT (partner_id) DO UPDATE SET renewed_at = now()
    """
)


def rejected(code: str) -> dict[str, str]:
    return {"ResultCode": code, "ResultDesc": "Rejected"}


class Asker:
    """M-Pesa, asking."""

    def __init__(self, receiver: ReceiverProcess, token: str, engine: Engine) -> None:
        self.receiver = receiver
        self.url = f"{receiver.url}/i/{token}"
        self.engine = engine

    def post(self, body: bytes) -> dict[str, str]:
        answer = httpx.post(self.url, content=body, headers={"Content-Type": "application/json"}, timeout=10)
        assert answer.status_code == 200
        return answer.json()

    def ask(self, reference: str, **changes: object) -> dict[str, str]:
        plain = json.loads((SAMPLES / "c2b_validation_v2_masked.json").read_bytes())
        plain |= {"BusinessShortCode": "600002", "BillRefNumber": reference, "TransID": f"V{time.monotonic_ns()}"}
        return self.post(json.dumps(plain | changes).encode())

    def kept(self) -> list:
        with self.engine.begin() as connection:
            return list(connection.execute(text("SELECT * FROM payment_validations ORDER BY event_id")))

    def set(self, **columns: object) -> None:
        """Changes settings, and waits until the receiver goes by them."""
        plain = {"match_rules": ["loan_number+savings_number", "phone"], "prefixes": "{}", "validation": "on"}
        plain |= {"when_unknown": "accept", "closed_accounts": "refuse", "least_cents": None, "most_cents": None}
        row = plain | columns
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM collection_settings"))
            names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
            connection.execute(
                text(f"INSERT INTO collection_settings (partner_id, {names}) VALUES (:partner, {values})"),  # noqa: S608
                {**row, "partner": PARTNER},
            )

    def metrics(self) -> str:
        return httpx.get(f"{self.receiver.url}/metrics", timeout=5).text


@pytest.fixture(scope="module")
def judging_receiver(start_receiver, shared_url: str) -> ReceiverProcess:
    return start_receiver(shared_url, VAULT_RECEIVER_TOKENS_EVERY="0.1", VAULT_RECEIVER_VALIDATION_WITHIN="0.5")


@pytest.fixture
def asker(judging_receiver: ReceiverProcess, shared_owner_url: str, tokens: dict[str, str], sealer: Sealer):
    """M-Pesa before a receiver that goes by the default settings and a mirror that was just read."""
    engine = create_engine(shared_owner_url)
    phone = sealer.lookup_hash("254708374149", purpose="phone")
    accounts = [
        ("loan", 1, "000000001", "LN-1", "active", phone),
        ("loan", 2, "000000002", None, "closed", None),
        ("savings", 3, "000000003", None, "blocked", None),
        ("loan", 4, "000000004", None, "approved", None),
        ("loan", 5, "000000005", None, "active", None),
        ("savings", 5, "000000005", None, "active", None),
    ]
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM mifos_accounts"))
        connection.execute(text("DELETE FROM collection_settings"))
        connection.execute(_MIRROR, {"partner": PARTNER})
        for kind, account_id, number, external_id, state, hashed in accounts:
            row = {"kind": kind, "id": account_id, "number": number, "external_id": external_id, "state": state, "phone": hashed}
            connection.execute(_ACCOUNT, {**row, "partner": PARTNER})
    made = Asker(judging_receiver, tokens["c2b_validation"], engine)
    until(lambda: made.ask("no such account") == rejected("C2B00012"))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM payment_validations"))
    yield made
    engine.dispose()


def until(true) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_question_has_its_code_and_each_refusal_its_reason(asker):
    for reference in ("000000001", " ln-1 ", "L000000001", "0708374149", "000000005"):
        assert asker.ask(reference) == ACCEPTED
    assert asker.kept() == []

    answers = [
        asker.ask("000000009"),
        asker.ask("%"),
        asker.ask("000000002"),
        asker.ask("000000003"),
        asker.ask("000000001", BusinessShortCode="600777"),
        asker.ask("000000001", MSISDN="12345"),
    ]
    codes = ["C2B00012", "C2B00012", "C2B00012", "C2B00014", "C2B00015", "C2B00011"]
    assert answers == [rejected(code) for code in codes]
    kept = asker.kept()
    assert [(row.decision, row.known, row.code, row.amount_cents) for row in kept] == [
        ("refused", True, code, 500) for code in codes
    ]
    assert kept[2].reason == "loan 000000002 is closed"
    assert (kept[0].reference_masked, kept[0].receipt[:1]) == ("0***09", "V")
    with asker.engine.begin() as connection:
        stored = connection.execute(text("SELECT id FROM inbound_events WHERE purpose = 'c2b_validation'")).scalars().all()
    assert {row.event_id for row in kept} <= set(stored)
    log = asker.receiver.log_file.read_text()
    assert log.count("payment refused") >= len(codes)
    assert "000000009" not in log
    assert 'vault_receiver_validations_total{code="C2B00014",known="yes"} 1.0' in asker.metrics()


def test_what_cannot_be_known_is_decided_by_the_partner_and_kept(asker):
    assert asker.ask("000000004") == ACCEPTED  # approved when the mirror was read: paid out by now?
    assert asker.post(b"no json") == ACCEPTED
    assert [(row.decision, row.known, row.receipt is None) for row in asker.kept()] == [
        ("accepted", False, False),
        ("accepted", False, True),
    ]

    asker.set(when_unknown="refuse", least_cents=100, most_cents=600)
    until(lambda: asker.ask("000000004") == rejected("C2B00016"))
    assert asker.ask("000000001", TransAmount="6.01") == rejected("C2B00013")
    with asker.engine.begin() as connection:
        connection.execute(text("UPDATE mifos_mirrors SET renewed_at = now() - interval '1 hour'"))
    until(lambda: asker.ask("000000009") == rejected("C2B00016"))
    assert asker.ask("000000001") == ACCEPTED

    asker.set(validation="off", when_unknown="refuse")
    until(lambda: asker.ask("000000009") == ACCEPTED)


def test_a_database_that_does_not_answer_in_time_costs_nobody_more_than_a_second(asker):
    with asker.engine.connect() as connection:
        connection.execute(text("LOCK TABLE mifos_accounts IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        assert asker.ask("000000009") == ACCEPTED
        assert 0.4 < time.monotonic() - started < 1.0
        connection.rollback()
    until(lambda: [row.reason for row in asker.kept()] == ["not known: the database did not answer in time"])
    assert asker.ask("000000009") == rejected("C2B00012")


def test_every_sample_of_a_customers_payment_is_read_and_judged(asker):
    samples = [path for path in SAMPLES.glob("c2b_*.json") if "reply" not in path.name and "register" not in path.name]
    assert len(samples) == 10
    for sample in samples:
        assert asker.post(sample.read_bytes()) == rejected("C2B00015"), sample.name  # all are of other short codes
        body = json.loads(sample.read_bytes()) | {"BusinessShortCode": "600002", "BillRefNumber": "000000001"}
        assert asker.post(json.dumps(body).encode()) == ACCEPTED, sample.name
    assert len(asker.kept()) == 10


def test_a_payment_that_is_refused_is_told_to_the_customer_and_moves_no_money(asker, sandbox):
    codes = {"600002": {"name": "Alpha", "external_validation": True}}
    apps = [{"consumer_key": "ck", "consumer_secret": "cs", "short_codes": ["600002"]}]
    httpx.post(f"{sandbox}/control/setup", json={"mpesa": {"apps": apps, "short_codes": codes}}, timeout=5).raise_for_status()
    login = httpx.get(f"{sandbox}/daraja/oauth/v1/generate?grant_type=client_credentials", auth=("ck", "cs"), timeout=5).json()
    urls = {"ShortCode": "600002", "ResponseType": "Completed", "ConfirmationURL": asker.url, "ValidationURL": asker.url}
    registered = httpx.post(
        f"{sandbox}/daraja/mpesa/c2b/v2/registerurl",
        json=urls,
        headers={"Authorization": f"Bearer {login['access_token']}"},
        timeout=5,
    )
    registered.raise_for_status()

    def pay(reference: str) -> dict[str, object]:
        payment = {"short_code": "600002", "phone": "254708374149", "amount_cents": 500_00, "bill_reference": reference}
        return httpx.post(f"{sandbox}/control/c2b", json=payment, timeout=10).json()

    assert pay("000000009") == {"taken": False, "result_code": "C2B00012"}
    book = httpx.get(f"{sandbox}/truth", timeout=5).json()["mpesa"]["short_codes"]["600002"]
    assert (book["utility_cents"], book["c2b"]) == (0, [])
    assert pay("000000001")["taken"] is True

    with asker.engine.connect() as connection:  # no answer within the time that M-Pesa waits: its ResponseType decides
        connection.execute(text("LOCK TABLE mifos_accounts IN ACCESS EXCLUSIVE MODE"))
        httpx.post(f"{sandbox}/control/settings", json={"validation_ms": 50}, timeout=5).raise_for_status()
        assert pay("000000009")["taken"] is True
        connection.rollback()
