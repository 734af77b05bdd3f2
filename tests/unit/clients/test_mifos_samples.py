"""Every Mifos X sample, and every exchange with a real server, that concerns our flows is read to the right outcome."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from vault_core.clients import mifos_reading as reading
from vault_core.clients.json_reading import read_json
from vault_core.clients.mifos_errors import classify_write, is_closed_day, is_not_yet, key_is_burnt, read_failure
from vault_core.clients.mifos_values import AccountState, FoundAccount, PaymentType, Posted
from vault_core.errors import InvalidInput, LoginRefused, NotFound, NotUnderstood, RemoteBusy, RemoteRefusal
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

DATA = Path(__file__).parents[2] / "data"
DOCS, LIVE = DATA / "fineract", DATA / "fineract_live"
NO_HEADERS: dict[str, str] = {}


def body_bytes(text: str) -> bytes:
    """The body of a stored exchange as the server sent it, figures untouched."""
    return re.split(r'"body":', text, maxsplit=1)[1].strip().removesuffix("}").strip().encode()


class Exchange:
    def __init__(self, name: str) -> None:
        path = next(LIVE.glob(f"{name}_*.response.json"))
        stored = json.loads(path.read_text())
        self.request = json.loads(Path(str(path).replace(".response.", ".request.")).read_text())
        self.status = stored["status"]
        self.headers = {key.lower(): value for key, value in stored["headers"].items()}
        self.body = body_bytes(path.read_text())

    def outcome(self):
        path, _, command = self.request["path"].partition("?command=")
        account = int(re.search(r"/(?:loans|savingsaccounts)/(\d+)", path)[1])
        target = ("savingsId" if "savings" in path else "loanId", account)
        body = self.request["body"]
        return classify_write(
            self.status,
            self.headers,
            self.body,
            target=target,
            made="subResourceId" if command == "disburse" else "resourceId",
            external_id=body.get("externalId") if isinstance(body, dict) else None,
        )


# ------------------------------------------------------------------ writes on the real server

NOT_APPROVED = "error.msg.loan.disbursal.account.is.not.approve.not.disbursed.state"
WRITES = {
    "031": (Unknown, NOT_APPROVED),
    "032": (Refused, "error.msg.loan.must.be.active.fully.paid.or.overpaid", Refusal.TERMINAL),
    "052": (Refused, "error.msg.loan.disbursal.cannot.be.before.approval.date", Refusal.TERMINAL),
    "053": (Refused, "error.msg.loan.disbursal.cannot.be.before.approval.date", Refusal.TERMINAL),
    "054": (Refused, "validation.msg.loan.disbursement.actualDisbursementDate.cannot.be.blank", Refusal.TERMINAL),
    "056": (Refused, "error.msg.loan.disbursal.cannot.be.a.future.date", Refusal.RETRY_LATER),
    "057": (Refused, "validation.msg.loan.disbursement.receiptNumber.exceeds.max.length", Refusal.TERMINAL),
    "058": (Refused, "validation.msg.missing.dateFormat.parameter", Refusal.TERMINAL),
    "059": (Refused, "error.msg.loan.disburse.amount.must.be.less.than.approved.amount", Refusal.TERMINAL),
    "061": (Unknown, "error.msg.data.integrity.issue"),
    "062": (Refused, "error.msg.invalid.request.body", Refusal.TERMINAL),
    "063": (Refused, "http_415", Refusal.HALT),
    "064": (Accepted, 2, False),
    "066": (Accepted, 2, True),
    "067": (Accepted, 2, True),
    "068": (Unknown, "not 2: the idempotency key was used before"),
    "071": (Unknown, NOT_APPROVED),
    "072": (Unknown, NOT_APPROVED),
    "073": (Unknown, "error.msg.loan.disbursement.duplicate.externalId"),
    "076": (Accepted, None, False),
    "079": (Accepted, None, True),  # undone since: a replay has to be read back
    "086": (Refused, "error.msg.loan.id.invalid", Refusal.TERMINAL),
    "087": (Refused, "error.msg.query.parameter.value.unsupported", Refusal.TERMINAL),
    "088": (Accepted, 13, False),
    "089": (Accepted, 13, True),
    "091": (Refused, "error.msg.loan.transaction.cannot.be.a.future.date", Refusal.RETRY_LATER),
    "092": (Refused, "error.msg.loan.transaction.cannot.be.before.disbursement.date", Refusal.TERMINAL),
    "093": (Refused, "validation.msg.loan.transaction.transactionAmount.not.greater.than.zero", Refusal.TERMINAL),
    "094": (Accepted, None, False),
    "096": (Unknown, "data.integrity.issue"),
    "103": (Accepted, 13, True),
    "104": (Unknown, "externalId.value.must.be.unique"),
    "107": (Refused, "error.msg.loan.must.be.active.fully.paid.or.overpaid", Refusal.TERMINAL),
    "108": (Accepted, None, False),
    "113": (Accepted, None, False),
    "118": (Accepted, None, False),
    "119": (Accepted, None, False),
    "121": (Accepted, None, False),
    "126": (Refused, "error.msg.savingsaccount.transaction.account.is.not.active", Refusal.TERMINAL),
    "129": (Accepted, 1, False),
    "131": (Refused, "validation.msg.savingsaccount.transaction.paymentTypeId.cannot.be.blank", Refusal.TERMINAL),
    "132": (Refused, "error.msg.parameter.unsupported", Refusal.TERMINAL),
    "133": (Refused, "error.msg.savingsaccount.transaction.in.the.future", Refusal.RETRY_LATER),
    "153": (Refused, "error.msg.not.authorized", Refusal.HALT),
    "161": (Unknown, "the idempotency key was used before"),
    "162": (Refused, "error.msg.loan.locked", Refusal.RETRY_LATER),
    "166": (Accepted, 48, False),
    "167": (Unknown, "waits for a checker"),
    "169": (Unknown, "425"),
    "173": (Accepted, None, True),
    "179": (Refused, "conflict", Refusal.RETRY_LATER),
    "184": (Unknown, "425"),
    "187": (Accepted, 66, True),
    "191": (Refused, "error.msg.loan.disbursal.cannot.be.a.future.date", Refusal.RETRY_LATER),
    "192": (Accepted, None, False),
}


@pytest.mark.parametrize("number", WRITES)
def test_a_posting_to_the_real_server_has_its_outcome(number):
    outcome = Exchange(number).outcome()
    kind, *details = WRITES[number]
    assert isinstance(outcome, kind), outcome
    if isinstance(outcome, Accepted):
        transaction_id, from_cache = details
        assert outcome.value.from_cache is from_cache
        assert transaction_id in (None, outcome.value.transaction_id)
    elif isinstance(outcome, Refused):
        assert [outcome.code, outcome.refusal] == details
    else:
        assert details[0] in outcome.cause


def test_no_posting_of_the_real_server_is_left_out():
    ours = re.compile(r'"path": "/(?:loans|savingsaccounts)/\\d+(?:/transactions)?\\?command=(?:disburse|repayment|deposit)"')
    singles = {
        path.name[:3]
        for path in LIVE.glob("*.request.json")
        if ours.search(path.read_text()) and '"requests"' not in path.read_text()
    }
    assert singles - set(WRITES) == set()


@pytest.mark.parametrize(("number", "made"), [("176", "subResourceId"), ("178", "resourceId"), ("182", "resourceId")])
def test_of_postings_that_meet_only_those_that_were_made_count(number, made):
    path = next(LIVE.glob(f"{number}_*.response.json"))
    for answer in json.loads(path.read_text()):
        key = "savingsId" if number == "182" else "loanId"
        target = (key, 2 if number == "182" else 18)
        outcome = classify_write(
            answer["status"], NO_HEADERS, json.dumps(answer["body"]).encode(), target=target, made=made, external_id=None
        )
        if answer["status"] == 200:
            assert outcome == Accepted(Posted(answer["body"][made], from_cache=False))
        elif answer["status"] == 409:
            assert (outcome.code, outcome.refusal, key_is_burnt(outcome)) == ("conflict", Refusal.RETRY_LATER, True)
        else:
            assert isinstance(outcome, Unknown)


def test_a_lock_and_a_missing_permission_leave_the_key_good_and_every_stored_refusal_burns_it():
    assert not key_is_burnt(Exchange("162").outcome())
    assert not key_is_burnt(Exchange("153").outcome())
    for number in ("052", "056", "179", "032"):
        assert key_is_burnt(Exchange(number).outcome())


@pytest.mark.parametrize(
    ("code", "closed", "not_yet"),
    [
        ("error.msg.loan.application.disbursement.date.on.holiday", True, False),
        ("error.msg.loan.application.repayment.date.on.non.working.day", True, False),
        ("error.msg.loan.disbursal.cannot.be.a.future.date", False, True),
        ("error.msg.savingsaccount.transaction.in.the.future", False, True),
        ("error.msg.loan.disbursal.cannot.be.before.approval.date", False, False),
    ],
)
def test_a_day_that_the_tenant_does_not_take_is_told_from_one_that_has_not_begun(code, closed, not_yet):
    body = json.dumps({"errors": [{"userMessageGlobalisationCode": code, "defaultUserMessage": "no"}]}).encode()
    refused = classify_write(403, NO_HEADERS, body, target=("loanId", 1), made="subResourceId", external_id=None)
    assert isinstance(refused, Refused)
    assert (is_closed_day(refused), is_not_yet(refused)) == (closed, not_yet)
    assert refused.refusal is (Refusal.RETRY_LATER if closed or not_yet else Refusal.TERMINAL)


def test_a_404_that_is_about_the_payment_type_is_the_set_ups_fault_and_not_the_loans():
    body = json.dumps({"errors": [{"userMessageGlobalisationCode": "error.msg.payment.type.invalid"}]}).encode()
    refused = classify_write(404, NO_HEADERS, body, target=("loanId", 1), made="subResourceId", external_id=None)
    assert (refused.refusal, key_is_burnt(refused)) == (Refusal.HALT, True)


def test_an_unhandled_error_and_its_replay_are_unknown():
    for number in ("123", "124"):
        exchange = Exchange(number)
        assert isinstance(
            classify_write(500, exchange.headers, exchange.body, target=("loanId", 8), made="subResourceId", external_id=None),
            Unknown,
        )


# ------------------------------------------------------------------ writes as documented

DOCUMENTED_WRITES = {
    "loan_disburse_response.json": (200, ("loanId", 1041), "subResourceId", Accepted(Posted(90211, from_cache=False))),
    "loan_repayment_response.json": (200, ("loanId", 1041), "resourceId", Accepted(Posted(90877, from_cache=False))),
    "savings_deposit_response.json": (200, ("savingsId", 588), "resourceId", Accepted(Posted(77120, from_cache=False))),
    "error_400_not_approved_state.json": (400, ("loanId", 1041), "subResourceId", Unknown),
    "error_400_missing_date.json": (400, ("loanId", 1041), "subResourceId", Refusal.TERMINAL),
    "error_400_duplicate_external_id.json": (400, ("loanId", 1041), "resourceId", Unknown),
    "error_403_domain_rule_before_approval.json": (403, ("loanId", 1041), "subResourceId", Refusal.TERMINAL),
    "error_403_future_date.json": (403, ("loanId", 1041), "resourceId", Refusal.RETRY_LATER),
    "error_404_loan_not_found.json": (404, ("loanId", 999999), "subResourceId", Refusal.TERMINAL),
    "error_425_under_processing_echo.json": (425, ("loanId", 1041), "resourceId", Unknown),
}


@pytest.mark.parametrize("name", DOCUMENTED_WRITES)
def test_a_documented_answer_to_a_posting_has_its_outcome(name):
    status, target, made, expected = DOCUMENTED_WRITES[name]
    outcome = classify_write(status, NO_HEADERS, (DOCS / name).read_bytes(), target=target, made=made, external_id=None)
    if isinstance(expected, Refusal):
        assert isinstance(outcome, Refused)
        assert outcome.refusal is expected
    elif expected is Unknown:
        assert isinstance(outcome, Unknown)
    else:
        assert outcome == expected


# ------------------------------------------------------------------ reads

READ_FAILURES = {
    "002": LoginRefused,
    "003": LoginRefused,
    "004": LoginRefused,
    "006": LoginRefused,
    "017": NotFound,
    "019": RemoteRefusal,
    "023": RemoteRefusal,
    "024": RemoteBusy,
    "037": RemoteBusy,
    "038": RemoteBusy,
    "041": RemoteBusy,
    "051": NotFound,
    "099": NotFound,
    "138": NotFound,
    "154": RemoteRefusal,
    "156": RemoteRefusal,
}


@pytest.mark.parametrize("number", READ_FAILURES)
def test_a_failed_read_raises_its_error(number):
    exchange = Exchange(number)
    error = read_failure(exchange.status, exchange.headers, exchange.body, "GET /x")
    assert type(error) is READ_FAILURES[number] or (READ_FAILURES[number] is NotFound and isinstance(error, NotFound))


def test_a_wrong_password_and_a_wrong_tenant_are_told_apart():
    def said(number: str) -> str:
        exchange = Exchange(number)
        return str(read_failure(exchange.status, exchange.headers, exchange.body, "GET /loans"))

    assert "password" in said("003")
    assert "tenant" in said("006")


def test_a_page_of_another_server_is_not_understood_rather_than_a_missing_loan():
    error = read_failure(404, {}, b"<html>404</html>", "GET /loans/1")
    assert isinstance(error, NotUnderstood)


LOAN_READS = {
    # id, status, approved, net, approved on, kinds of standing transactions, outstanding
    "049": (1, 200, 1500000, 1455000, []),
    "074": (2, 200, None, None, []),
    "078": (3, 200, None, None, []),
    "083": (5, 300, 600000, None, ["disbursement"]),
    "101": (1, 300, 1500000, 1455000, None),
    "109": (6, 700, None, None, []),
    "112": (7, 200, None, None, []),
    "114": (7, 300, None, None, ["disbursement"]),
    "117": (7, None, None, None, None),
    "122": (8, 300, None, None, ["disbursement", "disbursement", "disbursement"]),
}


@pytest.mark.parametrize("number", LOAN_READS)
def test_a_loan_of_the_real_server_is_read(number):
    loan = reading.read_loan(read_json(Exchange(number).body, "loan"))
    loan_id, status_id, approved, net, kinds = LOAN_READS[number]
    assert loan.id == loan_id
    assert status_id in (None, loan.status_id)
    assert loan.currency == "KES"
    assert (loan.client_id, loan.group) == (1, False)
    assert approved is None or loan.approved_principal == Money(approved)
    assert net is None or loan.net_disbursal == Money(net)
    assert (loan.total_outstanding is None) == (loan.status_id < 300)
    standing = [t.kind for t in loan.transactions if not t.reversed and t.kind in ("disbursement", "repayment")]
    assert kinds is None or standing == kinds


def test_a_transaction_is_read_with_receipt_external_id_and_exact_amount():
    repayment = reading.read_transaction(read_json(Exchange("098").body, "transaction"))
    assert (repayment.id, repayment.kind, repayment.amount, repayment.on) == (13, "repayment", Money(500000), date(2026, 11, 23))
    assert (repayment.external_id, repayment.receipt, repayment.reversed) == ("mpl-c2b-17e20ea4a238", "SKN1V7X9LM", False)
    assert reading.read_transaction(read_json(Exchange("097").body, "transaction")) == repayment


def test_an_undone_disbursement_is_reversed_although_not_marked_so_by_hand():
    undone = reading.read_transaction(read_json(Exchange("081").body, "transaction"))
    assert (undone.kind, undone.reversed) == ("disbursement", True)


def test_a_page_of_approved_loans_is_read_from_the_real_server_and_from_the_guide():
    live = reading.read_loan_page(read_json(Exchange("034").body, "page"))
    assert (live.total, [loan.id for loan in live.loans], live.unreadable) == (4, [4, 3], ())
    assert live.loans[0].approved_on == date(2026, 11, 21)
    documented = reading.read_loan_page(read_json((DOCS / "loans_approved_page_response.json").read_bytes(), "page"))
    assert documented.total == 3
    assert documented.loans[0].id == 1041
    assert documented.loans[0].net_disbursal == Money(1455000)
    assert documented.unreadable == ()


def test_an_empty_page_past_the_end_is_read():
    assert reading.read_loan_page(read_json(Exchange("036").body, "page")).loans == []


@pytest.mark.parametrize("number", ["043", "044", "046", "047", "048"])
def test_rows_of_another_status_never_pass_for_approved_ones(number):
    raw = read_json(Exchange(number).body, "page")
    if "status" not in raw["pageItems"][0]:  # cut by `fields`, which we never send
        with pytest.raises(InvalidInput):
            reading.read_loan_page(raw)
        return
    page = reading.read_loan_page(raw)
    approved = [row["id"] for row in raw["pageItems"] if row["status"]["id"] == 200]
    assert len(page.loans) + len(page.unreadable) == len(approved)


@pytest.mark.parametrize("number", ["039", "042", "152"])
def test_a_page_cut_by_the_fields_parameter_is_refused(number):
    with pytest.raises(InvalidInput):
        reading.read_loan_page(read_json(Exchange(number).body, "page"))


def test_products_and_payment_types_are_read():
    live = reading.read_products(read_json(Exchange("014").body, "products"))
    assert {(product.currency, product.active) for product in live} == {("KES", True)}
    documented = reading.read_products(read_json((DOCS / "loanproducts_list_response.json").read_bytes(), "products"))
    assert [(product.id, product.name, product.short_name) for product in documented] == [
        (7, "Biashara Loan", "BIAS"),
        (9, "Kilimo Tranche Loan", "KILI"),
    ]
    types = reading.read_payment_types(read_json(Exchange("013").body, "payment types"))
    assert PaymentType(5, "M-Pesa", is_cash=False) in types
    assert PaymentType(26, "M-Pesa", is_cash=False) in reading.read_payment_types(
        read_json((DOCS / "paymenttypes_list_response.json").read_bytes(), "x")
    )


def test_a_client_is_read_with_the_number_as_it_was_typed():
    person = reading.read_person(read_json((DOCS / "client_detail_response.json").read_bytes(), "client"))
    assert (person.id, person.display_name, person.mobile_no) == (312, "Wanjiku Kamau", "0708374149")
    raw = read_json((DOCS / "client_detail_response.json").read_bytes(), "client")
    del raw["mobileNo"]
    assert reading.read_person(raw).mobile_no is None


def test_a_savings_account_is_read_with_its_deposits():
    live = reading.read_savings(read_json(Exchange("134").body, "savings"))
    assert (live.id, live.account_no, live.balance, live.active) == (1, "000000001", Money(120000), True)
    assert [(t.kind, t.amount, t.reversed) for t in live.transactions] == [("deposit", Money(120000), False)]
    documented = reading.read_savings(read_json((DOCS / "savings_account_with_transactions_response.json").read_bytes(), "x"))
    assert (documented.balance, documented.transactions[0].receipt) == (Money(355000), "SKN4B2C8PD")
    assert documented.client_name == "Wanjiku Kamau"


def test_a_documented_active_loan_is_read_with_its_repayments():
    loan = reading.read_loan(read_json((DOCS / "loan_active_detail_response.json").read_bytes(), "loan"))
    assert (loan.id, loan.status_id, loan.approved_on) == (1041, 300, date(2026, 11, 19))
    assert {"disbursement", "repayment"} <= {transaction.kind for transaction in loan.transactions}
    assert loan.total_outstanding is not None


def test_a_search_gives_loans_and_savings_of_the_number_and_no_clients():
    live = reading.read_found(read_json(Exchange("139").body, "search"), "000000001")
    assert live == [("savings", 1), ("loan", 1)]
    documented = reading.read_found(read_json((DOCS / "search_account_response.json").read_bytes(), "x"), "000001041")
    assert documented == [("loan", 1041)]
    assert reading.read_found(read_json(Exchange("141").body, "search"), "0760361758") == []
    assert reading.read_found(read_json(Exchange("157").body, "search"), "000000001") == [("loan", 1)]


def test_the_accounts_of_a_list_are_read_in_whatever_state_they_are():
    page = reading.read_account_page(read_json(Exchange("034").body, "page"), "loan")
    assert (page.total, page.ids, page.unreadable) == (4, (4, 3), ())
    assert page.accounts[0] == FoundAccount(
        "loan", 4, "000000004", None, 1, "Wanjiku Kamau", AccountState.APPROVED, "KES", product_id=1
    )
    savings = reading.read_account(read_json(Exchange("134").body, "account"), "savings")
    assert (savings.account_no, savings.state, savings.currency, savings.client_id) == (
        "000000001",
        AccountState.ACTIVE,
        "KES",
        1,
    )
    documented = reading.read_account(read_json((DOCS / "loan_active_detail_response.json").read_bytes(), "loan"), "loan")
    assert (documented.id, documented.active) == (1041, True)


def test_of_a_clients_accounts_those_that_a_payment_may_mean_are_read():
    live = reading.read_open_accounts(read_json(Exchange("143").body, "accounts"))
    assert live == [("loan", 8), ("loan", 5), ("loan", 7), ("loan", 2), ("savings", 1)]
    documented = reading.read_open_accounts(read_json((DOCS / "client_accounts_response.json").read_bytes(), "accounts"))
    assert documented == [("loan", 1041), ("savings", 588)]


def test_a_savings_account_that_takes_no_credits_is_blocked_and_fixed_deposits_are_left_out():
    account = json.loads(Exchange("134").body)
    blocked = account | {"subStatus": {"block": False, "blockCredit": True}}
    fixed = account | {"id": 2, "depositType": {"id": 200, "code": "depositAccountType.fixedDeposit"}}

    page = reading.read_account_page({"totalFilteredRecords": 2, "pageItems": [blocked, fixed]}, "savings")
    assert (page.ids, [one.state for one in page.accounts]) == ((1, 2), [AccountState.BLOCKED])


def test_hooks_and_the_business_date_are_read():
    hooks = reading.read_hooks(read_json((DOCS / "hooks_list_response.json").read_bytes(), "hooks"))
    assert [(hook.id, hook.url, hook.active) for hook in hooks] == [
        (4, "https://pipeline.example.org/hooks/partner-a/9c1f0e7b2d6a4f58/", True)
    ]
    assert ("LOAN", "APPROVE") in hooks[0].events
    assert len(reading.read_hooks(read_json(Exchange("029").body, "hooks"))) >= 1
    assert reading.read_date(read_json(Exchange("189").body, "business date")["date"], "date").year == 2026
