"""A sandbox that is killed comes back with its books, its memory and what it still has to tell."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox_process import free_port, wait_until_ready

ROOT = Path(__file__).parents[3]
PHONE = "254708374149"


class Killable:
    """A sandbox with a journal that a test may kill and start again on the same port."""

    def __init__(self, state: Path) -> None:
        self.port, self.state = free_port(), state
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "sandbox", "--port", str(self.port), "--seed", "4", "--state", str(self.state)]
        with Path(f"{self.state}.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        wait_until_ready(self.process, self.url)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def killable(tmp_path):
    killable = Killable(tmp_path / "journal")
    killable.start()
    yield killable
    killable.kill()


def world() -> dict[str, Any]:
    return {
        "settings": {"now": "2026-11-24T07:00:00+00:00", "result_delay_ms": 1, "hang_ms": 1},
        "mpesa": {
            "apps": [{"consumer_key": "k", "consumer_secret": "s"}],
            "short_codes": {"600100": {"name": "A", "utility_cents": 500_000_00}, "700100": {"name": "B"}},
        },
        "mifos": {
            "alpha": {
                "users": [{"username": "mifos", "password": "password"}],
                "payment_types": ["M-Pesa"],
                "products": [{"name": "Biashara Loan"}],
                "clients": [{"first_name": "Wanjiku", "last_name": "Kamau", "mobile_no": PHONE}],
                "loans": [
                    {"client": 1, "product": 1, "principal_cents": 15_000_00, "status": status} for status in (200, 200, 100)
                ],
                "savings": [{"client": 1}],
            }
        },
        "sms": {"users": [{"user": "u", "api_key": "SIM", "senders": ["S"], "balance_cents": 100_00}]},
        "faults": {"spike_arrest": {"units": [PHONE]}, "mifos_500_after_posting": {"units": ["loan:2"]}},
    }


class Day:
    """What is done to the sandbox, before and after it is killed."""

    def __init__(self, url: str, http: httpx.Client, listener) -> None:
        self.url, self.http, self.listener = url, http, listener

    def token(self) -> str:
        answer = self.http.get(f"{self.url}/daraja/oauth/v1/generate?grant_type=client_credentials", auth=("k", "s"))
        return answer.json()["access_token"]

    def pay(self, token: str, originator: str) -> int:
        body = {
            "OriginatorConversationID": originator,
            "InitiatorName": "api",
            "SecurityCredential": "c",
            "CommandID": "BusinessPayment",
            "Amount": "1500",
            "PartyA": "600100",
            "PartyB": PHONE,
            "Remarks": "loan",
            "QueueTimeOutURL": f"{self.listener.url}/i/timeout",
            "ResultURL": f"{self.listener.url}/i/result",
        }
        url = f"{self.url}/daraja/mpesa/b2c/v3/paymentrequest"
        return self.http.post(url, json=body, headers={"Authorization": f"Bearer {token}"}).status_code

    def disburse(self, loan: int) -> httpx.Response:
        return self.http.post(
            f"{self.url}/mifos/alpha/fineract-provider/api/v1/loans/{loan}?command=disburse",
            json={"actualDisbursementDate": "2026-11-24", "externalId": f"e-{loan}", "locale": "en", "dateFormat": "yyyy-MM-dd"},
            headers={"Fineract-Platform-TenantId": "default", "Idempotency-Key": f"k-{loan}"},
            auth=("mifos", "password"),
        )

    def act(self) -> str:
        token = self.token()
        assert [self.pay(token, "id-1") for _ in range(2)] == [500, 200]  # the spike first
        assert [self.disburse(loan).status_code for loan in (1, 2)] == [200, 500]
        c2b = {
            "ShortCode": "700100",
            "ResponseType": "Completed",
            "ConfirmationURL": f"{self.listener.url}/i/confirm",
            "ValidationURL": f"{self.listener.url}/i/validate",
        }
        headers = {"Authorization": f"Bearer {token}"}
        self.http.post(f"{self.url}/daraja/mpesa/c2b/v2/registerurl", json=c2b, headers=headers).raise_for_status()
        payment = {"short_code": "700100", "phone": PHONE, "amount_cents": 500_00, "bill_reference": "x"}
        self.control("c2b", {"payments": [payment, payment]})
        self.control("approve", {"host": "alpha", "loans": [3]})
        password = "6cb75f652a9b52798eb6cf2201057c73"  # md5 of password; wrong on purpose: nothing is sent
        sms = {"username": "u", "password": password, "issn": "S", "msisdn": PHONE, "text": "hi", "sms_id": "1"}
        self.http.post(f"{self.url}/airtouch/sms/api/", json=sms)
        return token

    def control(self, path: str, body: Any) -> None:
        self.http.post(f"{self.url}/control/{path}", json=body).raise_for_status()

    def truth(self) -> Any:
        """The books; moments are left out, for an act done again is later by what it takes to write it down."""
        truth = self.http.get(f"{self.url}/truth").json()
        return _without_moments({name: truth[name] for name in ("mpesa", "mifos", "sms", "faults")})


def _without_moments(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_moments(each) for name, each in value.items() if name != "at"}
    return [_without_moments(each) for each in value] if isinstance(value, list) else value


@pytest.fixture
def day(killable, listener):
    with httpx.Client(timeout=10, verify=False) as http:  # noqa: S501 - plain HTTP; saves loading CAs
        day = Day(killable.url, http, listener)
        day.control("setup", world())
        yield day


def test_a_killed_sandbox_comes_back_with_its_truth(killable, day):
    token = day.act()
    before = day.truth()
    day.listener.wait(2, "/i/confirm")
    for _ in range(2):
        killable.kill()
        killable.start()
        assert day.truth() == before
    assert day.pay(token, "id-1") == 500  # the token lives, the id is used
    assert day.pay(token, "id-2") == 200  # and the spike does not come twice
    again = day.disburse(2)
    assert (again.status_code, again.headers["x-served-from-cache"]) == (200, "true")
    assert day.truth()["faults"] == before["faults"]


def test_what_had_not_been_told_is_told_then(killable, day):
    day.control("settings", {"result_delay_ms": 60_000})
    token = day.token()
    assert [day.pay(token, "id-1") for _ in range(2)] == [500, 200]
    killable.kill()
    killable.start()
    (post,) = day.listener.wait(1, "/i/result")
    assert post.body["Result"]["OriginatorConversationID"] == "id-1"


def test_a_torn_last_line_is_left_out(killable, day):
    day.act()
    before = day.truth()
    killable.kill()
    with killable.state.open("a") as journal:
        journal.write('{"method": "POST", "pa')
    killable.start()
    assert day.truth() == before
    day.control("c2b", {"short_code": "700100", "phone": PHONE, "amount_cents": 100, "bill_reference": "y"})
    after = day.truth()
    killable.kill()
    killable.start()
    assert day.truth() == after


def test_reset_begins_a_new_journal(killable, day):
    day.act()
    day.control("reset", {"seed": 8})
    killable.kill()
    killable.start()
    assert day.truth()["mpesa"]["short_codes"] == {}
    assert httpx.get(f"{killable.url}/healthz", verify=False).json()["seed"] == 8  # noqa: S501 - plain HTTP
    assert json.loads(killable.state.read_text().splitlines()[0]) == {"seed": 8}
