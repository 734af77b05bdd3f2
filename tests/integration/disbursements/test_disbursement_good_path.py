import asyncio

from tests.integration.disbursements.conftest import loan
from vault_core.clock import business_day


async def test_an_approved_loan_is_paid_posted_charged_and_told(open_day) -> None:
    async with open_day([loan(1, 1_500_000, fee_cents=45_000), loan(2, 200_000)]) as day:
        await day.fund(1000)
        (report,) = await day.poll()
        assert (report.approved, report.found, report.error) == (2, 2, None)
        sent = await day.send()
        assert sent.accepted == 2
        assert await day.states() == {1: "accepted", 2: "accepted"}
        await day.hear("b2c_result")
        assert await day.states() == {1: "paid", 2: "paid"}
        await day.post()
        assert await day.states() == {1: "disbursed", 2: "disbursed"}
        await day.text_people()
        await day.quiet()
        paid = {row["originator_conversation_id"]: row for row in await day.payments()}
        for number, cents in ((1, 1_455_000), (2, 200_000)):
            (attempt,) = await day.attempts(number)
            assert paid[attempt["originator_conversation_id"]]["amount_cents"] == cents
            assert attempt["utility_balance_cents"] is not None
        assert await day.balance("b2c_float") == -1_655_000
        assert await day.balance("loan_book") == 1_700_000
        assert await day.balance("loan_charges") == -45_000
        assert await day.balance("disbursed_unposted") == 0
        assert await day.held_cents() == 0
        # two fees of 50.00, excise of 15 % on each, M-Pesa 11.00 and 9.00 by the bands of August 2023
        assert await day.balance("fees:system", house=True) == -10_000
        assert await day.balance("tax:excise", house=True) == -1_500
        assert await day.balance("fees:mpesa", house=True) == -2_000
        lines = await day.rows("SELECT line, amount_cents FROM charge_lines WHERE charged_at IS NOT NULL AND line <> 'sms'")
        assert sum(line["amount_cents"] for line in lines) == 13_500
        assert await day.cases() == []
        assert day.ledger_findings() == []


async def test_the_client_and_the_partner_are_texted_once(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        await day.hear("b2c_result")
        await day.post()
        await day.post()
        templates = [row["template"] for row in await day.rows("SELECT template FROM messages ORDER BY template")]
        assert templates == ["disbursement_done", "loan_disbursed"]


async def test_polling_again_finds_nothing_new(open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        await day.send()
        (again,) = await day.poll()
        assert (again.approved, again.found) == (2, 0)
        assert (await day.send()).accepted == 0
        assert len(await day.payments()) == 2


async def test_a_hook_and_a_poll_of_one_loan_make_one_payment(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        body = b'{"entityName":"LOAN","actionName":"APPROVE","response":{"loanId":1,"resourceId":1}}'
        event = await day.callbacks.keep(day.partner.id, "mifos_hook", body)
        from vault_core.disbursements.detection import handle_mifos_events

        await asyncio.gather(
            handle_mifos_events(day.runtime, day.connections, [event]),
            day.poll(),
            handle_mifos_events(day.runtime, day.connections, [event]),
        )
        await day.send()
        assert len(await day.rows("SELECT id FROM disbursements")) == 1
        assert len(await day.payments()) == 1


async def test_a_hooked_loan_is_sent_at_once(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        event = await day.callbacks.keep(
            day.partner.id,
            "mifos_hook",
            b'{"officeId":1,"clientId":1,"loanId":1,"resourceId":1,"changes":{"status":{"id":200}}}',
        )
        from vault_core.disbursements.detection import handle_mifos_events

        await handle_mifos_events(day.runtime, day.connections, [event])
        assert await day.states() == {1: "accepted"}
        assert (await day.loan_row(1))["found_by"] == "hook"


async def test_two_senders_at_once_pay_each_loan_once(open_day) -> None:
    async with open_day([loan(number) for number in range(1, 41)]) as day:
        await day.fund(10_000)
        await day.poll()
        from vault_core.disbursements.batches import form_batches
        from vault_core.disbursements.sending import send_batch, send_ready

        (batch,) = await form_batches(day.runtime)
        ids = [row["id"] for row in await day.rows("SELECT id FROM disbursements")]
        reports = await asyncio.gather(
            send_batch(day.runtime, day.connections, batch.id),
            send_batch(day.runtime, day.connections, batch.id),
            send_ready(day.runtime, day.connections, ids),
        )
        assert sum(report.accepted for report in reports) == 40
        assert len(await day.payments()) == 40
        assert {row["tries"] for row in await day.rows("SELECT tries FROM disbursements")} == {1}


async def test_one_partner_that_cannot_be_polled_does_not_stop_another(open_day) -> None:
    async with open_day([loan(1)]) as day:
        async with day.runtime.engine.begin() as connection:
            from sqlalchemy import text

            await connection.execute(
                text(
                    "INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,"
                    " b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)"
                    " SELECT uuidv7(), 'broken', 'Broken', mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, '1', '2',"
                    " sms_url, sms_user, sms_sender, next_poll_at, created_at FROM partners"
                )
            )
        reports = {report.partner_name: report for report in await day.poll()}
        assert reports["alpha"].found == 1
        assert reports["broken"].error
        (row,) = await day.rows("SELECT last_poll_error FROM partners WHERE name = 'broken'")
        assert row["last_poll_error"]
        assert business_day(day.clock.now())
