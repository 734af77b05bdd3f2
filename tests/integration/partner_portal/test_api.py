"""The partners' API: what it answers, whom it lets in, and that no partner sees another's."""

import json
from datetime import timedelta
from itertools import product

import jsonschema
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from partner_portal import wallet
from partner_portal.portal import OPERATIONS
from tests.integration.partner_portal.conftest import DOCUMENT, new_token
from vault_core.collections.stk_asking import StkWish, _write_ahead
from vault_core.money import Money
from vault_core.partners.api_tokens import Scope, list_api_tokens, revoke_api_token
from vault_core.wallets.topup import record_topup

_PAYOUT = text(
    """
    INSERT INTO disbursements (id, partner_id, loan_id, loan_account_no, tranche, product_id, principal_cents, payout_cents, currency,
                               approved_on, found_by, state, detected_at, due_at)
    VALUES (:id, :partner_id, 12, '000000012', 1, 1, 100000, 95000, 'KES', :today, 'poll', 'detected', :now, :now)
    """
)


async def payout_of(runtime, partner_id):
    number = runtime.new_id()
    async with runtime.engine.begin() as connection:
        now = runtime.clock.now()
        await connection.execute(_PAYOUT, {"id": number, "partner_id": partner_id, "now": now, "today": now.date()})
    return number


# ------------------------------------------------------------------ what it answers


async def test_a_request_to_pay_is_made_once_followed_and_ends_with_its_receipt(api):
    first = await api.ask()
    again = await api.ask()
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["location"] == f"/v1/collections/stk/{first.json()['id']}"
    assert first.json()["state"] == "prompted"
    assert first.json()["phone"] == "***001"
    assert len(await api.till.prompts()) == 1

    await api.till.hand_on("stk_result", "c2b_confirmation", after=2)
    [prompt] = await api.till.prompts()
    shown = (await api.call("GET", first.headers["location"])).json()
    assert (shown["state"], shown["receipt"], shown["amount"]) == ("paid", prompt["receipt"], "500.00")
    [payment] = (await api.call("GET", "/v1/collections")).json()["payments"]
    assert (payment["receipt"], payment["stk_request_id"]) == (prompt["receipt"], shown["id"])
    assert (payment["reference"], payment["phone"]) == ("0***11", "***001")
    [act] = await api.till.umoja.rows("SELECT actor FROM audit_log WHERE act = 'collection.asked'")
    assert act.actor == "token:branch"


async def test_a_key_used_for_something_else_is_refused(api):
    await api.ask()
    other = await api.ask(amount="501")
    assert (other.status_code, other.json()["type"]) == (422, "urn:payment-vault:problem:idempotency-key-reused")


async def test_payments_are_paged_by_day_without_loss_or_repetition(api):
    umoja = api.till.umoja
    for number in range(5):
        await umoja.pay(f"R{number}", 100_00, "000000011")
    seen, cursor = [], ""
    while cursor is not None:
        page = (await api.call("GET", f"/v1/collections?limit=2{cursor and f'&cursor={cursor}'}")).json()
        seen += [one["receipt"] for one in page["payments"]]
        cursor = page["next_cursor"]
    assert seen == [f"R{number}" for number in range(5)]
    assert (await api.call("GET", "/v1/collections?date=2026-01-01")).json()["payments"] == []


async def test_the_wallet_and_what_moved_it_are_shown(api):
    umoja = api.till.umoja
    for number in range(3):
        await record_topup(umoja.runtime, umoja.partner.id, Money.shillings(100), f"FT{number}", "ops:test", "paid in")
    wallet = (await api.call("GET", "/v1/wallet")).json()
    assert (wallet["available"], wallet["held"]) == ("300.00", "0.00")
    page = (await api.call("GET", "/v1/wallet/transactions?limit=2")).json()
    rest = (await api.call("GET", f"/v1/wallet/transactions?limit=2&cursor={page['next_cursor']}")).json()
    moved = [(one["reference"], one["amount"]) for one in page["transactions"] + rest["transactions"]]
    assert moved == [("FT2", "100.00"), ("FT1", "100.00"), ("FT0", "100.00")]
    assert rest["next_cursor"] is None


async def test_a_disbursement_is_shown(api):
    number = await payout_of(api.till.runtime, api.till.umoja.partner.id)
    shown = (await api.call("GET", f"/v1/disbursements/{number}")).json()
    assert (shown["loan_account_no"], shown["payout"], shown["state"]) == ("000000012", "950.00", "detected")


# ------------------------------------------------------------------ whom it lets in


