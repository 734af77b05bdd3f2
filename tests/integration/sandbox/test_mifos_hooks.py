"""Web hooks of the sandbox's Mifos X, held to what a real server posted."""

import json
from pathlib import Path
from typing import Any

import pytest

CAPTURES = Path(__file__).parents[2] / "data" / "fineract_live"
APPROVE, DISBURSE = {"entityName": "LOAN", "actionName": "APPROVE"}, {"entityName": "LOAN", "actionName": "DISBURSE"}


def hook(name: str, place: int = 0) -> Any:
    return json.loads((CAPTURES / f"{name}.hook.json").read_text())[place]


@pytest.fixture
def core(driver, listener):
    driver.setup(
        settings={"now": "2026-11-23T07:00:00+00:00"},
        mifos={
            "alpha": {
                "users": [{"username": "mifos", "password": "password"}],
                "products": [{"name": "Biashara Loan"}],
                "clients": [{"first_name": "Wanjiku", "last_name": "Kamau"}],
                "loans": [
                    {
                        "client": 1,
                        "product": 1,
                        "principal_cents": 15_000_00,
                        "fee_cents": 450_00,
                        "status": 100,
                        "external_id": "loan-953c18a7-bb1b-43d7-a24f-04afd8ff1038",
                        "submitted_on": "2026-11-21",
                    },
                    {"client": 1, "product": 1, "principal_cents": 1_000_00, "status": 100, "submitted_on": "2026-11-21"},
                ],
            }
        },
    )
    driver.callbacks = listener
    return driver


def create(core, path: str = "/i/hook/", *events: dict[str, str]) -> Any:
    body = {
        "name": "Web",
        "displayName": "M-Pesa pipeline",
        "isActive": True,
        "events": list(events or (APPROVE, DISBURSE)),
        "config": {"Payload URL": f"{core.callbacks.url}{path}", "Content Type": "json"},
    }
    return core.mifos("POST", "/hooks", body)


def approve(core, loan: int = 1) -> Any:
    body = {
        "approvedOnDate": "2026-11-22",
        "approvedLoanAmount": 15000,
        "expectedDisbursementDate": "2026-11-22",
        "note": "",
        "locale": "en",
        "dateFormat": "yyyy-MM-dd",
    }
    return core.mifos("POST", f"/loans/{loan}?command=approve", body)


def test_a_hook_is_created_with_a_ping_without_its_query(core):
    assert create(core, "/i/hook/?token=secret").json() == {"resourceId": 1}
    (ping,) = core.callbacks.posts
    assert (ping.method, ping.path) == ("GET", "/i/hook/")
    assert ping.headers["user-agent"] == "okhttp/4.12.0"


def test_any_answer_to_the_ping_will_do(core):
    core.callbacks.answer = lambda _path, _body: (500, b"")
    assert create(core).status_code == 200


def test_hooks_are_listed_as_the_real_server_lists_them(core):
    create(core)
    real = json.loads((CAPTURES / "029_hooks_list.response.json").read_text())["body"][0]
    (listed,) = core.mifos("GET", "/hooks").json()
    assert listed.keys() == real.keys()
    assert listed["config"][1] == {"fieldName": "Payload URL", "fieldValue": f"{core.callbacks.url}/i/hook/"}


def test_an_approval_is_told_to_the_field(core):
    create(core)
    approve(core)
    *_, post = core.callbacks.wait(2)
    real = hook("033_loan_approve")
    assert post.body | {"timestamp": ""} == real["body"] | {"timestamp": ""}
    own = {
        name.lower(): value
        for name, value in real["headers"].items()
        if name.startswith(("X-", "Fineract", "Content-Type", "User"))
    }
    own["x-fineract-endpoint"] = f"{core.url}/mifos/alpha/fineract-provider/api/"
    assert {name: post.headers[name] for name in own} == own


def test_a_failed_command_is_told_without_response_and_status(core):
    create(core)
    body = {"actualDisbursementDate": "2026-11-21", "transactionAmount": 15000, "locale": "en", "dateFormat": "yyyy-MM-dd"}
    assert core.mifos("POST", "/loans/1?command=disburse", body).status_code == 400
    *_, post = core.callbacks.wait(2)
    assert post.body | {"timestamp": ""} == hook("052_disburse_failed")["body"] | {"timestamp": ""}


def test_a_replay_and_other_events_are_not_told(core):
    create(core, "/i/hook/", DISBURSE)
    approve(core)
    body = {"actualDisbursementDate": "2026-11-23", "locale": "en", "dateFormat": "yyyy-MM-dd"}
    for _ in range(2):
        core.mifos("POST", "/loans/1?command=disburse", body, key="k")
    core.wait_until_quiet()
    assert [post.body["actionName"] for post in core.callbacks.posts[1:]] == ["DISBURSE"]


def test_a_hook_is_never_repeated(core):
    create(core)
    core.callbacks.answer = lambda _path, _body: (500, b"")
    approve(core)
    core.wait_until_quiet()
    assert len(core.callbacks.posts) == 2


def test_a_hook_can_be_missing(core):
    create(core)
    core.control("faults", {"hook_missing": {"units": ["loan:1"]}})
    core.control("approve", {"host": "alpha", "loans": [1, 2]})
    core.wait_until_quiet()
    assert [post.body["response"]["loanId"] for post in core.callbacks.posts[1:]] == [2]
    assert core.truth()["faults"] == {"hook_missing": 1}


def test_the_lever_approves_as_the_first_user(core):
    create(core)
    assert core.control("approve", {"host": "alpha", "loans": [1, 1]}) == {"statuses": {"1": 400}}
    core.callbacks.wait(3)
    assert [post.body["createdByName"] for post in core.callbacks.posts[1:]] == ["mifos", "mifos"]
    assert core.mifos("GET", "/loans/1").json()["status"]["id"] == 200


def test_a_conflict_raises_a_hook_for_every_inner_try(core):
    create(core)
    approve(core)
    core.control("faults", {"mifos_409_conflict": {"units": ["loan:1"]}})
    core.mifos(
        "POST", "/loans/1?command=disburse", {"actualDisbursementDate": "2026-11-23", "locale": "en", "dateFormat": "yyyy-MM-dd"}
    )
    core.wait_until_quiet()
    told = [post.body for post in core.callbacks.posts[2:]]
    assert (len(told), any("response" in body for body in told)) == (4, False)


def test_an_old_server_speaks_of_mifos_and_tells_the_error(driver, listener):
    driver.setup(
        mifos={
            "old": {
                "legacy": True,
                "users": [{"username": "mifos", "password": "password"}],
                "products": [{"name": "Biashara Loan"}],
                "clients": [{"first_name": "Wanjiku", "last_name": "Kamau"}],
                "loans": [{"client": 1, "product": 1, "principal_cents": 100_00, "status": 100}],
            }
        }
    )
    config = {"Payload URL": f"{listener.url}/i/hook/", "Content Type": "json"}
    driver.mifos("POST", "/hooks", {"name": "Web", "events": [DISBURSE], "config": config}, host="old")
    body = {"actualDisbursementDate": "2026-11-23", "locale": "en", "dateFormat": "yyyy-MM-dd"}
    driver.mifos("POST", "/loans/1?command=disburse", body, host="old")
    *_, post = listener.wait(2)
    assert post.headers["x-mifos-entity"] == "LOAN"
    assert (post.body["status"], post.body["response"]["httpStatusCode"], post.body["response"]["errorCode"]) == (
        "Exception",
        "400",
        9999,
    )
