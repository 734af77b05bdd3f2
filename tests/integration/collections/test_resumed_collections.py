from dataclasses import replace

from sqlalchemy import text

from vault_core.collections.proof import collections_findings
from vault_core.collections.resuming import resume_collections
from vault_core.money import Money
from vault_core.settings import Pace


async def we_are_of_the_tenant(umoja, tenant):
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE partners SET mifos_tenant = :tenant"), {"tenant": tenant})
    umoja.connections.forget(umoja.partner.id)


async def test_payments_that_mifos_x_would_not_let_us_post_are_posted_once_they_are_taken_up_again(umoja):
    await we_are_of_the_tenant(umoja, "nobody")
    umoja.runtime = replace(umoja.runtime, pace=Pace(outbox_max_tries=1))
    await umoja.pay("R1", 500_00, "000000011")
    await umoja.pay("R2", 600_00, "000000022")
    await umoja.work()
    assert {row.state for row in await umoja.rows("SELECT state FROM collections")} == {"needs_review"}

    await we_are_of_the_tenant(umoja, umoja.partner.mifos_tenant)
    taken = await resume_collections(umoja.runtime, "umoja", actor="ops:jane", reason="Mifos X is back")
    await umoja.work()

    assert taken == ["R1", "R2"]
    assert {row.state for row in await umoja.rows("SELECT state FROM collections")} == {"posted"}
    assert await umoja.posted_to("loans", 11) == [("R1", 500_00)]
    assert await umoja.cases() == []
    assert await umoja.balance("collected_unposted") == Money(0)
    assert [row.actor for row in await umoja.rows("SELECT actor FROM audit_log WHERE act = 'collections.resumed'")] == [
        "ops:jane"
    ]
    assert await collections_findings(umoja.runtime.engine) == []


async def test_a_payment_that_was_posted_unseen_is_not_posted_again_when_it_is_taken_up(umoja):
    await umoja.control("settings", {"hang_ms": 50})
    await umoja.control("faults", {"mifos_timeout_after_posting": {"rate": 1.0, "per_unit": 1}})
    umoja.runtime = replace(umoja.runtime, pace=Pace(outbox_max_tries=1))
    await umoja.pay("R1", 500_00, "000000011")
    await umoja.work()
    assert (await umoja.collection("R1")).state == "needs_review"

    assert await resume_collections(umoja.runtime, "umoja", actor="ops:jane", reason="look", receipts=["R1"]) == ["R1"]
    await umoja.work()

    assert await umoja.posted_to("loans", 11) == [("R1", 500_00)]
    assert (await umoja.collection("R1")).state == "posted"


async def test_payments_that_are_posted_or_in_suspense_are_not_taken_up(umoja):
    await umoja.pay("R1", 500_00, "000000011")
    await umoja.pay("R2", 500_00, "nobody")
    await umoja.work()

    assert await resume_collections(umoja.runtime, "umoja", actor="ops:jane", reason="look") == []
    assert await resume_collections(umoja.runtime, "other", actor="ops:jane", reason="look") == []
    assert [one.kind for one in await umoja.cases()] == ["unmatched_payment"]


async def test_a_payment_that_cannot_be_opened_holds_back_none_of_its_batch(umoja):
    import pytest

    from vault_core.errors import SealBroken

    for n in range(3):
        await umoja.pay(f"R{n}", 500_00, "000000011")
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE collections SET bill_reference_sealed = '\\x00' WHERE receipt = 'R1'"))
    with pytest.raises(SealBroken):
        await umoja.work()

    assert [row.state for row in await umoja.rows("SELECT state FROM collections ORDER BY receipt")] == [
        "posted",
        "matching",
        "posted",
    ]


async def test_the_proof_finds_a_suspended_payment_whose_case_was_closed_and_money_that_lost_its_payment(umoja):
    await umoja.pay("R1", 500_00, "nobody")
    await umoja.pay("R2", 600_00, "000000011")
    await umoja.work()
    await umoja.pay("R3", 700_00, "000000011")
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE cases SET closed_at = opened_at, resolution = 'by hand'"))
        await connection.execute(text("UPDATE collections SET state = 'posted' WHERE receipt = 'R3'"))

    found = await collections_findings(umoja.runtime.engine)

    assert [(one.check, one.where) for one in found] == [
        ("suspense_has_cases", "partner umoja"),
        ("unposted_is_on_its_way", "partner umoja"),
    ]
    assert "KES 500.00 in suspense, but KES 0.00" in found[0].what
