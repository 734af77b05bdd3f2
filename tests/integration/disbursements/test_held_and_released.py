"""What holds a loan back, and what lets it go again."""

from datetime import timedelta

import pytest

from tests.integration.disbursements.conftest import Day, client, loan
from vault_core.clock import business_day
from vault_core.money import Money
from vault_core.partners.products import Limits, disable_product, enable_product
from vault_core.partners.states import pause_partner, resume_partner


async def alerts(day: Day) -> int:
    return len(await day.rows("SELECT id FROM messages WHERE template = 'wallet_short'"))


async def test_a_short_wallet_is_told_once_and_its_loans_go_when_it_is_funded(open_day) -> None:
    async with open_day([loan(number) for number in range(1, 6)]) as day:
        await day.poll()
        report = await day.send()
        assert (report.accepted, report.held) == (0, 5)
        assert {row["held_for"] for row in await day.rows("SELECT held_for FROM disbursements")} == {"wallet_short"}
        assert "top it up" in (await day.loan_row(1))["reason"]
        assert await alerts(day) == 1
        day.clock.pass_time(minutes=2)
        assert await day.review() == 0
        assert (await day.send()).held == 0  # no batch, no run, no second text for what is still short
        await day.fund(150)  # covers one loan's charges of about 70 shillings twice
        day.clock.pass_time(minutes=2)
        assert await day.review() == 2
        assert (await day.send()).accepted == 2
        assert await alerts(day) == 1
        await day.fund(1000, "T2")
        day.clock.pass_time(minutes=2)
        assert await day.review() == 3
        assert (await day.send()).accepted == 3
        await day.hear("b2c_result")
        assert set((await day.states()).values()) == {"paid"}
        assert len(await day.rows("SELECT id FROM wallet_alerts WHERE ended_at IS NULL")) == 0


async def test_only_charges_are_needed_never_the_loan_amount(open_day) -> None:
    async with open_day([loan(1, 15_000_000)]) as day:
        await day.fund(100)
        await day.poll()
        assert (await day.send()).accepted == 1


async def test_two_loans_of_one_person_go_one_after_the_other(open_day) -> None:
    async with open_day([loan(1), loan(2, client=1), loan(3)], [client(1), client(3)]) as day:
        await day.fund(1000)
        await day.poll()
        report = await day.send()
        assert (report.accepted, report.held) == (2, 1)
        (row,) = await day.rows("SELECT * FROM disbursements WHERE state = 'held'")  # which of the two goes first is chance
        assert row["loan_id"] in {1, 2}
        assert (row["held_for"], "is not resolved yet" in row["reason"]) == ("unresolved_payout", True)
        day.clock.pass_time(days=100)
        assert await day.review() == 0  # of any age
        await day.hear("b2c_result")
        assert await day.review() == 1
        await day.send()
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid", 2: "paid", 3: "paid"}


async def test_one_persons_two_spellings_of_a_number_are_one_payee(open_day) -> None:
    async with open_day([loan(1), loan(2)], [client(1, "0712345678"), client(2, "+254 712 345 678")]) as day:
        await day.fund(1000)
        await day.poll()
        assert (await day.send()).held == 1


