"""Taking partners in where the sandbox stands for M-Pesa and two Mifos X hosts, a new one and an old one."""

from dataclasses import replace

import httpx
import pytest

from vault_core.errors import NotUnderstood
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.products import Limits, enable_product, refresh_products
from vault_core.partners.registration import register_partner
from vault_core.partners.url_registration import ensure_mifos_hook, register_c2b_urls

USER = {"username": "paymentvault", "password": "planted-mifos-password"}
WORLD = {
    "mpesa": {
        "apps": [
            {
                "consumer_key": "planted-consumer-key",
                "consumer_secret": "planted-consumer-secret",
                "short_codes": ["3000001", "600001"],
            }
        ],
        "short_codes": {
            "3000001": {"name": "UMOJA", "initiator": "vaultapi", "security_credential": "planted-security-credential=="},
            "600001": {"name": "UMOJA COLLECTIONS"},
        },
    },
    "mifos": {
        "alpha": {
            "users": [USER],
            "savings_external_ids": True,
            "products": [{"id": 1, "name": "Biashara"}],
            "payment_types": ["Cash"],
        },
        "elder": {"users": [USER], "legacy": True, "products": [{"id": 1, "name": "Biashara"}], "payment_types": ["M-Pesa"]},
        "pages": {"users": [USER], "html": True},
    },
    "sms": {"users": [{"user": "umoja", "api_key": "planted-sms-api-key", "senders": ["UMOJA"]}]},
}


@pytest.fixture
def at(sandbox, described):
    """The partner file with the Mifos X host of that name."""
    httpx.post(f"{sandbox}/control/setup", json=WORLD, timeout=10).raise_for_status()

    def on_host(host):
        return replace(
            described,
            mifos=replace(described.mifos, url=f"{sandbox}/mifos/{host}/fineract-provider/api/v1"),
            mpesa=replace(described.mpesa, url=f"{sandbox}/daraja"),
            sms=replace(described.sms, url=f"{sandbox}/airtouch"),
        )

    return on_host


async def test_a_partner_on_a_new_mifos_is_taken_in_and_its_urls_are_known_outside(runtime, at, sandbox):
    partner = await register_partner(runtime, at("alpha"), actor="a")
    assert partner.mifos_capabilities.status_filter
    assert partner.mifos_capabilities.idempotency
    assert partner.mifos_capabilities.savings_external_ids
    connections = Connections(runtime)
    assert [product.name for product in (await refresh_products(runtime, connections, partner)).products] == ["Biashara"]
    assert (
        await enable_product(runtime, partner, "Biashara", Limits(Money.shillings(10), Money.shillings(99)), actor="a")
    ).enabled
    here = replace(runtime, public_url=f"{sandbox}/healthz")  # something that answers the GET with which Mifos X tries a hook
    made = await ensure_mifos_hook(here, connections, partner, actor="a")
    assert not (await ensure_mifos_hook(here, connections, partner, actor="a")).created
    assert made.created
    await register_c2b_urls(runtime, connections, partner, actor="a")
    await connections.aclose()


async def test_what_an_old_mifos_cannot_do_is_found_and_not_assumed(runtime, at):
    partner = await register_partner(runtime, at("elder"), actor="a")
    capabilities = partner.mifos_capabilities
    assert (capabilities.status_filter, capabilities.idempotency, capabilities.external_id_paths) == (False, False, False)
    assert capabilities.loan_external_ids


async def test_a_host_that_shows_a_web_page_is_no_mifos(runtime, at):
    with pytest.raises(NotUnderstood, match=r"Check \[mifos\] url"):
        await register_partner(runtime, at("pages"), actor="a")
