"""Requests to pay against the sandbox: each ends as its evidence says, and its money is booked once."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.callback_catcher import Catcher
from tests.integration.collections.stk_till import PHONE, Till, open_till, store_delivery
from vault_core.collections.stk_asking import ask_to_pay
from vault_core.collections.stk_results import handle_stk_results
from vault_core.collections.stk_verdict import StkState
from vault_core.errors import Conflict, KeyReused
from vault_core.money import Money
from vault_core.partners.credentials import CredentialPurpose, replace_credential

BOTH = ("stk_result", "c2b_confirmation")


@pytest.fixture
async def till(umoja) -> AsyncIterator[Till]:
    async with open_till(umoja) as opened:
        # The customer decides at once: a prompt that is still open refuses the next one, and is no answer to a question.
        await opened.umoja.control("settings", {"result_delay_ms": 0})
        yield opened


async def booked(till) -> list[tuple[str, int]]:
    rows = await till.umoja.rows("SELECT receipt, amount_cents FROM collections ORDER BY receipt")
    assert await till.umoja.balance("c2b_float") == Money(sum(row.amount_cents for row in rows))
    return [(row.receipt, row.amount_cents) for row in rows]


async def kinds(till) -> list[str]:
    return sorted(case.kind for case in await till.umoja.cases())


@pytest.mark.parametrize("order", [BOTH, BOTH[::-1]])
async def test_a_paid_prompt_is_booked_once_whichever_word_comes_first_and_however_often(till, order):
    request = await till.ask()
    assert (request.state, request.receipt, request.checkout_request_id) == (StkState.PROMPTED, None, request.checkout_request_id)
    await till.hand_on(*order, after=2, times=2)

    [prompt] = await till.prompts()
    ended = await till.state(request)
    assert (ended.state, ended.receipt, ended.receipt_from) == (StkState.PAID, prompt["receipt"], "callback")
    assert ended.look_at is None
    assert await booked(till) == [(prompt["receipt"], 500_00)]
    assert await kinds(till) == []
    collection = await till.umoja.collection(prompt["receipt"])
    typed = till.runtime.sealer.open_text(
        collection.bill_reference_sealed, bound_to=f"collections:{collection.id}:bill_reference"
    )
    assert typed == "000000011"  # the callback does not say it
    assert bytes(collection.payer_phone_hash) == till.runtime.sealer.lookup_hash(PHONE, purpose="phone")


async def test_a_paid_prompt_reaches_the_loan_it_was_for(till):
    await till.ask(account_reference="ln-1001")
    await till.hand_on("stk_result", after=2)
    await till.umoja.work()

    [prompt] = await till.prompts()
    assert await till.umoja.posted_to("loans", 11) == [(prompt["receipt"], 500_00)]


async def test_a_prompt_that_is_not_paid_says_why_and_books_nothing(till):
    phones = {code: f"25471200{code.zfill(4)}" for code in ("1", "1032", "1037", "2001")}
    customers = [{"phone": phone, "name": "Jane Wanjiku", "stk_result": code} for code, phone in phones.items()]
    await till.umoja.control("setup", {"mpesa": {"customers": customers}})
    requests = {code: await till.ask(phone=phone) for code, phone in phones.items()}
    await till.hand_on("stk_result", after=4)

    for code, request in requests.items():
        ended = await till.state(request)
        assert (ended.state, ended.callback_code, ended.look_at) == (StkState.DECLINED, code, None)
        assert ended.reason is not None
        assert ended.reason.startswith(f"{code}: ")
    assert await booked(till) == []


async def test_a_prompt_whose_answer_is_lost_is_unknown_until_its_callback_comes_and_nobody_is_asked_again(till):
    await till.umoja.control("settings", {"hang_ms": 1})
    await till.faults(stk_answer_lost={"times": 1})
    request = await till.ask()
    assert (request.state, request.checkout_request_id) == (StkState.UNKNOWN, None)
    await till.hand_on("stk_result", after=2)

    ended = await till.state(request)
    [prompt] = await till.prompts()
    assert (ended.state, ended.receipt) == (StkState.PAID, prompt["receipt"])
    assert ended.checkout_request_id == prompt["checkout_request_id"]


async def test_where_answer_and_callback_are_lost_the_one_payment_that_can_be_its_ends_it(till):
    await till.umoja.control("settings", {"hang_ms": 1})
    await till.faults(stk_answer_lost={"times": 1}, stk_callback_lost={"times": 1})
    request = await till.ask()
    await till.hand_on("c2b_confirmation")
    assert (await till.state(request)).state is StkState.UNKNOWN  # a confirmation alone changes no request
    assert await till.look(seconds=76) == 1

    ended = await till.state(request)
    [prompt] = await till.prompts()
    assert (ended.state, ended.receipt, ended.receipt_from) == (StkState.PAID, prompt["receipt"], "payment")
    assert await booked(till) == [(prompt["receipt"], 500_00)]


async def test_a_payment_taken_by_likeness_is_another_one_once_the_callback_says_that_the_prompt_was_declined(till):
    await till.umoja.control("settings", {"hang_ms": 1})
    await till.faults(stk_answer_lost={"times": 1}, stk_callback_lost={"times": 1})
    request = await till.ask()
    await till.hand_on("c2b_confirmation")
    await till.look(seconds=76)
    [(receipt, _)] = await booked(till)
    assert (await till.state(request)).receipt == receipt
    await till.deliver("stk_result", callback("ws_CO_its_own", code=1032), request.id.hex)

    ended = await till.state(request)
    assert (ended.state, ended.receipt, ended.receipt_from) == (StkState.DECLINED, None, None)
    assert await booked(till) == [(receipt, 500_00)]  # made by hand: it stays booked


async def test_a_payment_that_could_be_of_two_prompts_or_of_another_payer_ends_none(till):
    await till.umoja.control("settings", {"hang_ms": 1})
    await till.faults(stk_answer_lost={"rate": 1.0, "per_unit": 9}, stk_callback_lost={"rate": 1.0, "per_unit": 9})
    twice = [await till.ask(), await till.ask()]
    other = await till.ask(account_reference="000000012")
    await till.umoja.control(
        "c2b", {"short_code": "600100", "phone": "254799999999", "amount_cents": 500_00, "bill_reference": "000000012"}
    )
    await till.hand_on("c2b_confirmation", after=2)  # M-Pesa takes one amount of one customer once in two minutes
    await till.look(seconds=76)

    assert [(await till.state(one)).state for one in (*twice, other)] == [StkState.UNKNOWN] * 3
    assert len(await booked(till)) == 2


async def test_odd_pending_answers_are_no_end_and_the_question_is_repeated_at_its_pace(till):
    await till.umoja.control("settings", {"result_delay_ms": 60_000})
    request = await till.ask()
    assert await till.look(seconds=60) == 0
    for asked in (1, 2, 3, 4):
        assert await till.look(seconds=61) == 1
        now = await till.state(request)
        assert (now.state, now.queries) == (StkState.PROMPTED, asked)
    assert await till.look(seconds=30) == 0
    calls = (await till.umoja.truth())["calls"]
    assert (calls["mpesa stk push"], calls["mpesa stk query"]) == (1, 4)

    await replace_credential(till.runtime, request.partner_id, CredentialPurpose.MPESA_PASSKEY, "another", actor="ops:test")
    assert await till.look(seconds=61) == 1  # a question that M-Pesa refuses says nothing about the prompt
    now = await till.state(request)
    assert (now.state, now.query_code, now.queries) == (StkState.PROMPTED, None, 5)


async def test_a_lost_callback_is_made_up_for_by_the_question_and_the_confirmation_together(till):
    await till.faults(stk_callback_lost={"times": 1})
    request = await till.ask()
    await till.look(seconds=76)
    asked = await till.state(request)
    assert (asked.state, asked.query_code) == (StkState.PROMPTED, "0")  # without a receipt there is nothing to book
    assert await booked(till) == []
    await till.hand_on("c2b_confirmation")
    await till.look(seconds=61)

    assert (await till.state(request)).state is StkState.PAID
    assert len(await booked(till)) == 1


async def test_a_payment_nobody_told_becomes_a_case_when_time_is_up_and_ends_the_case_when_it_comes(till):
    await till.faults(stk_callback_lost={"times": 1})
    request = await till.ask()
    await till.look(seconds=76)
    await till.look(seconds=900)
    assert (await till.state(request)).state is StkState.EXPIRED
    assert await kinds(till) == ["stk_paid_unbooked"]
    await till.hand_on("c2b_confirmation")
    await till.look(hours=1)

    assert (await till.state(request)).state is StkState.PAID
    assert await kinds(till) == []


async def test_a_question_that_says_failed_never_overrides_a_success(till):
    await till.faults(stk_query_wrong={"times": 1})
    request = await till.ask()
    await till.look(seconds=76)
    assert (await till.state(request)).state is StkState.DECLINED
    await till.hand_on("stk_result", after=2)

    ended = await till.state(request)
    assert (ended.state, ended.reason) == (StkState.PAID, None)
    assert await kinds(till) == []


async def test_where_the_callback_is_lost_the_question_tells_each_refusal_and_time_ends_what_it_does_not_tell(till):
    phones = {code: f"25471200{code.zfill(4)}" for code in ("1", "17", "1019", "1032", "1037", "2001", "4444")}
    customers = [{"phone": phone, "name": "Jane Wanjiku", "stk_result": code} for code, phone in phones.items()]
    await till.umoja.control("setup", {"mpesa": {"customers": customers}})
    await till.faults(stk_callback_lost={"rate": 1.0, "per_unit": 9})
    requests = {code: await till.ask(phone=phone) for code, phone in phones.items()}
    unlisted = requests.pop("4444")
    await till.look(seconds=76)

    for code, request in requests.items():
        ended = await till.state(request)
        assert (ended.state, ended.callback_code, ended.query_code) == (StkState.DECLINED, None, code)
        assert (ended.reason or "").startswith(f"{code}: ")
        assert ended.ended_at is not None
    assert (await till.state(unlisted)).state is StkState.PROMPTED  # a code that nobody documents is no verdict
    await till.look(seconds=900)
    assert (await till.state(unlisted)).state is StkState.EXPIRED
    assert {(await till.state(one)).state for one in requests.values()} == {StkState.DECLINED}
    assert (await booked(till), await kinds(till)) == ([], [])


async def test_an_expired_request_is_not_called_unpaid_and_late_money_is_booked(till):
    await till.umoja.control("settings", {"result_delay_ms": 3_000})
    request = await till.ask()
    await till.look(seconds=901)
    expired = await till.state(request)
    assert (expired.state, expired.reason) == (StkState.EXPIRED, None)
    await till.umoja.control("settings", {"result_delay_ms": 20})
    await till.hand_on("stk_result", after=2)

    assert (await till.state(request)).state is StkState.PAID
    assert len(await booked(till)) == 1


async def test_a_success_without_a_receipt_waits_for_the_confirmation(till):
    await till.faults(stk_callback_without_receipt={"times": 1})
    request = await till.ask()
    await till.hand_on("stk_result", after=2)
    assert ((await till.state(request)).state, await booked(till)) == (StkState.PROMPTED, [])
    await till.hand_on("c2b_confirmation", after=2)
    await till.look(seconds=61)

    [prompt] = await till.prompts()
    assert (await till.state(request)).receipt == prompt["receipt"]


def callback(checkout, code=0, amount="500", receipt="SBX1234567", **more):
    items = [
        {"Name": "Amount", "Value": amount},
        {"Name": "MpesaReceiptNumber", "Value": receipt},
        {"Name": "PhoneNumber", "Value": 254712000001},
    ]
    said = {"MerchantRequestID": f"m-{checkout[6:]}", "CheckoutRequestID": checkout, "ResultCode": code, "ResultDesc": "d"}
    if code == 0:
        said["CallbackMetadata"] = {"Item": [item for item in items if item["Value"] is not None]}
    return json.dumps({"Body": {"stkCallback": said | more}}).encode()


async def test_another_amount_than_asked_for_is_booked_as_told_with_a_case(till):
    request = await till.ask()
    await till.deliver("stk_result", callback(request.checkout_request_id, amount="450"))

    assert await booked(till) == [("SBX1234567", 450_00)]
    assert (await till.state(request)).state is StkState.PAID
    [case] = await till.umoja.cases()
    assert (case.kind, case.amount, case.evidence["asked_for"]) == ("stk_amount_differs", Money(450_00), "KES 500.00")


async def test_a_callback_of_no_request_of_ours_is_kept_with_a_case_and_books_nothing(till, umoja):
    for _ in range(2):
        await till.deliver("stk_result", callback("ws_CO_nobody_s"))
    await till.deliver("stk_result", callback("ws_CO_other", code="1032"), till.runtime.new_id().hex)

    assert await booked(till) == []
    assert sorted((case.kind, case.subject) for case in await umoja.cases()) == [
        ("unknown_stk_callback", "stk callback m-nobody_s"),
        ("unknown_stk_callback", "stk callback m-other"),
    ]
    assert {row.state for row in await umoja.rows("SELECT state FROM inbound_events")} == {"processed"}


async def test_a_callback_on_the_url_of_a_request_that_is_known_under_another_id_is_not_its(till):
    request = await till.ask()
    await till.deliver("stk_result", callback("ws_CO_foreign"), request.id.hex)

    assert (await till.state(request)).state is StkState.PROMPTED
    assert await kinds(till) == ["unknown_stk_callback"]


async def test_a_callback_that_came_by_another_partners_url_ends_no_request_though_it_names_it(till, add_lender):
    request, other = await till.ask(), await add_lender("other", "600900")
    body = callback(request.checkout_request_id, amount="500", receipt="R1")
    event_id = await store_delivery(till.runtime, other.id, "stk_result", body, request.id.hex)
    await handle_stk_results(till.runtime, till.connections, [event_id])

    assert ((await till.state(request)).state, await booked(till)) == (StkState.PROMPTED, [])
    assert await kinds(till) == ["unknown_stk_callback"]


async def test_callbacks_that_contradict_each_other_open_a_case_and_the_money_stands(till):
    first, second = await till.ask(amount=Money.shillings(100)), await till.ask(amount=Money.shillings(200), phone="0712000002")
    await till.deliver("stk_result", callback(first.checkout_request_id, amount="100", receipt="R1"))
    await till.deliver("stk_result", callback(first.checkout_request_id, code=1032))
    await till.deliver("stk_result", callback(second.checkout_request_id, code="1037"))
    await till.deliver("stk_result", callback(second.checkout_request_id, amount="200", receipt="R2"))

    third = await till.ask(amount=Money.shillings(300), phone="0712000003")
    await till.deliver("stk_result", callback(third.checkout_request_id, amount="100", receipt="R1"))

    states = [(await till.state(one)).state for one in (first, second, third)]
    assert states == [StkState.PAID, StkState.PAID, StkState.PROMPTED]  # one payment pays one request
    assert await booked(till) == [("R1", 100_00), ("R2", 200_00)]
    assert await kinds(till) == ["stk_contradiction"] * 3


async def test_a_payment_taken_by_likeness_goes_to_the_request_whose_callback_names_it(till):
    await till.umoja.control("settings", {"hang_ms": 1})
    await till.faults(stk_answer_lost={"times": 1}, stk_callback_lost={"times": 1})
    alike = await till.ask()
    await till.hand_on("c2b_confirmation")
    await till.look(seconds=76)
    [prompt] = await till.prompts()
    assert (await till.state(alike)).receipt == prompt["receipt"]
    named = await till.ask(phone="0712000002")
    await till.deliver("stk_result", callback(named.checkout_request_id, receipt=prompt["receipt"]))

    assert ((await till.state(named)).state, (await till.state(alike)).state) == (StkState.PAID, StkState.UNKNOWN)
    assert await booked(till) == [(prompt["receipt"], 500_00)]


async def test_in_one_batch_repeats_count_once_and_a_body_that_cannot_be_read_holds_back_nobody(till):
    requests = [await till.ask(phone=f"25471200000{n}", amount=Money.shillings(100 + n)) for n in range(3)]
    first, second, third = (request.checkout_request_id for request in requests)
    bodies = [
        callback(first, amount="100", receipt="R1"),
        callback(second, code=1032),
        b'{"Body": 7}',
        callback(first, amount="100", receipt="R1"),
        callback("ws_CO_nobody_s"),
        callback(third, amount="102", receipt="R3"),
    ]
    ids = [await store_delivery(till.runtime, till.umoja.partner.id, "stk_result", body) for body in bodies]
    await handle_stk_results(till.runtime, till.connections, ids)
    await handle_stk_results(till.runtime, till.connections, ids)

    assert [(await till.state(request)).state for request in requests] == [StkState.PAID, StkState.DECLINED, StkState.PAID]
    assert await booked(till) == [("R1", 100_00), ("R3", 102_00)]
    assert await kinds(till) == ["unknown_stk_callback"]
    rows = {row.id: row for row in await till.umoja.rows("SELECT id, state, cause, effect FROM inbound_events")}
    assert [rows[number].state for number in ids] == ["processed"] * 2 + ["exception"] + ["processed"] * 3
    assert "stkCallback" in rows[ids[2]].cause
    # Which of two that came in one millisecond is the first is chance.
    assert {rows[number].effect for number in (ids[0], ids[3])} == {"booked R1", "told before: R1"}


# ------------------------------------------------------------------ asking


async def test_one_key_asks_once_and_another_wish_under_it_is_refused(till):
    wish = till.wish(key="k1")
    answers = await asyncio.gather(*(ask_to_pay(till.runtime, till.connections, wish) for _ in range(5)))
    assert {request.id for request, _ in answers} == {answers[0][0].id}
    assert [is_new for _, is_new in answers].count(True) == 1
    with pytest.raises(KeyReused, match="asked for something else"):
        await till.ask(key="k1", amount=Money.shillings(501))

    assert len(await till.prompts()) == 1
    assert len(await till.umoja.rows("SELECT 1 FROM audit_log WHERE act = 'collection.asked'")) == 1


async def test_what_is_asked_and_of_whom_is_nowhere_in_clear(till):
    request = await till.ask(account_reference="000000011")
    await till.deliver("stk_result", callback(request.checkout_request_id, amount="450"))
    await till.deliver("stk_result", callback(f"ws_CO_{PHONE}", MerchantRequestID="m"))
    for table in ("stk_requests", "audit_log", "cases"):
        for row in await till.umoja.rows(f"SELECT * FROM {table}"):  # noqa: S608
            shown = str(dict(row._mapping))
            assert PHONE[3:] not in shown  # in which M-Pesa's own id of a prompt ends, too
            assert "000000011" not in shown


async def test_with_a_wrong_passkey_the_request_is_refused(till, umoja):
    await replace_credential(umoja.runtime, umoja.partner.id, CredentialPurpose.MPESA_PASSKEY, "another", actor="ops:test")
    umoja.runtime.clock.pass_time(seconds=31)
    refused = await till.ask()
    assert (refused.state, refused.look_at, refused.ended_at) == (StkState.REFUSED, None, till.runtime.clock.now())
    assert "Wrong credentials" in (refused.reason or "")


async def test_a_partner_without_a_passkey_is_told_what_to_set(umoja):
    till = Till(umoja, umoja.runtime, umoja.connections, Catcher())
    with pytest.raises(Conflict, match="mpesa_passkey"):
        await till.ask()
    assert await umoja.rows("SELECT 1 FROM stk_requests") == []


async def test_a_prompt_whose_process_died_becomes_unknown_and_is_not_sent_again(till, monkeypatch):
    daraja = await till.connections.daraja(till.umoja.partner.id)

    async def dies(_self, _prompt):
        raise asyncio.CancelledError

    monkeypatch.setattr(type(daraja), "prompt", dies)
    wish = till.wish()
    with pytest.raises(asyncio.CancelledError):
        await ask_to_pay(till.runtime, till.connections, wish)
    monkeypatch.undo()
    [row] = await till.umoja.rows("SELECT state FROM stk_requests")
    assert row.state == "prompting"  # on record before it could have left
    assert await till.look(seconds=120) == 0
    assert await till.look(seconds=60) == 1

    request, is_new = await ask_to_pay(till.runtime, till.connections, wish)
    assert (request.state, is_new) == (StkState.UNKNOWN, False)
    assert await till.prompts() == []