@pytest.mark.parametrize(
    ("entry", "person", "held_for"),
    [
        (loan(1, 1_500_050), client(1), "cents"),
        (loan(1), client(1, "12345"), "bad_phone"),
        (loan(1), client(1, ""), "bad_phone"),
        (loan(1, 40_000), client(1), "product_limit"),
        (loan(1, 30_000_000), client(1), "product_limit"),
        (loan(1, client=None, group_name="Umoja Group"), client(1), "group_loan"),
    ],
)
async def test_a_loan_that_breaks_a_rule_is_held_with_its_reason(open_day, entry, person, held_for: str) -> None:
    entry = {key: value for key, value in entry.items() if value is not None}
    async with open_day([entry], [person]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"]) == ("held", held_for)
        assert row["reason"]
        assert await day.payments() == []


async def test_a_number_corrected_in_mifos_lets_the_loan_go(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_day([loan(1)], [client(1, "12345")]) as day:
        await day.fund(1000)
        await day.poll()
        assert (await day.loan_row(1))["held_for"] == "bad_phone"
        from vault_core.clients.mifos import MifosClient, MifosPerson

        async def corrected(_self, client_id: int) -> MifosPerson:
            return MifosPerson(client_id, "Wanjiku", "0712345678")

        monkeypatch.setattr(MifosClient, "client", corrected)
        day.clock.pass_time(minutes=6)
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        (paid,) = await _paid(day)
        assert paid["phone"] == "254712345678"


async def test_a_paused_partner_sends_nothing_until_it_is_resumed(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await pause_partner(day.runtime, day.partner.id, reason="audit", actor="ops:test")
        from vault_core.disbursements.sending import send_ready

        report = await send_ready(day.runtime, day.connections, [(await day.loan_row(1))["id"]])
        assert (report.accepted, report.held) == (0, 1)
        assert (await day.loan_row(1))["held_for"] == "partner_halted"
        day.clock.pass_time(hours=1)
        assert await day.review() == 0
        await resume_partner(day.runtime, day.partner.id, reason="done", actor="ops:test")
        assert await day.review() == 1
        assert (await day.send()).accepted == 1


async def test_a_product_disabled_after_the_loan_was_found_holds_it(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await disable_product(day.runtime, day.partner, "1", actor="ops:test")
        await day.send()
        assert (await day.loan_row(1))["held_for"] == "product_disabled"
        day.clock.pass_time(minutes=5)
        assert await day.review() == 0
        limits = Limits(Money.shillings(500), Money.shillings(200_000), None)
        await enable_product(day.runtime, day.partner, "1", limits, actor="ops:test")
        assert await day.review() == 1


async def test_a_loan_of_a_product_that_is_not_enabled_is_not_taken_in(open_day) -> None:
    products = [{"id": 1, "name": "Biashara"}, {"id": 2, "name": "Cash Loan"}]
    async with open_day([loan(1), loan(2, product=2)], products=products) as day:
        await day.poll()
        assert list(await day.states()) == [1]


async def test_the_daily_limit_of_a_product_binds_across_batches(open_day) -> None:
    async with open_day([loan(number, 1_000_000) for number in range(1, 5)]) as day:
        limits = Limits(Money.shillings(500), Money.shillings(20_000), Money.shillings(25_000))
        await enable_product(day.runtime, day.partner, "1", limits, actor="ops:test")
        await day.fund(1000)
        await day.poll()
        report = await day.send()
        assert (report.accepted, report.held) == (2, 2)
        await day.hear("b2c_result")
        held = await day.rows("SELECT held_for FROM disbursements WHERE state = 'held'")
        assert [row["held_for"] for row in held] == ["product_limit"] * 2
        day.clock.pass_time(days=1)
        await day.review()
        assert (await day.send()).accepted == 2


async def test_a_loan_withdrawn_before_it_is_paid_is_not_paid(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await _change_loan(monkeypatch, status_id=400)
        assert (await day.send()).not_sent == 1
        row = await day.loan_row(1)
        assert (row["state"], row["held_for"]) == ("held", "not_approved")
        assert await day.payments() == []
        assert await day.held_cents() == 0
        monkeypatch.undo()
        await day.poll()  # approved again
        assert await day.review() == 1
        assert (await day.send()).accepted == 1


async def test_a_loan_changed_before_it_is_paid_is_paid_as_it_stands(open_day, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await _change_loan(monkeypatch, approved_principal=Money.shillings(9000), net_disbursal=Money.shillings(9000))
        assert (await day.send()).not_sent == 1
        assert (await day.loan_row(1))["state"] == "detected"
        assert await day.review() == 1
        await day.send()
        (paid,) = await _paid(day)
        assert paid["amount_cents"] == 900_000


async def test_a_disbursal_undone_in_mifos_is_not_paid_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear("b2c_result")
        await day.post()
        undone = await day.runtime.http.post(
            f"{day.sandbox}/mifos/alpha/fineract-provider/api/v1/loans/1?command=undodisbursal",
            json={},
            auth=("mifos", "password"),
            headers={"Fineract-Platform-TenantId": "default"},
        )
        assert undone.status_code == 200, undone.text
        await day.poll()
        assert (await day.send()).accepted == 0
        assert await day.cases() == ["disbursal_undone"]
        assert len(await day.payments()) == 1


async def test_a_spike_arrest_sends_the_same_id_again(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(spike_arrest={"rate": 1.0})
        await day.poll()
        assert (await day.send()).refused == 1
        assert await day.states() == {1: "refused"}
        assert await day.review() == 0
        day.clock.pass_time(seconds=10)
        assert await day.review() == 1
        assert (await day.send()).accepted == 1
        (attempt,) = await day.attempts(1)
        assert attempt["sends"] == 2
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid"}


async def test_a_batch_whose_run_died_is_formed_anew(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        from vault_core.disbursements.batches import form_batches

        assert len(await form_batches(day.runtime)) == 1
        assert await form_batches(day.runtime) == []
        day.clock.pass_time(minutes=11)
        assert len(await form_batches(day.runtime)) == 1


async def test_phones_and_names_are_sealed(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.poll()
        dump = str(await day.rows("SELECT d::text FROM disbursements d"))
        assert "254700000001" not in dump
        assert "Wanjiku" not in dump
        assert business_day(day.clock.now()) - timedelta(days=1)


async def _paid(day: Day) -> list[dict]:
    return await day.payments()


async def _change_loan(patch: pytest.MonkeyPatch, **changes) -> None:
    from dataclasses import replace

    from vault_core.clients.mifos import MifosClient

    real = MifosClient.loan

    async def changed(self, loan_id: int):
        return replace(await real(self, loan_id), **changes)

    patch.setattr(MifosClient, "loan", changed)
