"""The levers of the sandbox: what they take, and that they say what is wrong with what they do not take."""

import pytest


def refused(driver, path: str, body: object) -> str:
    answer = driver.http.post(f"{driver.url}/control/{path}", json=body)
    assert answer.status_code == 400
    return answer.json()["error"]


@pytest.mark.parametrize(
    ("world", "word"),
    [
        ({"mpesas": {}}, "no key mpesas"),
        ({"mpesa": {"apps": [{"consumer_key": "k"}]}}, "consumer_secret missing"),
        ({"mpesa": {"short_codes": {"1": {"name": "x", "balance": 1}}}}, "no key balance"),
        ({"mifos": {"a": {"loan": []}}}, "mifos host a"),
        ({"mifos": {"a": {"loans": [{"product": 9, "principal_cents": 1}]}}}, "KeyError"),
        ({"sms": {"users": [{"user": "u"}]}}, "api_key, senders missing"),
        ({"settings": {"speed": 1}}, "no setting speed"),
        ({"settings": {"late_ms": "1"}}, "late_ms must be"),
        ({"settings": {"now": "2026-11-24"}}, "zone"),
        ({"faults": {"nonsense": {"rate": 1}}}, "no fault nonsense"),
        ({"faults": {"result_lost": {"rate": 1, "times": 1}}}, "exactly one of"),
        ({"faults": {"result_lost": {"often": 1}}}, "a switch is an object"),
        ([], "expected a JSON object"),
    ],
)
def test_a_world_that_makes_no_sense_is_refused_with_a_word(driver, world, word):
    assert word in refused(driver, "setup", world)


def test_a_body_that_is_no_json_is_refused(driver):
    answer = driver.http.post(f"{driver.url}/control/setup", content=b"{")
    assert answer.status_code == 400


def test_approving_where_nothing_is_names_what_is_missing(driver):
    assert "no mifos host 'x'" in refused(driver, "approve", {"host": "x", "loans": [1]})
    driver.setup(mifos={"a": {"users": [{"username": "u", "password": "p"}]}})
    assert "no loan 1" in refused(driver, "approve", {"host": "a", "loans": [1]})


def test_faults_are_listed_with_what_they_do_and_how_often_they_did(driver):
    driver.control("faults", {"result_lost": {"rate": 0.5, "scope": ["600100"]}})
    listed = driver.http.get(f"{driver.url}/control/faults").json()
    assert listed["result_lost"]["switches"] == [{"rate": 0.5, "scope": ["600100"], "per_unit": 1}]
    assert listed["result_lost"]["fired"] == 0
    driver.control("faults", {"result_lost": None})
    assert driver.http.get(f"{driver.url}/control/faults").json()["result_lost"]["switches"] == []


def test_reset_forgets_everything_and_can_change_the_seed(driver):
    driver.setup(mpesa={"short_codes": {"1": {"name": "x", "utility_cents": 5}}}, faults={"result_lost": {"rate": 1}})
    assert driver.http.post(f"{driver.url}/control/reset", json={"seed": 9}).status_code == 200
    assert driver.truth()["mpesa"]["short_codes"] == {}
    assert driver.http.get(f"{driver.url}/healthz").json()["seed"] == 9
    assert refused(driver, "reset", {"seed": "9"}) == "seed must be a whole number, got '9'"
    driver.http.post(f"{driver.url}/control/reset", json={"seed": 1})


def test_the_summary_holds_the_sums_of_the_truth(driver):
    driver.setup(mpesa={"short_codes": {"1": {"name": "x", "utility_cents": 5}}})
    driver.control(
        "c2b", {"payments": [{"short_code": "1", "phone": "254700000001", "amount_cents": cents} for cents in (100, 250)]}
    )
    summary = driver.http.get(f"{driver.url}/truth/summary").json()
    assert summary["mpesa"]["short_codes"]["1"]["c2b_cents"] == 350
    assert summary["mpesa"]["short_codes"]["1"]["utility_cents"] == 355


def test_unknown_paths_say_so(driver):
    for path in ("/nothing", "/control/nothing", "/mifos/nowhere/fineract-provider/api/v1/loans"):
        assert driver.http.get(f"{driver.url}{path}").status_code == 404
    assert driver.http.get(f"{driver.url}/daraja/mpesa/nothing").json()["errorCode"] == "404.001.01"
    assert driver.http.get(f"{driver.url}/daraja/mpesa/b2c/v3/paymentrequest").json()["errorCode"] == "405.001"
