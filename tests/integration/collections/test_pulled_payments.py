"""Pull Transactions against the sandbox: what no confirmation told of is found, whatever the interface does."""

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from tests.integration.collections.conftest import PAY_BILL
from tests.integration.collections.feeds import Paid, paid, tell_by_confirmation
from vault_core.cases.case_book import close_cases
from vault_core.clients.daraja_pull import PullAnswer, PullQuestion, classify_pull
from vault_core.clients.http_exchange import Answer
from vault_core.clock import NAIROBI
from vault_core.collections.pull_answers import keep_answer
from vault_core.collections.pull_registration import register_pull
from vault_core.collections.pull_sweeping import sweep_pulls
from vault_core.errors import InvalidInput
from vault_core.money import Money


class Feed:
    """The pay bill's customers and its pull, at the sandbox."""

    def __init__(self, umoja) -> None:
        self.umoja = umoja

    async def register(self) -> None:
        await register_pull(self.umoja.runtime, self.umoja.connections, self.umoja.partner, "0722000000", actor="ops:test")

    async def pay(self, *references: str) -> list[Paid]:
        """Customers pay; nobody is told, for no confirmation URL is registered."""
        wishes = [
            {"short_code": PAY_BILL, "phone": f"2547120001{n:02d}", "amount_cents": (n + 1) * 100_00, "bill_reference": reference}
            for n, reference in enumerate(references)
        ]
        answer = await self.umoja.runtime.http.post(f"{self.umoja.sandbox}/control/c2b", json={"payments": wishes})
        receipts = {one["receipt"] for one in answer.json()["payments"]}
        taken = [one for one in await self.truth() if one["receipt"] in receipts]
        return [
            paid(one["receipt"], datetime.fromisoformat(one["at"]), one["amount_cents"], reference=one["bill_reference"])
            for one in taken
        ]

    async def truth(self) -> list[dict]:
        return (await self.umoja.truth())["mpesa"]["short_codes"][PAY_BILL]["c2b"]

    async def sweep(self, seconds: float = 0) -> None:
        self.umoja.runtime.clock.pass_time(seconds=seconds)
        await sweep_pulls(self.umoja.runtime, self.umoja.connections)

    async def row(self):
        [row] = await self.umoja.rows("SELECT * FROM pull_feeds")
        return row

    async def booked(self) -> dict[str, tuple]:
        rows = await self.umoja.rows("SELECT receipt, amount_cents, happened_at, source, found_late FROM collections")
        return {row.receipt: (row.amount_cents, row.happened_at, row.source, row.found_late) for row in rows}

    async def kinds(self) -> list[str]:
        return [case.kind for case in await self.umoja.cases()]


@pytest.fixture
def feed(umoja) -> Feed:
    return Feed(umoja)


async def test_lost_confirmations_are_found_once_marked_late_and_counted_until_confirmations_come_again(feed):
    umoja = feed.umoja
    await feed.register()
    heard, *lost = await feed.pay("000000011", "000000012", "nobody")
    await tell_by_confirmation(umoja, heard)
    await feed.sweep(700)

    assert await feed.booked() == {
        heard.receipt: (heard.cents, heard.at, "c2b", False),
        **{one.receipt: (one.cents, one.at, "pull", True) for one in lost},
    }
    assert await umoja.balance("c2b_float") == Money(600_00)
    [gauge] = await umoja.rows("SELECT * FROM feed_health")
    assert (gauge.confirmed, gauge.missed, gauge.unlisted) == (1, 2, 0)
    [case] = await umoja.cases()
    assert (case.kind, case.evidence["missed"]) == ("feed_missing_confirmations", 2)
    answers = await umoja.rows("SELECT * FROM pull_answers WHERE row_count > 0")
    for answer in answers:
        body = umoja.runtime.sealer.open(answer.body_sealed, bound_to=f"pull_answers:{answer.id}:body")
        assert heard.receipt.encode() in body
        assert heard.receipt.encode() not in bytes(answer.body_sealed)

    await umoja.work()
    assert await umoja.posted_to("loans", 12) == [(lost[0].receipt, lost[0].cents)]
    await tell_by_confirmation(umoja, *lost)
    await feed.sweep(umoja.runtime.pace.pull_every)
    assert await feed.kinds() == ["unmatched_payment"]
    assert len(await feed.booked()) == 3