async def test_without_a_live_token_nothing_is_answered(api):
    headers = ("", "Bearer", "Bearer pv_x", "Basic dXNlcjpwdw==", f"Bearer pv_{'A' * 43}", f"Basic {api.token}")
    for operation, header in product(OPERATIONS, headers):
        path = operation.path.replace("{id}", str(api.till.runtime.new_id()))
        answer = await api.call(operation.method, path, headers={"Authorization": header})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_an_expired_or_revoked_token_is_none_and_a_use_is_noted(api):
    runtime, partner = api.till.runtime, api.till.umoja.partner
    short = await new_token(runtime, partner, name="short", valid_for=timedelta(hours=1))
    assert (await api.call("GET", "/v1/wallet", token=short)).status_code == 200
    runtime.clock.pass_time(hours=1)
    assert (await api.call("GET", "/v1/wallet", token=short)).status_code == 401
    await revoke_api_token(runtime, partner, "branch", actor="ops:test", reason="leaked")
    assert (await api.call("GET", "/v1/wallet")).status_code == 401

    async with runtime.engine.connect() as connection:
        states = {
            one.name: (one.state(runtime.clock.now()), one.last_used_at) for one in await list_api_tokens(connection, partner.id)
        }
    assert states["short"] == ("expired", runtime.clock.now() - timedelta(hours=1))
    assert states["branch"][0] == "revoked"


async def test_the_token_is_kept_nowhere(api):
    rows = await api.till.umoja.rows("SELECT * FROM api_tokens") + await api.till.umoja.rows("SELECT * FROM audit_log")
    for row in rows:
        assert api.token not in str(dict(row._mapping))
        assert api.token.removeprefix("pv_").encode() not in b"".join(v for v in row if isinstance(v, bytes))


async def test_each_operation_needs_its_own_scope(api):
    runtime, partner = api.till.runtime, api.till.umoja.partner
    for scope in Scope:
        others = [other for other in Scope if other is not scope]
        lacking = await new_token(runtime, partner, *others, name=f"not-{scope.replace(':', '-')}")
        for operation in (one for one in OPERATIONS if one.scope is scope):
            path = operation.path.replace("{id}", str(runtime.new_id()))
            answer = await api.call(operation.method, path, token=lacking)
            assert (answer.status_code, answer.json()["detail"]) == (403, f"the token lacks the scope {scope}")
    assert await api.till.prompts() == []


async def test_a_token_has_so_many_requests_a_minute_over_all_processes(api):
    runtime, partner = api.till.runtime, api.till.umoja.partner
    slow = await new_token(runtime, partner, name="slow", requests_a_minute=3)
    runtime.clock.pass_time(seconds=5)
    answers = [(await api.call("GET", "/v1/wallet", token=slow)).status_code for _ in range(3)]
    runtime.clock.pass_time(seconds=20)
    refused = await api.call("GET", "/v1/wallet", token=slow)
    assert (answers, refused.status_code, refused.headers["retry-after"]) == ([200] * 3, 429, "40")
    assert (await api.call("GET", "/v1/wallet")).status_code == 200  # another token's minute is its own
    runtime.clock.pass_time(seconds=40)
    assert (await api.call("GET", "/v1/wallet", token=slow)).status_code == 200


async def test_a_partner_sees_nothing_of_another_s_on_any_route(api, other_token):
    umoja, runtime = api.till.umoja, api.till.runtime
    request = (await api.ask()).json()
    await api.till.hand_on("stk_result", after=2)
    await record_topup(umoja.runtime, umoja.partner.id, Money.shillings(100), "FT1", "ops:test", "paid in")
    payout = await payout_of(runtime, umoja.partner.id)

    tried = {
        "/v1/collections/stk/{id}": await api.call("GET", f"/v1/collections/stk/{request['id']}", token=other_token),
        "/v1/disbursements/{id}": await api.call("GET", f"/v1/disbursements/{payout}", token=other_token),
        "/v1/collections": await api.call("GET", "/v1/collections", token=other_token),
        "/v1/wallet": await api.call("GET", "/v1/wallet", token=other_token),
        "/v1/wallet/transactions": await api.call("GET", "/v1/wallet/transactions", token=other_token),
    }
    assert tried.keys() == {operation.path for operation in OPERATIONS if operation.method == "GET"}
    assert tried["/v1/collections/stk/{id}"].status_code == tried["/v1/disbursements/{id}"].status_code == 404
    assert tried["/v1/collections"].json()["payments"] == tried["/v1/wallet/transactions"].json()["transactions"] == []
    assert tried["/v1/wallet"].json()["posted"] == "0.00"


async def test_one_partner_s_key_is_not_another_s(api, add_lender):
    other = await add_lender("beta", "600200")
    await api.ask("same-key")
    wish = StkWish(other.id, "same-key", Money.shillings(7), "0712000002", "12", "loan", "token:x")
    async with api.till.runtime.engine.begin() as connection:
        request, is_new = await _write_ahead(connection, api.till.runtime, wish)
    assert (is_new, request.short_code) == (True, "600200")


# ------------------------------------------------------------------ what it refuses


