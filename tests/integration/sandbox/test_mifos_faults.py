"""What goes wrong at a Mifos X host, by switch and by rule: each fault, and what the same key and a new key meet afterwards."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

CAPTURES = Path(__file__).parents[2] / "data" / "fineract_live"
TODAY = "2026-11-24"


def captured(name: str) -> Any:
    return json.loads((CAPTURES / f"{name}.response.json").read_text())


@pytest.fixture
def core(driver):
    driver.setup(
        settings={"now": f"{TODAY}T07:00:00+00:00", "hang_ms": 60, "in_process_ms": 30},
        mifos={
            "alpha": {
                "users": [
                    {"username": "mifos", "password": "password"},
                    {"username": "clerk", "password": "password", "permissions": ["READ_LOAN", "DISBURSE_LOAN"]},
                    {"username": "reader", "password": "password", "permissions": ["READ_LOAN"]},
                ],
                "payment_types": ["M-Pesa"],
                "products": [{"name": "Biashara Loan"}],
                "clients": [{"first_name": "Wanjiku", "last_name": "Kamau", "mobile_no": "0708374149"}],
                "loans": [{"client": 1, "product": 1, "principal_cents": 15_000_00} for _ in range(3)],
                "savings": [{"client": 1}],
            }
        },
    )
    return driver


def disburse(core, loan: int = 1, *, key: str | None = "key-1", external_id: str | None = "e-1", **more: Any) -> httpx.Response:
    body = {"actualDisbursementDate": TODAY, "transactionAmount": 15000, "locale": "en", "dateFormat": "yyyy-MM-dd"}
    if external_id is not None:
        body["externalId"] = external_id
    return core.mifos("POST", f"/loans/{loan}?command=disburse", body, key=key, **more)


def deposit(core, **more: Any) -> httpx.Response:
    body = {"transactionDate": TODAY, "transactionAmount": 100, "paymentTypeId": 4, "locale": "en", "dateFormat": "yyyy-MM-dd"}
    return core.mifos("POST", "/savingsaccounts/1/transactions?command=deposit", body, **more)


def fault(core, name: str, unit: str = "loan:1") -> None:
    core.control("faults", {name: {"units": [unit]}})


def posted(core, loan: int = 1) -> list[str]:
    book = core.truth()["mifos"]["alpha"]["loans"][str(loan)]["transactions"]
    return [row["external_id"] for row in book if row["kind"] == "disbursement" and not row["reversed"]]


def test_a_lock_of_the_close_of_business_posts_nothing_and_the_same_key_works_next_time(core):
    fault(core, "mifos_409_lock")
    answer = disburse(core)
    real = captured("162_disburse_cob_locked")
    assert (answer.status_code, answer.json()["userMessageGlobalisationCode"]) == (409, "error.msg.loan.locked")
    assert "content-type" not in answer.headers
    assert answer.json().keys() == real["body"].keys()
    assert posted(core) == []
    assert disburse(core).status_code == 200
    assert posted(core) == ["e-1"]


def test_a_locked_loan_is_open_to_the_super_user_and_by_interoperation(core):
    core.setup(mifos={"alpha": {"loans": [{"client": 1, "product": 1, "principal_cents": 15_000_00, "cob_locked": True}]}})
    assert disburse(core, 4, user="clerk").status_code == 409
    body = {"actualDisbursementDate": TODAY, "locale": "en", "dateFormat": "yyyy-MM-dd"}
    assert core.mifos("POST", "/interoperation/transactions/000000004/disburse", body, user="clerk").status_code == 200


def test_a_conflict_is_replayed_for_ever_and_a_new_key_works(core):
    fault(core, "mifos_409_conflict")
    answer = disburse(core)
    real = captured("179_repayment_409_same_key_later")["body"]
    assert (answer.status_code, answer.json()) == (409, real)
    again = disburse(core)
    assert (again.status_code, again.headers["x-served-from-cache"]) == (409, "true")
    assert posted(core) == []
    assert disburse(core, key="key-2").status_code == 200
    assert posted(core) == ["e-1"]


def test_a_425_may_hide_a_posting_that_the_same_key_shows_later(core):
    fault(core, "mifos_425")
    answer = disburse(core)
    assert (answer.status_code, answer.headers["x-served-from-cache"]) == (425, "true")
    assert answer.json()["externalId"] == "e-1"  # the request comes back, not an error object
    assert posted(core) == ["e-1"]
    core.control("settings", {"now": f"{TODAY}T07:01:00+00:00"})
    later = disburse(core)
    assert (later.status_code, later.headers["x-served-from-cache"], later.json()["subResourceExternalId"]) == (
        200,
        "true",
        "e-1",
    )
    assert posted(core) == ["e-1"]


def test_a_425_for_ever_posted_nothing(core):
    fault(core, "mifos_425_for_ever")
    assert [disburse(core).status_code for _ in range(3)] == [425, 425, 425]
    assert posted(core) == []
    assert disburse(core, key="key-2").status_code == 200


def test_a_500_after_posting(core):
    fault(core, "mifos_500_after_posting")
    answer = disburse(core)
    assert (answer.status_code, answer.json()["error"]) == (500, "Internal Server Error")
    assert posted(core) == ["e-1"]
    assert disburse(core).json()["subResourceExternalId"] == "e-1"
    assert disburse(core, key="key-2", external_id="e-2").status_code == 400  # a new key meets the state
    assert posted(core) == ["e-1"]


def test_a_timeout_after_posting(core):
    fault(core, "mifos_timeout_after_posting")
    with pytest.raises(httpx.RemoteProtocolError):
        disburse(core)
    assert posted(core) == ["e-1"]
    assert disburse(core).headers["x-served-from-cache"] == "true"


def test_a_client_that_hangs_up_does_not_stop_the_posting(core):
    core.control("settings", {"mifos_latency_ms": 150})
    with pytest.raises(httpx.ReadTimeout):
        core.http.post(
            f"{core.url}/mifos/alpha/fineract-provider/api/v1/loans/1?command=disburse",
            json={"actualDisbursementDate": TODAY, "locale": "en", "dateFormat": "yyyy-MM-dd", "externalId": "e-1"},
            headers={"Fineract-Platform-TenantId": "default", "Idempotency-Key": "key-1"},
            auth=("mifos", "password"),
            timeout=0.05,
        )
    core.control("settings", {"in_process_ms": 2000})
    assert disburse(core).headers["x-served-from-cache"] == "true"
    assert posted(core) == ["e-1"]


def test_while_the_first_runs_the_same_key_waits_and_then_says_425(core):
    core.control("settings", {"mifos_latency_ms": 300})
    with pytest.raises(httpx.ReadTimeout):
        core.http.post(
            f"{core.url}/mifos/alpha/fineract-provider/api/v1/loans/1?command=disburse",
            json={"actualDisbursementDate": TODAY, "locale": "en", "dateFormat": "yyyy-MM-dd"},
            headers={"Fineract-Platform-TenantId": "default", "Idempotency-Key": "key-1"},
            auth=("mifos", "password"),
            timeout=0.03,
        )
    assert disburse(core).status_code == 425


def test_a_checker_is_waited_for_by_a_switch_too_and_his_approval_posts_it_once(core):
    fault(core, "mifos_waits_for_checker")
    core.control("settings", {"in_process_ms": 20})
    answer = disburse(core)
    assert (answer.status_code, answer.json()["rollbackTransaction"]) == (200, True)
    assert disburse(core).status_code == 425
    assert posted(core) == []
    assert core.mifos("POST", f"/makercheckers/{answer.json()['commandId']}?command=approve", {}).status_code == 200
    assert disburse(core).headers["x-served-from-cache"] == "true"
    assert posted(core) == ["e-1"]


def test_an_html_page_is_met_instead_of_the_server(core):
    fault(core, "html_answer")
    answer = disburse(core)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html")
    assert posted(core) == []
    assert disburse(core).status_code == 200


def test_faults_meet_deposits_too(core):
    fault(core, "mifos_500_after_posting", "savings:1")
    assert deposit(core, key="d").status_code == 500
    assert deposit(core, key="d").headers["x-served-from-cache"] == "true"
    assert core.truth()["mifos"]["alpha"]["savings"]["1"]["balance_cents"] == 100_00


def test_an_empty_key_is_a_key_for_all_loans_and_users(core):
    first = disburse(core, 1, key="", external_id=None)
    second = disburse(core, 2, key="", external_id=None, user="clerk")
    assert second.json() == first.json()
    assert second.headers["x-served-from-cache"] == "true"
    assert posted(core, 2) == []


def test_a_key_of_one_action_means_nothing_to_another(core):
    assert disburse(core).status_code == 200
    answer = core.mifos("POST", "/loans/1?command=undodisbursal", {"note": "x"}, key="key-1")
    assert (answer.status_code, "x-served-from-cache" in answer.headers) == (200, False)


def test_without_a_key_nothing_is_remembered(core):
    assert disburse(core, key=None).status_code == 200
    assert disburse(core, key=None).status_code == 400


def test_a_missing_permission_is_no_memory_and_names_what_is_missing(core):
    answer = disburse(core, user="reader")
    assert (answer.status_code, answer.json()) == (403, captured("153_restricted_disburse_forbidden")["body"])
    assert core.mifos("GET", "/hooks", user="reader").json() == captured("154_restricted_hooks_forbidden")["body"]
    assert disburse(core).status_code == 200  # the same key


def test_a_command_that_waits_for_a_checker_posts_nothing_until_he_approves(core):
    core.setup(mifos={"alpha": {"maker_checker": ["DISBURSE_LOAN"]}})
    waiting = disburse(core, user="clerk")
    real = captured("167_maker_checker_pending")["body"]
    assert waiting.status_code == 200
    assert waiting.json() == real | {"commandId": 1, "resourceId": 1}
    assert posted(core) == []
    assert disburse(core, user="clerk").status_code == 425
    listed = core.mifos("GET", "/makercheckers").json()
    assert listed[0].keys() <= captured("171_makercheckers_list")["body"][0].keys()
    done = core.mifos("POST", "/makercheckers/1?command=approve", {})
    assert (done.status_code, done.json()["commandId"]) == (200, 1)
    assert posted(core) == ["e-1"]
    replay = disburse(core, user="clerk")
    assert (replay.headers["x-served-from-cache"], replay.json()) == ("true", done.json())


def test_the_super_user_needs_no_checker(core):
    core.setup(mifos={"alpha": {"maker_checker": ["DISBURSE_LOAN"]}})
    assert "changes" in disburse(core).json()


def test_the_business_date_of_the_tenant_decides_what_is_the_future(core):
    answer = core.mifos(
        "POST", "/businessdate", {"type": "BUSINESS_DATE", "date": "2026-11-23", "locale": "en", "dateFormat": "yyyy-MM-dd"}
    )
    assert answer.status_code == 200
    assert core.mifos("GET", "/businessdate/BUSINESS_DATE").json() == captured("189_businessdate_get")["body"] | {
        "date": [2026, 11, 23]
    }
    core.setup(
        mifos={"alpha": {"loans": [{"client": 1, "product": 1, "principal_cents": 15_000_00, "approved_on": "2026-11-20"}]}}
    )
    refused = disburse(core, 4)
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["userMessageGlobalisationCode"] == "error.msg.loan.disbursal.cannot.be.a.future.date"


def test_a_wrong_host_is_a_web_page(core):
    core.setup(mifos={"wrong": {"html": True}})
    answer = core.mifos("GET", "/loans", host="wrong")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


def test_an_unknown_tenant_comes_before_the_password(core):
    url = f"{core.url}/mifos/alpha/fineract-provider/api/v1/loans"
    answer = core.http.get(url, headers={"Fineract-Platform-TenantId": "other"}, auth=("mifos", "wrong"))
    assert (answer.status_code, answer.json()["error"]) == (400, "Bad Request")


@pytest.fixture
def old(core):
    core.setup(
        mifos={
            "old": {
                "legacy": True,
                "users": [{"username": "mifos", "password": "password"}],
                "products": [{"name": "Biashara Loan"}],
                "clients": [{"first_name": "Wanjiku", "last_name": "Kamau"}],
                "loans": [
                    {"client": 1, "product": 1, "principal_cents": 15_000_00},
                    {"client": 1, "product": 1, "principal_cents": 15_000_00, "status": 100, "external_id": "loan-2"},
                ],
            }
        }
    )
    return core


def test_a_server_before_1_9_ignores_status_and_knows_sql_search(old):
    assert old.mifos("GET", "/loans?status=200", host="old").json()["totalFilteredRecords"] == 2
    found = old.mifos("GET", "/loans?sqlSearch=l.loan_status_id%20%3D%20200", host="old").json()
    assert [loan["id"] for loan in found["pageItems"]] == [1]


def test_a_server_before_1_9_has_no_keys_and_takes_external_ids_without_finding_by_them(old):
    first = disburse(old, host="old")
    assert (first.status_code, "subResourceId" in first.json()) == (200, False)
    assert disburse(old, host="old", external_id=None).status_code == 400
    assert old.mifos("GET", "/loans/external-id/loan-2", host="old").status_code == 404


def test_a_changed_core_refuses_external_ids(old):
    old.setup(mifos={"old": {"takes_external_ids": False}})
    refused = disburse(old, host="old")
    assert refused.json()["errors"][0]["userMessageGlobalisationCode"] == "error.msg.parameter.unsupported"


def test_a_new_server_takes_external_ids_of_deposits_once(core):
    core.setup(mifos={"alpha": {"savings_external_ids": True}})
    body = {
        "transactionDate": TODAY,
        "transactionAmount": 1,
        "paymentTypeId": 4,
        "externalId": "s-1",
        "locale": "en",
        "dateFormat": "yyyy-MM-dd",
    }
    assert core.mifos("POST", "/savingsaccounts/1/transactions?command=deposit", body).status_code == 200
    assert core.mifos("POST", "/savingsaccounts/1/transactions?command=deposit", body).status_code == 403
    assert core.truth()["mifos"]["alpha"]["savings"]["1"]["balance_cents"] == 100


def test_an_officers_approval_is_never_met_by_a_fault(core):
    core.setup(mifos={"alpha": {"loans": [{"client": 1, "product": 1, "principal_cents": 15_000_00, "status": 100}]}})
    for name in ("mifos_500_after_posting", "mifos_409_lock", "html_answer"):
        fault(core, name, "loan:4")
    assert core.control("approve", {"host": "alpha", "loans": [4]}) == {"statuses": {"4": 200}}
    assert core.truth()["faults"] == {}


@pytest.mark.parametrize(
    ("path", "permission"),
    [("/hooks", "CREATE_HOOK"), ("/paymenttypes", "CREATE_PAYMENTTYPE"), ("/businessdate", "UPDATE_BUSINESS_DATE")],
)
def test_other_writes_ask_for_their_permission_too(core, path, permission):
    answer = core.mifos("POST", path, {"name": "x", "date": TODAY}, user="reader")
    assert (answer.status_code, answer.json()["errors"][0]["defaultUserMessage"]) == (
        403,
        f"User has no authority to: {permission}",
    )


def test_a_number_of_times_chooses_among_the_unpaid_loans_of_the_world_and_not_by_arrival(core):
    core.setup(mifos={"alpha": {"loans": [{"client": 1, "product": 1, "principal_cents": 15_000_00} for _ in range(17)]}})
    core.control("faults", {"mifos_500_after_posting": {"times": 3}})

    def met(order: range | reversed) -> set[int]:
        return {loan for loan in order if disburse(core, loan, key=f"k-{loan}", external_id=f"e-{loan}").status_code == 500}

    first = met(range(1, 21))
    assert len(first) == 3
    assert first != {1, 2, 3}
    core.control("reset", {})
    core.setup(
        settings={"now": f"{TODAY}T07:00:00+00:00"},
        mifos={
            "alpha": {
                "users": [{"username": "mifos", "password": "password"}],
                "products": [{"name": "Biashara Loan"}],
                "clients": [{"first_name": "Wanjiku", "last_name": "Kamau"}],
                "loans": [{"client": 1, "product": 1, "principal_cents": 15_000_00} for _ in range(20)],
            }
        },
        faults={"mifos_500_after_posting": {"times": 3}},
    )
    assert met(reversed(range(1, 21))) == first


def test_an_inactive_client_refuses_the_disbursal_for_ever_under_its_key_and_a_later_one_is_taken(core):
    fault(core, "mifos_403_client_not_active")
    answer = disburse(core)
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["userMessageGlobalisationCode"] == "error.msg.client.not.active.exception"
    assert disburse(core).status_code == 403
    assert posted(core) == []
    assert disburse(core, key=None, external_id=None).status_code == 200
    assert posted(core) == [None]


def test_a_top_up_pays_less_than_the_principal_and_pays_off_the_older_loan(core):
    older = {"id": 21, "client": 1, "product": 1, "principal_cents": 6_000_00, "months": 1, "status": 300}
    topped_up = {"id": 22, "client": 1, "product": 1, "principal_cents": 15_000_00, "topup_of": 21}
    core.control("setup", {"mifos": {"alpha": {"loans": [older, topped_up]}}})
    books = core.truth()["mifos"]["alpha"]["loans"]
    owed = books["21"]["outstanding_cents"]
    assert owed >= 6_000_00
    assert books["22"]["net_cents"] == 15_000_00 - owed
    refused = disburse(core, 22)  # one external id for the two transactions it is
    assert (refused.status_code, "duplicate.externalId" in refused.text) == (403, True)
    assert disburse(core, 22, key="key-2", external_id=None).status_code == 200
    books = core.truth()["mifos"]["alpha"]["loans"]
    assert [each["amount_cents"] for each in books["22"]["transactions"]] == [owed, 15_000_00 - owed]
    assert (books["21"]["status"], books["21"]["outstanding_cents"]) == (600, 0)
    assert (books["22"]["net_cents"], books["22"]["principal_cents"]) == (15_000_00 - owed, 15_000_00)
    assert books["21"]["transactions"][-1]["receipt"] is None


def test_an_officer_corrects_a_mobile_number_and_cannot_take_another_clients(core):
    core.control(
        "setup", {"mifos": {"alpha": {"clients": [{"first_name": "Otieno", "last_name": "Were", "mobile_no": "0711111111"}]}}}
    )
    answer = core.mifos("PUT", "/clients/1", {"mobileNo": "0722222222"})
    assert (answer.status_code, answer.json()["changes"]) == (200, {"mobileNo": "0722222222"})
    assert core.mifos("GET", "/clients/1").json()["mobileNo"] == "0722222222"
    assert core.mifos("PUT", "/clients/1", {"mobileNo": "0711111111"}).status_code == 403
    assert core.mifos("PUT", "/clients/1", {"mobileNo": "0733333333"}, user="reader").status_code == 403
