"""What a partner's people are told about its wallet, on a real ledger."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from vault_core.clock import business_day, day_bounds
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post, reversal_of
from vault_core.money import Money
from vault_core.notifications.attempts import write_attempts
from vault_core.notifications.messages import text_binding
from vault_core.notifications.segments import parts
from vault_core.notifications.sending import send_messages
from vault_core.notifications.wallet_texts import pay_in_text, watch_wallets
from vault_core.outbox.calls import claim_calls
from vault_core.partners.contacts import Contact, write_contacts
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime
from vault_core.wallets.low_balance import Burn, load_burns
from vault_core.wallets.topup import record_topup
from vault_core.wallets.wallet import load_wallet

OPERATIONS, FINANCE = "254712000001", "254712000002"


@pytest.fixture
async def partner(runtime: Runtime, lender: Partner) -> Partner:
    people = [Contact("operations", "Achieng Ops", OPERATIONS), Contact("finance", "Njeri Fin", FINANCE)]
    async with runtime.engine.begin() as connection:
        await write_contacts(connection, runtime, lender.id, people)
    await set_threshold_of(runtime, lender, 5_000)
    return lender


async def set_threshold_of(runtime: Runtime, partner: Partner, shillings: int) -> None:
    async with runtime.engine.begin() as connection:
        update = text("UPDATE partners SET low_balance_cents = :cents WHERE id = :id")
        await connection.execute(update, {"id": partner.id, "cents": shillings * 100})


async def fund(runtime: Runtime, partner: Partner, shillings: int) -> None:
    reference = runtime.new_id().hex
    await record_topup(runtime, partner.id, Money.shillings(shillings), reference, "ops:test", "test")


async def charge(runtime: Runtime, partner: Partner, shillings: int, kind: str = "charges", **ago: float) -> UUID:
    """Takes money from the wallet (gives it, if negative), that long ago."""
    key = runtime.new_id().hex
    legs = (
        Leg(AccountRef(partner.id, "wallet"), shillings * 100),
        Leg(AccountRef(None, "fees:system"), -shillings * 100),
    )
    posting = Posting(partner.id, kind, key, key, runtime.clock.now() - timedelta(**ago), legs)
    async with runtime.engine.begin() as connection:
        (transaction_id,) = await post(connection, runtime, [posting])
    return transaction_id


async def texts(runtime: Runtime, states: tuple[str, ...] = ("queued",)) -> list[str]:
    async with runtime.engine.connect() as connection:
        query = text("SELECT id, text_sealed, parts FROM messages WHERE state = ANY(:states) ORDER BY created_at, id")
        rows = (await connection.execute(query, {"states": list(states)})).all()
    bodies = [runtime.sealer.open_text(row.text_sealed, bound_to=text_binding(row.id)) for row in rows]
    assert [row.parts for row in rows] == [parts(body) for body in bodies]
    return bodies


async def calls(runtime: Runtime) -> list:
    async with runtime.engine.connect() as connection:
        ids = (await connection.execute(text("SELECT id FROM outbox WHERE kind = 'message.send'"))).scalars().all()
    return await claim_calls(runtime, ids)


async def test_a_wallet_that_falls_under_its_threshold_is_told_with_what_to_pay_in(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 6_000)
    assert await watch_wallets(runtime) == 0
    await charge(runtime, partner, 1_200)
    assert await watch_wallets(runtime) == 1
    (told,) = await texts(runtime)
    assert told == (
        "Alpha Credit: Payment Vault wallet KES 4,800.00, under your KES 5,000.00. Recommended top-up KES 12,000.00. "
        "Pay in by bank transfer, quoting alpha."
    )
    async with runtime.engine.connect() as connection:
        hashes = (await connection.execute(text("SELECT phone_hash FROM messages"))).scalars().all()
    assert hashes == [runtime.sealer.lookup_hash(OPERATIONS, purpose="phone")]


async def test_with_a_portal_the_text_carries_the_whole_link_to_the_topup_page(runtime: Runtime, partner: Partner) -> None:
    portal = "https://portal.a-rather-long-name-of-a-lender.example.co.ke/payments"
    await fund(runtime, partner, 4_000)
    await watch_wallets(replace(runtime, portal_url=portal))
    (told,) = await texts(runtime)
    assert told.endswith(f"Top up: {portal}/wallets/alpha/top-up")


def test_the_longest_link_that_can_be_set_is_not_cut() -> None:
    portal, name = "https://" + "p" * 72, "n" * 41
    assert pay_in_text(name, portal) == f"Top up: {portal}/wallets/{name}/top-up"


async def test_a_balance_that_wavers_about_the_line_is_told_once(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 5_100)
    for _ in range(3):
        await charge(runtime, partner, 200)
        await watch_wallets(runtime)
        await fund(runtime, partner, 200)
        await watch_wallets(runtime)
    assert len(await texts(runtime)) == 1


async def test_the_next_crossing_after_the_end_is_told_again(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 4_999)
    assert await watch_wallets(runtime) == 1
    assert await watch_wallets(runtime) == 0
    await fund(runtime, partner, 1_001)  # 6,000: a fifth above
    assert await watch_wallets(runtime) == 1
    assert await watch_wallets(runtime) == 0
    await charge(runtime, partner, 1_001)
    assert await watch_wallets(runtime) == 1
    assert len(await texts(runtime, ("queued", "withdrawn"))) == 2


async def test_held_money_counts_as_gone(runtime: Runtime, partner: Partner) -> None:
    from vault_core.ledger.holds import HoldRequest, place_holds

    await fund(runtime, partner, 6_000)
    request = HoldRequest(AccountRef(partner.id, "wallet"), partner.id, "k", Money.shillings(1_500))
    async with runtime.engine.begin() as connection:
        await place_holds(connection, runtime, [request])
    await watch_wallets(runtime)
    assert "wallet KES 4,500.00, under" in (await texts(runtime))[0]


async def test_a_dip_that_was_over_before_the_look_is_not_told(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 6_000)
    await charge(runtime, partner, 2_000)
    await fund(runtime, partner, 2_000)
    assert await watch_wallets(runtime) == 0
    assert await texts(runtime) == []


async def test_a_dip_that_is_over_before_the_gateway_took_the_text_is_not_told_late(
    runtime: Runtime, partner: Partner, outside
) -> None:
    await fund(runtime, partner, 4_000)
    await watch_wallets(runtime)
    await fund(runtime, partner, 2_000)
    await watch_wallets(runtime)
    assert len(await texts(runtime, ("withdrawn",))) == 1
    await send_messages(runtime, outside, await calls(runtime))
    assert outside.gateway.sent == []
    assert await calls(runtime) == []  # nor at any later time


async def test_a_text_that_is_being_sent_when_the_dip_ends_is_not_withdrawn(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 4_000)
    await watch_wallets(runtime)
    async with runtime.engine.begin() as connection:
        await write_attempts(connection, runtime, await calls(runtime))
    await fund(runtime, partner, 2_000)
    assert await watch_wallets(runtime) == 1
    assert len(await texts(runtime, ("queued",))) == 1  # its answer settles it, and its charge


async def test_two_workers_at_once_tell_once(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 4_000)
    assert sum(await asyncio.gather(*(watch_wallets(runtime) for _ in range(6)))) == 1
    assert len(await texts(runtime)) == 1


async def test_a_wallet_that_never_had_money_is_not_told_that_it_is_low(runtime: Runtime, partner: Partner) -> None:
    assert partner
    assert await watch_wallets(runtime) == 0


async def test_a_partner_that_wants_no_alert_gets_none_and_an_open_one_ends(runtime: Runtime, partner: Partner) -> None:
    await fund(runtime, partner, 4_000)
    await watch_wallets(runtime)
    await set_threshold_of(runtime, partner, 0)
    assert await watch_wallets(runtime) == 1
    assert await watch_wallets(runtime) == 0
    async with runtime.engine.connect() as connection:
        assert (await load_wallet(connection, partner.id)).low_since is None


async def test_a_partner_whose_people_cannot_be_told_holds_back_no_other(runtime: Runtime, partner: Partner, add_lender) -> None:
    other = await add_lender("beta", "600200")
    async with runtime.engine.begin() as connection:
        await write_contacts(connection, runtime, other.id, [Contact("finance", "B", FINANCE)])
        await connection.execute(
            text("UPDATE partner_contacts SET phone_sealed = name_sealed WHERE partner_id = :id"), {"id": partner.id}
        )
    await set_threshold_of(runtime, other, 5_000)
    for one in (partner, other):
        await fund(runtime, one, 4_000)
    assert await watch_wallets(runtime) == 1
    (told,) = await texts(runtime)
    assert told.startswith("Beta Credit:")
    async with runtime.engine.connect() as connection:
        assert (await load_wallet(connection, partner.id)).low_since is None  # so that it is tried again


async def burn(runtime: Runtime, partner: Partner) -> Burn:
    async with runtime.engine.connect() as connection:
        return (await load_burns(connection, runtime.clock.now(), [partner.id]))[partner.id]


async def test_burn_is_what_was_charged_in_seven_nairobi_days_net_of_reversals(runtime: Runtime, partner: Partner, clock) -> None:
    clock.moment = day_bounds(business_day(clock.moment) - timedelta(days=7))[0] + timedelta(hours=23)
    await fund(runtime, partner, 50_000)
    await charge(runtime, partner, 9_000)  # a day too early to count
    clock.pass_time(hours=1)
    await charge(runtime, partner, 100)
    clock.pass_time(days=3)
    undone = await charge(runtime, partner, 400)
    await charge(runtime, partner, 7, "sms")
    await charge(runtime, partner, 5_000, "correction")
    clock.pass_time(days=3, hours=20)  # the evening of the seventh day
    async with runtime.engine.begin() as connection:
        await post(
            connection, runtime, [await reversal_of(connection, undone, key="r", effective_at=clock.moment, why="charged twice")]
        )
    assert await burn(runtime, partner) == Burn(Money.shillings(107), 7)


async def test_a_young_wallet_is_averaged_over_its_own_days_and_an_unused_one_burns_nothing(
    runtime: Runtime, partner: Partner, clock
) -> None:
    assert (await burn(runtime, partner)).daily == Money(0)
    clock.moment = day_bounds(business_day(clock.moment) - timedelta(days=2))[0] + timedelta(hours=12)
    await fund(runtime, partner, 1_000)
    assert await burn(runtime, partner) == Burn(Money(0), 1)
    clock.pass_time(days=2)
    await charge(runtime, partner, 90)
    assert await burn(runtime, partner) == Burn(Money.shillings(90), 3)