@pytest.mark.parametrize(
    "faults",
    [
        {"pull_row_doubled": {"rate": 1.0}, "pull_odd_keys": {"rate": 1.0}},
        {"pull_utc_times": {"rate": 1.0}, "pull_none_is_500": {"rate": 1.0}},
        {"pull_offset_ignored": {"rate": 1.0}},
    ],
    ids="+".join,
)
async def test_whatever_the_answers_look_like_each_payment_is_booked_once_at_its_time(feed, faults):
    await feed.umoja.control("settings", {"pull_page_rows": 1000 if "pull_offset_ignored" in faults else 2})
    await feed.register()
    made = await feed.pay(*(f"{n}" for n in range(5)))
    await feed.umoja.control("faults", faults)
    await feed.sweep(700)
    await feed.sweep(1000)

    assert await feed.booked() == {one.receipt: (one.cents, one.at, "pull", True) for one in made}
    assert await feed.umoja.balance("c2b_float") == Money(1_500_00)
    assert (await feed.row()).failures == 0


@pytest.mark.parametrize("begins", ["1 hour", "9 days"])
async def test_what_is_to_be_read_again_from_before_a_pull_reaches_is_read_again_once(feed, begins):
    await feed.register()
    async with feed.umoja.runtime.engine.begin() as connection:  # as a balance gap whose first payment was five days ago
        values = {"now": feed.umoja.runtime.clock.now(), "begins": begins}
        await connection.execute(
            text(
                "UPDATE pull_feeds SET begins_at = :now - CAST(:begins AS interval), swept_to = :now, again_from = :now - interval '5 days'"
            ),
            values,
        )
    await feed.sweep(1)
    assert (await feed.row()).again_from is None


async def test_a_sweep_that_is_cut_off_within_a_window_reads_it_again(feed):
    await feed.umoja.control("settings", {"pull_page_rows": 2})
    await feed.umoja.control("faults", {"pull_fails": {"units": [f"pull:{PAY_BILL}:4"]}})
    await feed.register()
    made = await feed.pay(*(f"{n}" for n in range(5)))
    begun = (await feed.row()).swept_to
    await feed.sweep(700)
    row = await feed.row()
    assert (row.swept_to, row.failures) == (begun, 1)
    assert set(await feed.booked()) == {one.receipt for one in made[:4]}

    await feed.sweep(1000)
    row = await feed.row()
    assert (row.swept_to, row.failures) == (feed.umoja.runtime.clock.now(), 0)
    assert set(await feed.booked()) == {one.receipt for one in made}
    assert await feed.umoja.balance("c2b_float") == Money(1_500_00)


async def test_a_pull_that_keeps_failing_is_a_case_asked_ever_more_rarely_until_it_works(feed):
    await feed.register()
    await feed.umoja.control("faults", {"pull_fails": {"rate": 1.0}})
    waits = []
    feed.umoja.runtime.clock.pass_time(seconds=1)
    for _ in range(4):
        await feed.sweep()
        row = await feed.row()
        waits.append((row.next_sweep_at - feed.umoja.runtime.clock.now()).total_seconds())
        feed.umoja.runtime.clock.moment = row.next_sweep_at
    assert waits == [900, 1800, 3600, 3600]
    [case] = await feed.umoja.cases()
    assert (case.kind, case.evidence["failures"]) == ("feed_pull_failing", 3)
    assert "503" in case.evidence["cause"]

    await feed.umoja.control("faults", {"pull_fails": None})
    await feed.sweep()
    assert await feed.umoja.cases() == []
    assert (await feed.row()).failures == 0


async def test_what_grew_too_old_to_be_pulled_is_a_case_that_names_the_time(feed):
    await feed.register()
    await feed.sweep()
    swept_to = (await feed.row()).swept_to
    await feed.umoja.control("faults", {"pull_fails": {"times": 1}})
    await feed.sweep(60 * 3600)
    [case] = await feed.umoja.cases()
    assert (case.kind, case.evidence["from"]) == ("feed_window_lost", swept_to.isoformat())
    assert "import-statement" in case.evidence["do"]


