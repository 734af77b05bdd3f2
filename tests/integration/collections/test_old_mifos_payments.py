"""Payments to a lender on Mifos X 1.4, which takes a deposit as often as it comes and finds nothing by an external id."""

import asyncio

import pytest

from vault_core.collections.proof import collections_findings
from vault_core.money import Money
from vault_core.partners.registration import renew_capabilities


@pytest.fixture
async def old(umoja):
    """Umoja, whose server turned out to be such a one at the last probe."""
    await umoja.control("setup", {"mifos": {"alpha": {"oldest": True}}})
    client = await umoja.connections.mifos(umoja.partner.id)
    found = (await renew_capabilities(umoja.runtime, client, umoja.partner, actor="ops:test")).mifos_capabilities
    assert (found.idempotency, found.loan_external_ids, found.savings_external_ids) == (False, True, False)
    umoja.connections.forget(umoja.partner.id)
    return umoja


@pytest.mark.parametrize("fault", ["mifos_timeout_after_posting", "mifos_500_after_posting"])
async def test_payments_whose_answers_are_lost_are_posted_once_each_by_two_workers(old, fault):
    await old.control("settings", {"hang_ms": 50})
    await old.control("faults", {fault: {"units": ["loan:11", "savings:22"], "per_unit": 2}})
    for account in (11, 22):
        for number in range(3):
            await old.pay(f"R{account}{number}", 100_00, f"{account:09d}")
    for _ in range(12):
        await asyncio.gather(old.work(), old.work())
        old.runtime.clock.pass_time(minutes=10)

    for kind, account in (("loans", 11), ("savings", 22)):
        assert sorted(await old.posted_to(kind, account)) == [(f"R{account}{number}", 100_00) for number in range(3)]
    read_back = await old.rows("SELECT account_id FROM core_postings WHERE last_answer = 'found by reading back' ORDER BY 1")
    assert [row.account_id for row in read_back] == [11, 11, 22, 22]
    posted = (await old.truth())["mifos"]["alpha"]["savings"]["22"]["transactions"]
    assert {one["external_id"] for one in posted} == {None}
    assert (await old.balance("collected_unposted"), await old.cases()) == (Money(0), [])
    assert await collections_findings(old.runtime.engine) == []


async def test_a_deposit_that_reads_back_twice_goes_to_a_person(old):
    await old.control("faults", {"mifos_500_after_posting": {"units": ["savings:22"]}})
    await old.pay("R1", 500_00, "000000022")
    await old.work()
    entered = {"transactionDate": old.runtime.clock.now().date().isoformat(), "transactionAmount": "500", "receiptNumber": "R1"}
    answer = await old.runtime.http.post(
        f"{old.sandbox}/mifos/alpha/fineract-provider/api/v1/savingsaccounts/22/transactions?command=deposit",
        json={**entered, "paymentTypeId": 1, "locale": "en", "dateFormat": "yyyy-MM-dd"},
        headers={"Fineract-Platform-TenantId": "default"},
        auth=("vault", "planted-password"),
    )
    assert answer.status_code == 200
    old.runtime.clock.pass_time(hours=1)
    await old.work()

    [case] = await old.cases()
    assert (case.kind, case.amount) == ("collection_not_posted", Money(500_00))
    assert "it is posted 2 times" in str(case.evidence)
    assert len(await old.posted_to("savings", 22)) == 2
