"""Taking a partner in, on a real PostgreSQL and over real HTTP."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from vault_core.clock import business_day
from vault_core.errors import Conflict, LoginRefused, NotFound, NotUnderstood, RemoteRefusal, Unreachable
from vault_core.money import Money
from vault_core.partners.callback_urls import callback_token, callback_urls
from vault_core.partners.contacts import contacts_of
from vault_core.partners.credentials import CredentialPurpose, open_credentials
from vault_core.partners.description import describe_partner
from vault_core.partners.partner import list_partners, load_partner, load_partners
from vault_core.partners.products import list_products
from vault_core.partners.registration import register_partner
from vault_core.partners.system_fees import load_system_fees, part_price

TABLES = ("partners", "partner_credentials", "partner_contacts", "partner_products", "callback_tokens", "audit_log")


async def rows(runtime, sql, **values):
    async with runtime.engine.connect() as connection:
        return list(await connection.execute(text(sql), values))


async def assert_nothing_is_written(runtime):
    for table in TABLES:
        assert (await rows(runtime, f"SELECT count(*) FROM {table}"))[0][0] == 0, table  # noqa: S608 - names above


async def test_a_partner_is_taken_in_with_all_that_hangs_on_it(runtime, described, outside):
    partner = await register_partner(runtime, described, actor="ops:amina")
    assert (partner.name, partner.state, partner.b2c_short_code, partner.sms_sender) == (
        "umoja-credit",
        "active",
        "3000001",
        "UMOJA",
    )
    async with runtime.engine.connect() as connection:
        fees = (await load_system_fees(connection, [partner.id]))[partner.id]
    assert part_price(fees, business_day(runtime.clock.now()))[0] == Money(80)
    assert partner.mifos_capabilities.status_filter
    assert partner.mifos_capabilities.idempotency
    assert partner.mifos_payment_type_id == 7
    assert outside.payment_types == [{"id": 7, "name": "M-Pesa", "isCashPayment": False}]
    async with runtime.engine.connect() as connection:
        assert [product.name for product in await list_products(connection, partner.id)] == ["Biashara", "Mkulima", "Dollar"]
        assert not any(product.enabled for product in await list_products(connection, partner.id))
        assert [contact.phone for contact in await contacts_of(connection, runtime, partner.id)] == ["254712345678"]
        credentials = await open_credentials(connection, runtime, partner.id)
    assert credentials.secret(CredentialPurpose.MIFOS_PASSWORD) == "planted-mifos-password"
    assert credentials.secret(CredentialPurpose.SMS_API_KEY) == "planted-sms-api-key"
    acts = await rows(runtime, "SELECT actor, act, subject, partner_id FROM audit_log")
    assert acts == [("ops:amina", "partner.added", "umoja-credit", partner.id)]


async def test_the_receiver_knows_every_callback_url_by_its_hash(runtime, described):
    partner = await register_partner(runtime, described, actor="ops:amina")
    stored = {
        row.purpose: bytes(row.token_hash) for row in await rows(runtime, "SELECT purpose, token_hash FROM callback_tokens")
    }
    urls = callback_urls(runtime, partner.id)
    assert stored.keys() == urls.keys()
    for purpose, url in urls.items():
        token = callback_token(runtime.sealer, partner.id, purpose)
        assert url == f"http://127.0.0.1:8000/i/{token}{'/' if purpose == 'mifos_hook' else ''}"
        assert stored[purpose] == runtime.sealer.token_hash(token)


async def test_an_m_pesa_payment_type_that_is_there_is_used_however_spelt(runtime, described, outside):
    outside.payment_types = [
        {"id": 1, "name": "Cash", "isCashPayment": True},
        {"id": 2, "name": "M-PESA", "isCashPayment": True},
        {"id": 3, "name": "Mpesa", "isCashPayment": False},
    ]
    assert (await register_partner(runtime, described, actor="a")).mifos_payment_type_id == 3
    assert len(outside.payment_types) == 3


async def test_an_m_pesa_payment_type_marked_as_cash_is_refused(runtime, described, outside):
    outside.payment_types = [{"id": 2, "name": "M-Pesa", "isCashPayment": True}]
    with pytest.raises(Conflict, match="marked as a cash payment"):
        await register_partner(runtime, described, actor="a")
    await assert_nothing_is_written(runtime)


async def test_a_user_who_may_not_make_the_payment_type_is_told_the_permission(runtime, described, outside):
    outside.may_create_payment_types = False
    with pytest.raises(RemoteRefusal, match="CREATE_PAYMENTTYPE"):
        await register_partner(runtime, described, actor="a")
    await assert_nothing_is_written(runtime)


async def test_a_wrong_password_says_so_and_writes_nothing(runtime, described, outside):
    outside.password = "another"
    with pytest.raises(LoginRefused, match=r"Check \[mifos\] user 'paymentvault' and its password"):
        await register_partner(runtime, described, actor="a")
    await assert_nothing_is_written(runtime)


async def test_a_wrong_tenant_says_so_and_writes_nothing(runtime, described, outside):
    outside.tenant = "kenya"
    with pytest.raises(LoginRefused, match=r"Check \[mifos\] tenant: 'default'"):
        await register_partner(runtime, described, actor="a")
    await assert_nothing_is_written(runtime)


async def test_a_host_that_answers_html_says_so_and_writes_nothing(runtime, described, outside):
    outside.html = True
    with pytest.raises(NotUnderstood, match=r"did not answer as a Mifos X API does .*text/html.* Check \[mifos\] url"):
        await register_partner(runtime, described, actor="a")
    await assert_nothing_is_written(runtime)


async def test_a_host_that_does_not_answer_says_so_and_writes_nothing(runtime, described):
    nowhere = replace(described, mifos=replace(described.mifos, url="http://127.0.0.1:9/fineract-provider/api/v1"))
    with pytest.raises(Unreachable, match="cannot be reached"):
        await register_partner(runtime, nowhere, actor="a")
    await assert_nothing_is_written(runtime)


async def test_a_plain_host_behind_https_is_told_apart_from_an_untrusted_one(runtime, described):
    secure = replace(described, mifos=replace(described.mifos, url=described.mifos.url.replace("http://", "https://")))
    with pytest.raises(Unreachable, match="does not speak TLS there"):
        await register_partner(runtime, secure, actor="a")


async def test_the_same_name_again_is_a_conflict_and_asks_nothing_of_mifos(runtime, described, outside):
    await register_partner(runtime, described, actor="a")
    outside.asked.clear()
    with pytest.raises(Conflict, match="there is a partner 'umoja-credit' already"):
        await register_partner(runtime, described, actor="a")
    assert outside.asked == []


@pytest.mark.parametrize(
    ("b2c", "c2b", "key"),
    [
        ("3000001", "600009", "b2c_short_code 3000001"),
        ("3000009", "600001", "c2b_short_code 600001"),
        ("600001", "600009", "b2c_short_code 600001"),
        ("3000009", "3000001", "c2b_short_code 3000001"),
    ],
)
async def test_a_short_code_of_another_partner_is_a_conflict_whatever_it_is_used_for(runtime, described, b2c, c2b, key):
    await register_partner(runtime, described, actor="a")
    other = replace(described, name="other", mpesa=replace(described.mpesa, b2c_short_code=b2c, c2b_short_code=c2b))
    with pytest.raises(Conflict, match=rf"\[mpesa\] {key} belongs to partner 'umoja-credit'"):
        await register_partner(runtime, other, actor="a")


async def test_two_registrations_at_the_same_moment_make_one_partner(runtime, described):
    answers = await asyncio.gather(
        *(register_partner(runtime, described, actor=f"a{number}") for number in range(4)), return_exceptions=True
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == 3
    async with runtime.engine.connect() as connection:
        assert len(await list_partners(connection)) == 1


async def test_partners_are_loaded_by_name_by_id_and_in_sets(runtime, described):
    partner = await register_partner(runtime, described, actor="a")
    async with runtime.engine.connect() as connection:
        assert await load_partner(connection, name="umoja-credit") == partner
        assert await load_partner(connection, id=partner.id) == partner
        assert await load_partners(connection, [partner.id, runtime.new_id()]) == {partner.id: partner}
        with pytest.raises(NotFound, match="there is no partner umoja; partners: umoja-credit"):
            await load_partner(connection, name="umoja")


async def test_the_description_says_which_secrets_are_set_not_what_they_are(runtime, described):
    await register_partner(runtime, described, actor="a")
    shown = await describe_partner(runtime, "umoja-credit")
    assert set(shown.credentials) == {
        "mifos_password",
        "mpesa_consumer_key",
        "mpesa_consumer_secret",
        "mpesa_security_credential",
        "sms_api_key",
    }
    assert "planted" not in repr(shown).lower()
    assert [(contact.masked_name, contact.masked_phone) for contact in shown.contacts] == [("A. P.", "***678")]