async def test_a_pay_bill_that_m_pesa_does_not_answer_for_holds_back_no_other(feed, add_lender):
    other = await add_lender("beta", "600200")  # its M-Pesa is nowhere
    await feed.register()
    async with feed.umoja.runtime.engine.begin() as connection:
        row = {"short_code": "600200", "partner": other.id, "now": feed.umoja.runtime.clock.now()}
        await connection.execute(
            text("INSERT INTO pull_feeds VALUES (:short_code, :partner, :now, :now, :now, NULL, :now, 0, NULL)"), row
        )
    [one] = await feed.pay("000000011")
    await feed.sweep(700)

    assert set(await feed.booked()) == {one.receipt}
    failures = {row.short_code: row.failures for row in await feed.umoja.rows("SELECT short_code, failures FROM pull_feeds")}
    assert failures == {PAY_BILL: 0, "600200": 1}


async def test_registering_is_audited_may_be_repeated_and_wants_a_kenyan_mobile_number(feed):
    await feed.register()
    await feed.register()
    acts = await feed.umoja.rows("SELECT subject, after FROM audit_log WHERE act = 'partner.pull_registered'")
    noted = {"nominated_number": "***000", "hours_back": 0}
    assert [(act.subject, act.after) for act in acts] == [(f"umoja pay bill {PAY_BILL}", noted)] * 2
    with pytest.raises(InvalidInput, match="Kenyan mobile number"):
        await register_pull(feed.umoja.runtime, feed.umoja.connections, feed.umoja.partner, "12", actor="ops:test")


async def test_what_was_paid_before_pulling_began_is_left_to_who_had_it_then_unless_a_person_says_so(feed):
    runtime = feed.umoja.runtime
    await feed.pay("of the program before")
    runtime.clock.pass_time(hours=2)
    await feed.register()
    await feed.sweep(700)
    assert await feed.booked() == {}

    back = timedelta(hours=3)
    await register_pull(runtime, feed.umoja.connections, feed.umoja.partner, "0722000000", actor="ops:test", back=back)
    await feed.sweep()
    assert len(await feed.booked()) == 1
    with pytest.raises(InvalidInput, match="0 to 47 hours"):
        await register_pull(
            runtime, feed.umoja.connections, feed.umoja.partner, "0722000000", actor="ops:test", back=timedelta(hours=48)
        )


async def test_a_list_that_lacks_confirmed_payments_is_not_trusted(feed):
    await feed.register()
    elsewhere = [paid(f"ELSEWHERE{n}", feed.umoja.runtime.clock.now().astimezone(NAIROBI)) for n in range(5)]
    await tell_by_confirmation(feed.umoja, *elsewhere)
    await feed.sweep(700)
    assert await feed.kinds() == ["feed_pull_incomplete"]


async def test_a_row_that_a_person_has_looked_up_is_no_case_again_when_the_next_sweep_lists_it(umoja):
    async def answered(*receipts: str) -> list[str]:
        rows = [{"transactionId": receipt, "transactiontype": "Pay Bill Reversal", "amount": "1.00"} for receipt in receipts]
        body = json.dumps({"ResponseCode": "1000", "Response": [rows]}).encode()
        now = umoja.runtime.clock.now()
        question = PullQuestion(PAY_BILL, now - timedelta(hours=1), now)
        await keep_answer(umoja.runtime, umoja.partner.id, question, PullAnswer(classify_pull(Answer(200, {}, body)), 200, body))
        umoja.runtime.clock.pass_time(minutes=15)
        return [row for case in await umoja.cases() for row in case.evidence["rows"]]

    assert await answered("REVERSAL01") == ["REVERSAL01 is a Pay Bill Reversal, not a payment"]
    async with umoja.runtime.engine.begin() as connection:
        subject = ("pull_row_unreadable", f"pulled rows of pay bill {PAY_BILL}")
        assert await close_cases(connection, umoja.runtime.clock, [subject], resolution="a reversal by the lender itself") == 1
    assert await answered("REVERSAL01") == []
    assert len(await answered("REVERSAL02", "REVERSAL01")) == 2