MALFORMED = (
    ({"phone": 254712000001}, "#/phone"),
    ({"phone": "12"}, "#/phone"),
    ({"amount": "1.50"}, "#/amount"),
    ({"amount": True}, "#/amount"),
    ({"amount": "1e3"}, "#/amount"),
    ({"account_reference": "x" * 13}, "#/account_reference"),
    ({"account_reference": None}, "#/account_reference"),
    ({"partner": "beta"}, "#/partner"),
)


async def test_a_malformed_body_is_refused_by_field_and_prompts_nobody(api):
    for changes, where in MALFORMED:
        answer = await api.ask(**changes)
        assert answer.status_code == 400, changes
        assert [fault["where"] for fault in answer.json()["errors"]] == [where]
    assert await api.till.umoja.rows("SELECT 1 FROM stk_requests") == []


async def test_a_request_must_be_json_of_a_known_shape_and_size_with_one_key(api):
    path, key = "/v1/collections/stk", {"Idempotency-Key": "k"}
    body = {"phone": "0712000001", "amount": 5, "account_reference": "11"}
    statuses = [
        (await api.call("POST", path, json=body)).status_code,
        (await api.call("POST", path, json=body, headers={"Idempotency-Key": "k" * 101})).status_code,
        (await api.call("POST", path, json=body, headers={"Idempotency-Key": "k\tk"})).status_code,
        (await api.call("POST", path, content=b"{", headers=key | {"Content-Type": "application/json"})).status_code,
        (await api.call("POST", path, content=b"[]", headers=key | {"Content-Type": "application/json"})).status_code,
        (await api.call("POST", path, content=b"phone=1", headers=key)).status_code,
        (await api.call("POST", path, json=body | {"x": "y" * 20_000}, headers=key)).status_code,
        (await api.call("POST", f"{path}?dry=1", json=body, headers=key)).status_code,
    ]
    assert statuses == [400, 400, 400, 400, 400, 415, 413, 400]


async def test_a_malformed_query_is_refused(api):
    for query in (
        "date=24-11-2026",
        "date=2026-02-30",
        "date=9999-12-31",
        "date=0001-01-01",
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=nonsense",
        "cursor=W10",
        "day=1",
        "limit=1&limit=2",
    ):
        assert (await api.call("GET", f"/v1/collections?{query}")).status_code == 400, query


async def test_ids_that_name_nothing_and_paths_that_are_none_are_not_found(api):
    for path in ("/v1/collections/stk/7", f"/v1/disbursements/{api.till.runtime.new_id()}"):
        assert (await api.call("GET", path)).status_code == 404
    nowhere = await api.http.get("/v2/anything")
    assert (nowhere.status_code, nowhere.headers["content-type"]) == (404, "application/problem+json")
    assert (await api.http.delete("/v1/wallet")).json()["type"] == "urn:payment-vault:problem:method-not-allowed"


async def test_what_the_sandbox_cannot_answer_is_no_failure_of_the_api(api):
    await api.till.umoja.control("settings", {"hang_ms": 1})
    await api.till.faults(stk_answer_lost={"times": 1})
    answer = await api.ask()
    assert (answer.status_code, answer.json()["state"]) == (201, "unknown")


async def test_a_failure_inside_tells_nothing_of_the_inside_and_a_database_that_is_away_asks_to_come_back(api, monkeypatch):
    for error, status in ((RuntimeError("secret 0712000001"), 500), (OperationalError("SELECT secret", {}, Exception()), 503)):

        async def fails(*_args, error=error):
            raise error

        monkeypatch.setattr(wallet, "load_wallet", fails)
        answer = await api.call("GET", "/v1/wallet")
        assert (answer.status_code, "secret" in answer.text) == (status, False)


# ------------------------------------------------------------------ the document


async def test_the_document_is_served_whole_and_says_what_the_routes_are(api):
    served = (await api.http.get("/openapi.json")).json()
    assert served == json.loads(json.dumps(DOCUMENT))
    assert served["openapi"].startswith("3.1.")
    routes = {(method.upper(), path) for path, item in served["paths"].items() for method in item}
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}
    names = [described["operationId"] for item in served["paths"].values() for described in item.values()]
    assert len(names) == len(set(names))
    for schema in served["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    refs = {part.partition('"')[0] for part in json.dumps(served).split("#/components/schemas/")[1:]}
    assert refs <= served["components"]["schemas"].keys()
    assert refs | {"StkWish"} == served["components"]["schemas"].keys()
    for path, item in served["paths"].items():
        for described in item.values():
            named = {one["name"] for one in described["parameters"] if one["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


async def test_answers_are_counted_and_the_server_says_that_it_is_ready(api):
    await api.call("GET", "/v1/wallet")
    counted = (await api.http.get("/metrics")).text
    assert 'vault_portal_answers_total{operation="showWallet",status="200"} 1.0' in counted
    assert (await api.http.get("/readyz")).json() == {"ready": True}
    assert (await api.http.get("/healthz")).status_code == 200
