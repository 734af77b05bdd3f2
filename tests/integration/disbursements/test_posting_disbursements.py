"""Posting to a Mifos X that answers in every way but the simple one: posted once, always."""

from typing import Any

import pytest

from tests.integration.disbursements.conftest import Day, loan


async def paid(day: Day) -> None:
    await day.fund(1000)
    await day.poll()
    await day.send()
    await day.hear("b2c_result")


async def disbursals(day: Day) -> list[dict[str, Any]]:
    """What Mifos X really has."""
    host = (await day.truth())["mifos"]["alpha"]
    loans = host["loans"]
    rows = loans if isinstance(loans, list) else list(loans.values())
    return [
        row for entry in rows for row in entry["transactions"] if str(row.get("kind", row.get("type"))).lower() == "disbursement"
    ]


@pytest.mark.parametrize(
    "fault",
    [
        "mifos_409_lock",
        "mifos_409_conflict",
        "mifos_425",
        "mifos_425_for_ever",
        "mifos_500_after_posting",
        "mifos_timeout_after_posting",
        "html_answer",
    ],
)
async def test_an_unclear_answer_posts_once(open_day, fault: str) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await paid(day)
        await day.control("settings", {"in_process_ms": 20})
        await day.faults(**{fault: {"units": ["loan:1"]}})
        for _ in range(6):
            await day.post()
            day.clock.pass_time(minutes=10)
        assert await day.states() == {1: "disbursed", 2: "disbursed"}
        assert len(await disbursals(day)) == 2
        assert await day.balance("disbursed_unposted") == 0
        assert await day.balance("loan_book") == 3_000_000
        assert await day.cases() == []


async def test_posting_twice_at_once_posts_once(open_day) -> None:
    import asyncio

    async with open_day([loan(1)]) as day:
        await paid(day)
        from vault_core.postings.core_posting import execute

        (posting,) = await day.rows("SELECT id FROM core_postings")
        await asyncio.gather(*(execute(day.runtime, day.connections, [posting["id"]]) for _ in range(4)))
        assert len(await disbursals(day)) == 1


async def test_what_is_refused_for_good_goes_to_a_person_with_all_that_is_needed(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        async with day.runtime.engine.begin() as connection:
            from sqlalchemy import text

            await connection.execute(text("UPDATE core_postings SET amount_cents = amount_cents + 100"))
        await day.post()
        assert await day.states() == {1: "needs_review"}
        (case,) = await day.rows("SELECT * FROM cases")
        assert case["kind"] == "disbursement_unposted"
        assert {"receipt", "loan_id", "principal", "external_id", "paid_at"} <= set(case["evidence"])
        assert await day.balance("disbursed_unposted") == 1_500_000


async def test_a_loan_that_somebody_else_disbursed_goes_to_a_person(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        body = {
            "actualDisbursementDate": (await day.loan_row(1))["approved_on"].isoformat(),
            "locale": "en",
            "dateFormat": "yyyy-MM-dd",
        }
        by_hand = await day.runtime.http.post(
            f"{day.sandbox}/mifos/alpha/fineract-provider/api/v1/loans/1?command=disburse",
            json=body,
            auth=("mifos", "password"),
            headers={"Fineract-Platform-TenantId": "default"},
        )
        assert by_hand.status_code == 200, by_hand.text
        for _ in range(3):
            await day.post()
            day.clock.pass_time(minutes=10)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]
        assert len(await disbursals(day)) == 1


async def test_tries_that_are_used_up_end_with_a_person(open_day) -> None:
    async with open_day([loan(1)]) as day:
        await paid(day)
        await day.faults(html_answer={"units": ["loan:1"], "per_unit": 100})
        for _ in range(13):
            await day.post()
            day.clock.pass_time(hours=2)
        assert await day.states() == {1: "needs_review"}
        assert await day.cases() == ["disbursement_unposted"]


async def test_the_receipt_the_phone_and_our_id_stand_in_mifos(open_day) -> None:
    async with open_day([loan(1, 1_500_000, fee_cents=45_000)]) as day:
        await paid(day)
        await day.post()
        (row,) = await disbursals(day)
        disbursement = await day.loan_row(1)
        assert row["amount_cents"] == 1_500_000
        assert row["receipt"] == disbursement["receipt"]
        assert row["external_id"] == f"pv-disburse-{disbursement['id'].hex}"
        answer = await day.runtime.http.get(
            f"{day.sandbox}/mifos/alpha/fineract-provider/api/v1/loans/1?associations=transactions",
            auth=("mifos", "password"),
            headers={"Fineract-Platform-TenantId": "default"},
        )
        (detail,) = [each["paymentDetailData"] for each in answer.json()["transactions"] if each.get("paymentDetailData")]
        assert (detail["accountNumber"], detail["paymentType"]["name"]) == ("254700000001", "M-Pesa")


async def test_an_old_server_is_posted_to_without_keys_and_read_back_by_receipt(open_day) -> None:
    async with open_day([loan(1)], legacy=True, takes_external_ids=False) as day:
        await paid(day)
        await day.faults(mifos_500_after_posting={"units": ["loan:1"]})
        for _ in range(3):
            await day.post()
            day.clock.pass_time(minutes=10)
        assert await day.states() == {1: "disbursed"}
        assert len(await disbursals(day)) == 1


async def test_an_unclear_answer_is_read_back_however_soon_its_call_comes_again(open_day, monkeypatch) -> None:
    from vault_core.clients.mifos import MifosClient
    from vault_core.outcome import Unknown

    made: list[int] = []
    real = MifosClient.disburse

    async def lost(self, loan_id, write):
        made.append(loan_id)
        await real(self, loan_id, write)
        return Unknown("no answer")

    async with open_day([loan(1)]) as day:
        await paid(day)
        monkeypatch.setattr(MifosClient, "disburse", lost)
        await day.post()
        day.clock.pass_time(minutes=1)
        await day.post()
        assert (made, await day.states()) == ([1], {1: "disbursed"})
