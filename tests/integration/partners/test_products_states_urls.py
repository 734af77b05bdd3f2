"""Products with their limits, pausing and resuming, and telling M-Pesa and Mifos X where we are."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from vault_core.clients.mifos import HOOK_EVENTS
from vault_core.errors import ConfigurationError, Conflict, InvalidInput, NotFound, RemoteRefusal
from vault_core.money import Money
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partner
from vault_core.partners.products import Limits, disable_product, enable_product, list_products, refresh_products
from vault_core.partners.registration import register_partner
from vault_core.partners.states import halt_partner, pause_partner, resume_partner
from vault_core.partners.url_registration import ensure_mifos_hook, register_c2b_urls

LIMITS = Limits(Money.shillings(1000), Money.shillings(50_000), Money.shillings(2_000_000))


@pytest.fixture
async def partner(runtime, described):
    return await register_partner(runtime, described, actor="a")


@pytest.fixture
async def connections(runtime):
    made = Connections(runtime)
    yield made
    await made.aclose()


async def products_of(runtime, partner):
    async with runtime.engine.connect() as connection:
        return {product.name: product for product in await list_products(connection, partner.id)}


async def acts(runtime):
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(text("SELECT actor, act, before, after, reason FROM audit_log ORDER BY ctid"))
        return [tuple(row) for row in rows if row.act != "partner.added"]


@pytest.mark.parametrize("wanted", ["1", "Biashara"])
async def test_a_product_is_enabled_by_id_or_exact_name_with_its_limits(runtime, partner, wanted):
    enabled = await enable_product(runtime, partner, wanted, LIMITS, actor="ops:amina")
    assert (enabled.product_id, enabled.enabled, enabled.limits) == (1, True, LIMITS)
    assert (await products_of(runtime, partner))["Biashara"] == enabled
    assert [act[:2] for act in await acts(runtime)] == [("ops:amina", "product.enabled")]


async def test_enabling_the_same_again_changes_nothing(runtime, partner):
    await enable_product(runtime, partner, "1", LIMITS, actor="a")
    await enable_product(runtime, partner, "1", LIMITS, actor="a")
    assert len(await acts(runtime)) == 1


async def test_a_disabled_product_keeps_its_limits_and_both_acts_are_on_record(runtime, partner):
    await enable_product(runtime, partner, "1", LIMITS, actor="a")
    disabled = await disable_product(runtime, partner, "Biashara", actor="b")
    assert (disabled.enabled, disabled.limits) == (False, LIMITS)
    (_, act, before, after, _) = (await acts(runtime))[1]
    assert (act, before["enabled"], after["enabled"], after["max_cents"]) == ("product.disabled", True, False, 5_000_000)


@pytest.mark.parametrize("wanted", ["9", "biashara", "Bia", ""])
async def test_a_product_that_is_not_there_is_named_with_those_that_are(runtime, partner, wanted):
    with pytest.raises(NotFound, match=r"there are: 1 \(Biashara\), 2 \(Mkulima\), 3 \(Dollar\)"):
        await enable_product(runtime, partner, wanted, LIMITS, actor="a")


async def test_a_name_that_two_products_share_must_be_given_by_id(runtime, partner, connections, outside):
    outside.products[1]["name"] = "Biashara"
    await refresh_products(runtime, connections, partner)
    with pytest.raises(InvalidInput, match="give one of the ids 1, 2"):
        await enable_product(runtime, partner, "Biashara", LIMITS, actor="a")


async def test_a_product_in_another_currency_is_never_enabled(runtime, partner):
    with pytest.raises(Conflict, match="is in USD"):
        await enable_product(runtime, partner, "3", LIMITS, actor="a")


@pytest.mark.parametrize(
    ("least", "most", "daily", "said"),
    [
        (9, 100, None, "M-Pesa pays from KES 10.00 to KES 250,000.00"),
        (10, 250_001, None, "M-Pesa pays from"),
        (100, 99, None, "below the lower limit"),
        (100, 1000, 999, "daily limit KES 999.00 is below"),
    ],
)
async def test_limits_that_could_never_be_paid_are_refused(runtime, partner, least, most, daily, said):
    limits = Limits(Money.shillings(least), Money.shillings(most), None if daily is None else Money.shillings(daily))
    with pytest.raises(InvalidInput, match=said):
        await enable_product(runtime, partner, "1", limits, actor="a")
    assert not (await products_of(runtime, partner))["Biashara"].enabled


async def test_a_refresh_keeps_what_was_enabled_and_says_what_is_new_and_gone(runtime, partner, connections, outside):
    await enable_product(runtime, partner, "1", LIMITS, actor="a")
    outside.products[0]["name"] = "Biashara Plus"
    outside.products[1]["status"] = "loanProduct.inActive"
    outside.products[2]["id"] = 4
    outside.products[2]["name"] = "Elimu"
    refreshed = await refresh_products(runtime, connections, partner)
    assert refreshed.new == ["Elimu"]
    assert refreshed.gone == ["Mkulima", "Dollar"]
    products = await products_of(runtime, partner)
    assert (products["Biashara Plus"].enabled, products["Biashara Plus"].limits) == (True, LIMITS)
    assert not products["Dollar"].active_in_mifos
    with pytest.raises(Conflict, match="is not active in Mifos X"):
        await enable_product(runtime, partner, "2", LIMITS, actor="a")
    again = await refresh_products(runtime, connections, partner)
    assert (again.new, again.gone) == ([], [])


async def state_of(runtime, partner):
    async with runtime.engine.connect() as connection:
        now = await load_partner(connection, id=partner.id)
    return now.state, now.state_reason


async def test_a_pause_and_a_resume_are_on_record_with_their_reasons(runtime, partner, clock):
    clock.pass_time(minutes=10)
    await pause_partner(runtime, partner.id, reason="audit", actor="ops:amina")
    assert await state_of(runtime, partner) == ("paused", "audit")
    await pause_partner(runtime, partner.id, reason="audit", actor="ops:amina")
    await resume_partner(runtime, partner.id, reason="audit over", actor="ops:brian")
    assert await state_of(runtime, partner) == ("active", None)
    assert [(actor, act, reason) for actor, act, _, _, reason in await acts(runtime)] == [
        ("ops:amina", "partner.paused", "audit"),
        ("ops:brian", "partner.resumed", "audit over"),
    ]
    async with runtime.engine.connect() as connection:
        assert (await load_partner(connection, id=partner.id)).next_poll_at == clock.now()


async def test_a_pause_needs_a_reason_and_a_partner(runtime, partner):
    with pytest.raises(InvalidInput, match="a reason is needed"):
        await pause_partner(runtime, partner.id, reason="  ", actor="a")
    with pytest.raises(NotFound):
        await pause_partner(runtime, runtime.new_id(), reason="r", actor="a")


async def test_a_halt_keeps_the_first_cause_and_does_not_hide_a_pause(runtime, partner):
    async with runtime.engine.begin() as connection:
        assert await halt_partner(connection, runtime, partner.id, reason="initiator locked", actor="system:sending")
        assert not await halt_partner(connection, runtime, partner.id, reason="another", actor="system:sending")
    assert await state_of(runtime, partner) == ("halted", "initiator locked")
    await resume_partner(runtime, partner.id, reason="unlocked", actor="a")
    await pause_partner(runtime, partner.id, reason="audit", actor="a")
    async with runtime.engine.begin() as connection:
        assert not await halt_partner(connection, runtime, partner.id, reason="initiator locked", actor="s")
    assert await state_of(runtime, partner) == ("paused", "audit")


async def test_m_pesa_is_told_the_urls_of_the_pay_bill(runtime, partner, connections, outside):
    await register_c2b_urls(runtime, connections, partner, actor="a")
    assert outside.registered == [
        {
            "ShortCode": "600001",
            "ResponseType": "Completed",
            "ConfirmationURL": callback_url(runtime, partner.id, "c2b_confirmation"),
            "ValidationURL": callback_url(runtime, partner.id, "c2b_validation"),
        }
    ]
    assert [act[1] for act in await acts(runtime)] == ["partner.c2b_urls_registered"]


async def test_urls_that_are_registered_already_say_where_to_remove_them(runtime, partner, connections, outside):
    outside.already_registered = True
    with pytest.raises(RemoteRefusal, match="URL Management"):
        await register_c2b_urls(runtime, connections, partner, actor="a")
    assert await acts(runtime) == []


async def test_a_public_url_that_daraja_refuses_is_not_even_tried(runtime, partner, connections, outside):
    with pytest.raises(ConfigurationError, match=r"hold mpesa, .*VAULT_PUBLIC_URL"):
        await register_c2b_urls(replace(runtime, public_url="https://mpesa.example.co.ke"), connections, partner, actor="a")
    assert outside.registered == []


async def test_the_hook_is_made_once(runtime, partner, connections, outside):
    made = await ensure_mifos_hook(runtime, connections, partner, actor="a")
    again = await ensure_mifos_hook(runtime, connections, partner, actor="a")
    assert (made.created, again.created, made.id, made.url) == (
        True,
        False,
        again.id,
        callback_url(runtime, partner.id, "mifos_hook"),
    )
    assert len(outside.hooks) == 1
    assert [act[1] for act in await acts(runtime)] == ["partner.mifos_hook_created"]


async def test_a_hook_that_somebody_switched_off_is_not_taken_for_good(runtime, partner, connections, outside):
    await ensure_mifos_hook(runtime, connections, partner, actor="a")
    outside.hooks[0].update({"isActive": False})
    with pytest.raises(Conflict, match="switched off"):
        await ensure_mifos_hook(runtime, connections, partner, actor="a")


async def test_a_hook_of_before_is_given_the_events_that_it_lacks_and_keeps_its_own(runtime, partner, connections, outside):
    assert (await ensure_mifos_hook(runtime, connections, partner, actor="a")).added == ()
    outside.hooks[0]["events"] = [
        {"entityName": "LOAN", "actionName": "APPROVE"},
        {"entityName": "CLIENT", "actionName": "CREATE"},
    ]
    renewed = await ensure_mifos_hook(runtime, connections, partner, actor="a")
    assert ("LOAN", "DISBURSALLASTUNDO") in renewed.added
    assert ("LOAN", "APPROVE") not in renewed.added
    sent = {(event["entityName"], event["actionName"]) for event in outside.hooks[0]["events"]}
    assert {*HOOK_EVENTS, ("CLIENT", "CREATE")} == sent
    assert (await ensure_mifos_hook(runtime, connections, partner, actor="a")).added == ()
    assert [act[1] for act in await acts(runtime)] == ["partner.mifos_hook_created", "partner.mifos_hook_renewed"]


async def test_a_hook_that_our_user_may_not_change_says_which_permission_lacks(runtime, partner, connections, outside):
    await ensure_mifos_hook(runtime, connections, partner, actor="a")
    outside.hooks[0]["events"] = []
    outside.may_change_hooks = False
    with pytest.raises(RemoteRefusal, match=r"does not send LOAN APPROVE, .*UPDATE_HOOK"):
        await ensure_mifos_hook(runtime, connections, partner, actor="a")
