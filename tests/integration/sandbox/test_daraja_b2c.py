"""M-Pesa B2C in the sandbox: the wire shapes of the samples, the gateway's refusals, the money, and each fault."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

SAMPLES = Path(__file__).parents[2] / "data" / "daraja"
PHONE = "254708374149"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


@pytest.fixture
def bank(driver, listener):
    """The driver, with a short code of 500,000 shillings, an app, and results sent at once."""
    driver.setup(
        mpesa={
            "apps": [{"consumer_key": "k", "consumer_secret": "s", "short_codes": ["600100"]}],
            "short_codes": {
                "600100": {
                    "name": "ALPHA CREDIT",
                    "utility_cents": 500_000_00,
                    "initiator": "api",
                    "security_credential": "cred",
                },
                "600999": {"name": "SOMEBODY ELSE", "utility_cents": 500_000_00},
            },
            "customers": [
                {"phone": PHONE, "name": "JANE TEST DOE"},
                {"phone": "254700000009", "name": "NOBODY", "registered": False},
                {"phone": "254700000008", "name": "FULL", "result_code": "8"},
            ],
        },
        settings={"result_delay_ms": 1, "late_ms": 150, "hang_ms": 10},
    )
    driver.callbacks = listener
    return driver


def request(bank, **changes: Any) -> dict[str, Any]:
    body = {
        "OriginatorConversationID": "7f2b6c1e-2d1a-4a8e-9d0e-000000000001",
        "InitiatorName": "api",
        "SecurityCredential": "cred",
        "CommandID": "BusinessPayment",
        "Amount": "1500",
        "PartyA": "600100",
        "PartyB": PHONE,
        "Remarks": "loan 1",
        "QueueTimeOutURL": f"{bank.callbacks.url}/i/timeout",
        "ResultURL": f"{bank.callbacks.url}/i/result",
        "Occassion": "",
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def pay(bank, **changes: Any) -> httpx.Response:
    return bank.daraja("b2c/v3/paymentrequest", request(bank, **changes))


def result_of(post) -> dict[str, Any]:
    return post.body["Result"]


def books(bank) -> dict[str, Any]:
    return bank.truth()["mpesa"]["short_codes"]["600100"]


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(each) for name, each in sorted(value.items())}
    return type(value).__name__


def test_a_payment_is_acknowledged_paid_charged_and_reported_in_the_shape_of_the_sample(bank):
    answer = pay(bank)
    assert answer.status_code == 200
    assert shape(answer.json()) == shape(sample("b2c_ack"))
    result = result_of(bank.callbacks.wait(1, "/i/result")[0])
    model = sample("b2c_result_success_docs")["Result"]
    assert result.keys() == model.keys()
    rows = {row["Key"]: row["Value"] for row in result["ResultParameters"]["ResultParameter"]}
    wanted = {row["Key"]: row["Value"] for row in model["ResultParameters"]["ResultParameter"]}
    assert {name: type(value) for name, value in rows.items()} == {name: type(value) for name, value in wanted.items()}
    assert rows["TransactionAmount"] == 1500
    assert rows["ReceiverPartyPublicName"] == f"{PHONE} - JANE TEST DOE"
    assert rows["B2CUtilityAccountAvailableFunds"] == 498_500.0
    assert rows["B2CChargesPaidAccountAvailableFunds"] == -5.0
    book = books(bank)
    assert (book["utility_cents"], book["charges_cents"]) == (498_500_00, -5_00)
    assert [(row["receipt"], row["amount_cents"], row["fee_cents"]) for row in book["b2c"]] == [
        (rows["TransactionReceipt"], 1_500_00, 5_00)
    ]


def test_a_used_id_is_refused_and_pays_nothing(bank):
    pay(bank)
    answer = pay(bank, Amount="99")
    assert answer.status_code == 500
    assert {name: answer.json()[name] for name in ("errorCode", "errorMessage")} == {
        "errorCode": "500.002.1001",
        "errorMessage": "Duplicate OriginatorConversationID.",
    }
    assert len(books(bank)["b2c"]) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("OriginatorConversationID", None),
        ("OriginatorConversationID", " "),
        ("InitiatorName", None),
        ("SecurityCredential", ""),
        ("CommandID", "BuyGoods"),
        ("Amount", "10.50"),
        ("Amount", "0"),
        ("Amount", "-5"),
        ("Amount", True),
        ("PartyA", "123"),
        ("PartyA", "600999"),
        ("PartyB", "0708374149"),
        ("PartyB", "+254708374149"),
        ("Remarks", "x"),
        ("Remarks", "a&b"),
        ("Remarks", "x" * 101),
        ("ResultURL", "ftp://example.com"),
        ("ResultURL", "https://example.com/mpesa/result"),
        ("QueueTimeOutURL", "https://example.com/Query"),
        ("Occassion", "x" * 101),
    ],
)
def test_the_gateway_names_the_field_it_refuses_and_nothing_is_paid(bank, field, value):
    answer = pay(bank, **{field: value})
    assert answer.status_code == 400
    assert shape(answer.json()) == shape(sample("error_bad_request_field"))
    assert answer.json()["errorMessage"] == f"Bad Request - Invalid {field}"
    assert books(bank)["b2c"] == []


def test_numbers_are_taken_for_texts(bank):
    assert pay(bank, Amount=10, PartyA=600100, PartyB=int(PHONE)).status_code == 200


def test_a_body_that_is_no_json_is_refused(bank):
    answer = bank.http.post(f"{bank.url}/daraja/mpesa/b2c/v3/paymentrequest", content=b"{", headers=bank.token())
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "400.002.05")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Amount": "9"}, 2),
        ({"Amount": "250001"}, 3),
        ({"InitiatorName": "other"}, 2001),
        ({"SecurityCredential": "other"}, 2001),
        ({"PartyB": "254700000008"}, 8),
    ],
)
def test_the_core_refuses_in_the_result_and_moves_nothing(bank, changes, code):
    assert pay(bank, **changes).status_code == 200
    result = result_of(bank.callbacks.wait(1, "/i/result")[0])
    assert result["ResultCode"] == code
    assert result.keys() == sample("b2c_result_fail_1_insufficient")["Result"].keys()
    book = books(bank)
    assert (book["utility_cents"], book["charges_cents"], book["b2c"], len(book["b2c_failed"])) == (500_000_00, 0, [], 1)


def test_an_unregistered_number_is_an_unknown_receiver(bank):
    pay(bank, PartyB="254700000009")
    assert result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultCode"] in (2040, "SFC_IC0003")


def test_the_float_runs_out_for_real(bank):
    for number in (1, 2, 3):
        pay(bank, OriginatorConversationID=f"id-{number}", Amount="200000")
    bank.callbacks.wait(3, "/i/result")
    codes = {
        result_of(post)["OriginatorConversationID"]: result_of(post)["ResultCode"] for post in bank.callbacks.at("/i/result")
    }
    assert codes == {"id-1": 0, "id-2": 0, "id-3": 1}
    assert books(bank)["utility_cents"] == 100_000_00


def test_a_token_is_a_string_lifetime_and_bad_credentials_get_an_empty_400(bank):
    url = f"{bank.url}/daraja/oauth/v1/generate"
    answer = bank.http.get(f"{url}?grant_type=client_credentials", auth=("k", "s"))
    assert answer.json()["expires_in"] == "3599"
    wrong = bank.http.get(f"{url}?grant_type=client_credentials", auth=("k", "other"))
    assert (wrong.status_code, wrong.content) == (400, b"")
    assert bank.http.get(url, auth=("k", "s")).json()["errorCode"] == "400.008.02"
    assert bank.http.get(f"{url}?grant_type=client_credentials").json()["errorCode"] == "400.008.01"


def test_without_a_live_token_nothing_is_done(bank):
    answer = bank.daraja("b2c/v3/paymentrequest", request(bank), {"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401
    assert answer.json()["errorCode"] == sample("error_invalid_token_401")["errorCode"]


def test_a_new_token_kills_the_old_one_only_when_set_so(bank):
    first, _second = bank.token(), bank.token()
    assert bank.daraja("b2c/v3/paymentrequest", request(bank, OriginatorConversationID="a"), first).status_code == 200
    bank.control("settings", {"new_token_kills_old": True})
    old, new = bank.token(), bank.token()
    assert bank.daraja("b2c/v3/paymentrequest", request(bank, OriginatorConversationID="b"), old).status_code == 401
    assert bank.daraja("b2c/v3/paymentrequest", request(bank, OriginatorConversationID="b"), new).status_code == 200


def fault(bank, name: str) -> None:
    bank.control("faults", {name: {"units": [PHONE]}})


def paid(bank) -> int:
    return len(books(bank)["b2c"])


def test_result_lost(bank):
    fault(bank, "result_lost")
    assert pay(bank).status_code == 200
    bank.wait_until_quiet()
    assert (paid(bank), bank.callbacks.posts) == (1, [])


def test_result_late(bank):
    fault(bank, "result_late")
    pay(bank)
    pay(bank, OriginatorConversationID="second", PartyB="254711111111")
    first, second = bank.callbacks.wait(2, "/i/result")
    assert result_of(first)["OriginatorConversationID"] == "second"
    assert result_of(second)["OriginatorConversationID"] != "second"


def test_result_twice(bank):
    fault(bank, "result_twice")
    pay(bank)
    first, second = bank.callbacks.wait(2, "/i/result")
    assert first.body == second.body
    assert paid(bank) == 1


def test_a_result_that_says_paid_is_contradicted_and_the_money_stays_paid(bank):
    fault(bank, "result_contradicted")
    pay(bank)
    first, second = (result_of(each) for each in bank.callbacks.wait(2, "/i/result"))
    assert (first["ResultCode"], second["ResultCode"]) == (0, 2040)
    assert first["OriginatorConversationID"] == second["OriginatorConversationID"]
    assert "ResultParameters" not in second
    assert paid(bank) == 1


def test_a_locked_initiator_pays_nothing_until_it_is_unlocked(bank):
    fault(bank, "initiator_locked")
    pay(bank)
    (refused,) = bank.callbacks.wait(1, "/i/result")
    assert result_of(refused)["ResultCode"] == 8006
    assert paid(bank) == 0
    bank.control("faults", {"initiator_locked": None})
    pay(bank, OriginatorConversationID="unlocked")
    assert result_of(bank.callbacks.wait(2, "/i/result")[1])["ResultCode"] == 0


def test_result_before_answer(bank):
    fault(bank, "result_before_answer")
    bank.token()
    answer = pay(bank)
    assert len(bank.callbacks.at("/i/result")) == 1  # it was there when the acknowledgement came
    assert answer.status_code == 200


def test_answer_lost_after_paying(bank):
    fault(bank, "answer_lost_after_paying")
    with pytest.raises(httpx.RemoteProtocolError):
        pay(bank)
    assert result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultCode"] == 0
    assert paid(bank) == 1
    assert pay(bank).json()["errorMessage"] == "Duplicate OriginatorConversationID."  # the same id again
    assert paid(bank) == 1


def test_queue_timeout_then_result(bank):
    fault(bank, "queue_timeout_then_result")
    pay(bank)
    (notice,) = bank.callbacks.wait(1, "/i/timeout")
    assert shape(notice.body) == shape(sample("b2c_queue_timeout_result_envelope"))
    bank.callbacks.wait(1, "/i/result")
    assert [post.path for post in bank.callbacks.posts] == ["/i/timeout", "/i/result"]


def test_insufficient_float(bank):
    fault(bank, "insufficient_float")
    pay(bank)
    assert result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultCode"] == 1
    pay(bank, OriginatorConversationID="again")
    assert result_of(bank.callbacks.wait(2, "/i/result")[1])["ResultCode"] == 0
    assert paid(bank) == 1


def test_unknown_receiver(bank):
    fault(bank, "unknown_receiver")
    pay(bank)
    assert result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultCode"] in (2040, "SFC_IC0003")
    assert paid(bank) == 0


def test_duplicate_answer_although_it_is_the_first(bank):
    fault(bank, "duplicate_answer")
    assert pay(bank).json()["errorMessage"] == "Duplicate OriginatorConversationID."
    assert result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultCode"] == 0
    assert paid(bank) == 1


@pytest.mark.parametrize(("name", "status"), [("spike_arrest", 500), ("html_answer", 503), ("oauth_token_dies", 401)])
def test_what_the_gateway_turns_away_is_not_done_and_the_same_id_works_next_time(bank, name, status):
    fault(bank, name)
    answer = pay(bank)
    assert answer.status_code == status
    if name == "spike_arrest":
        assert answer.json()["errorCode"] == sample("error_spike_arrest")["errorCode"]
    if name == "html_answer":
        assert answer.headers["content-type"] == "text/html"
    assert paid(bank) == 0
    assert pay(bank).status_code == 200
    assert bank.truth()["faults"] == {name: 1}


def test_a_soap_fault_hides_a_payment(bank):
    fault(bank, "soap_answer")
    answer = pay(bank)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "text/xml")
    assert "<soapenv:Fault>" in answer.text
    assert result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultCode"] == 0
    assert paid(bank) == 1


def test_an_empty_answer_hides_nothing(bank):
    fault(bank, "empty_answer")
    answer = pay(bank)
    assert (answer.status_code, answer.content) == (200, b"")
    assert paid(bank) == 0
    assert pay(bank).status_code == 200


def test_what_is_acknowledged_and_never_processed_is_unknown_to_a_question(bank):
    fault(bank, "never_processed")
    assert pay(bank).json()["ResponseCode"] == "0"
    question = {
        "Initiator": "api", "SecurityCredential": "cred", "CommandID": "TransactionStatusQuery", "PartyA": "600100",
        "OriginalConversationID": request(bank)["OriginatorConversationID"], "IdentifierType": "4", "Remarks": "asked",
        "ResultURL": f"{bank.callbacks.url}/i/status", "QueueTimeOutURL": f"{bank.callbacks.url}/i/timeout",
    }  # fmt: skip
    assert bank.daraja("transactionstatus/v1/query", question, bank.token()).status_code == 200
    assert result_of(bank.callbacks.wait(1, "/i/status")[0])["ResultCode"] == 2033
    assert paid(bank) == 0


def test_another_amount_is_paid_and_told_and_some_of_it_can_come_back(bank):
    fault(bank, "amount_changed")
    pay(bank)
    told = result_of(bank.callbacks.wait(1, "/i/result")[0])["ResultParameters"]["ResultParameter"]
    assert {"Key": "TransactionAmount", "Value": 1600} in told
    bank.control("float", {"short_code": "600100", "utility_cents": 100_00, "of_payouts": True})
    code = bank.truth()["mpesa"]["short_codes"]["600100"]
    assert (code["b2c"][0]["amount_cents"], code["came_back_cents"], code["utility_cents"]) == (1_600_00, 100_00, 498_500_00)


def test_a_result_without_parameters_and_one_in_texts(bank):
    fault(bank, "result_without_parameters")
    pay(bank)
    bare = result_of(bank.callbacks.wait(1, "/i/result")[0])
    assert (bare["ResultCode"], "ResultParameters" in bare) == (0, False)
    fault(bank, "result_in_texts")
    pay(bank, OriginatorConversationID="second")
    told = result_of(bank.callbacks.wait(2, "/i/result")[1])
    assert (told["ResultCode"], told["ResultType"]) == ("0", "0")
    assert {"Key": "TransactionAmount", "Value": "1500"} in told["ResultParameters"]["ResultParameter"]


def test_a_dead_token_stays_dead(bank):
    fault(bank, "oauth_token_dies")
    token = bank.token()
    for _ in range(2):
        assert bank.daraja("b2c/v3/paymentrequest", request(bank), token).status_code == 401
    assert pay(bank).status_code == 200


def test_a_callback_that_meets_a_500_is_told_again(bank):
    bank.control("settings", {"delivery_retry_ms": 5})
    seen = []

    def first_fails(path: str, _body: Any) -> tuple[int, bytes]:
        seen.append(path)
        return (500, b"") if len(seen) == 1 else (200, b"{}")

    bank.callbacks.answer = first_fails
    pay(bank)
    assert len(bank.callbacks.wait(2, "/i/result")) == 2


def test_basic_credentials_may_hold_a_colon(bank):
    bank.setup(mpesa={"apps": [{"consumer_key": "x", "consumer_secret": "a:b"}]})
    encoded = base64.b64encode(b"x:a:b").decode()
    answer = bank.http.get(
        f"{bank.url}/daraja/oauth/v1/generate?grant_type=client_credentials", headers={"Authorization": f"Basic {encoded}"}
    )
    assert answer.status_code == 200


def test_the_same_seed_gives_the_same_day_however_the_calls_interleave(bank):
    """Sixty payments, one after another and then from eight threads in another order: the same people are met by the same faults."""
    faults = {
        "insufficient_float": {"rate": 0.2},
        "result_lost": {"rate": 0.2},
        "spike_arrest": {"rate": 0.1},
        "unknown_receiver": {"rate": 0.1},
    }
    short_codes = {"600100": {"name": "ALPHA CREDIT", "utility_cents": 500_000_00}}
    phones = [f"2547111111{number:02d}" for number in range(60)]

    def day(order: list[str], threads: int) -> tuple[Any, dict[str, int]]:
        bank.http.post(f"{bank.url}/control/reset", json={"seed": 11}).raise_for_status()
        app = {"consumer_key": "k", "consumer_secret": "s"}
        bank.setup(mpesa={"apps": [app], "short_codes": short_codes}, faults=faults, settings={"result_delay_ms": 1})
        token = bank.token()

        def once(phone: str) -> None:
            bank.daraja("b2c/v3/paymentrequest", request(bank, OriginatorConversationID=f"id-{phone}", PartyB=phone), token)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(once, order))
        book = books(bank)
        outcome = sorted((row["phone"], row["receipt"], row["result_code"]) for row in book["b2c"] + book["b2c_failed"])
        return outcome, bank.truth()["faults"]

    first = day(phones, 1)
    assert day(phones[::-1], 8) == first
    assert first[1].keys() == faults.keys()
    bank.http.post(f"{bank.url}/control/reset", json={"seed": 1})
