"""How a partner is shown: tables for people, JSON with stable keys for programs (docs/partners.md)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vault_cli.charges_view import bearers_text, fee_json, fee_text
from vault_core.clock import NAIROBI
from vault_core.money import Money
from vault_core.partners.description import PartnerDescription
from vault_core.partners.partner import Partner
from vault_core.partners.products import Product


def partner_json(described: PartnerDescription) -> dict[str, Any]:
    """What `vault partner show --json` prints. Keys are only ever added."""
    partner = described.partner
    return {
        "id": str(partner.id),
        "name": partner.name,
        "display_name": partner.display_name,
        "state": partner.state,
        "state_reason": partner.state_reason,
        "created_at": partner.created_at.isoformat(),
        "capabilities": partner.mifos_capabilities.to_json(),
        "mifos": {
            "url": partner.mifos_url,
            "tenant": partner.mifos_tenant,
            "user": partner.mifos_user,
            "own_ca": partner.mifos_ca_pem is not None,
            "payment_type_id": partner.mifos_payment_type_id,
            "last_poll_at": partner.last_poll_at.isoformat() if partner.last_poll_at else None,
            "last_poll_error": partner.last_poll_error,
        },
        "mpesa": {
            "url": partner.mpesa_url,
            "initiator": partner.mpesa_initiator,
            "b2c_short_code": partner.b2c_short_code,
            "c2b_short_code": partner.c2b_short_code,
            "command": partner.b2c_command,
        },
        "sms": {
            "url": partner.sms_url,
            "user": partner.sms_user,
            "sender": partner.sms_sender,
            "price_cents": described.part_price.cents,
        },
        "charges": {
            "system_fees": [fee_json(fee) for fee in described.system_fees],
            "mpesa_fee_paid_by": partner.mpesa_fee_paid_by,
            "b2c_tariff": partner.b2c_tariff,
            "c2b_bouquet": partner.c2b_bouquet,
            "c2b_fee_paid_by": partner.c2b_fee_paid_by,
            "low_balance_cents": partner.low_balance.cents,
        },
        "credentials": {purpose: set_at.isoformat() for purpose, set_at in described.credentials.items()},
        "callback_urls": described.callback_urls,
        "contacts": [
            {"role": contact.role, "name": contact.masked_name, "phone": contact.masked_phone} for contact in described.contacts
        ],
        "products": [product_json(product) for product in described.products],
    }


def summary_json(partner: Partner) -> dict[str, Any]:
    """One partner of `vault partner list --json`."""
    return {
        "id": str(partner.id),
        "name": partner.name,
        "display_name": partner.display_name,
        "state": partner.state,
        "state_reason": partner.state_reason,
        "b2c_short_code": partner.b2c_short_code,
        "c2b_short_code": partner.c2b_short_code,
        "last_poll_at": partner.last_poll_at.isoformat() if partner.last_poll_at else None,
        "last_poll_error": partner.last_poll_error,
    }


def product_json(product: Product) -> dict[str, Any]:
    """One product of `vault partner products --json`."""
    limits = product.limits
    return {
        "id": product.product_id,
        "name": product.name,
        "short_name": product.short_name,
        "currency": product.currency,
        "active_in_mifos": product.active_in_mifos,
        "enabled": product.enabled,
        "min_cents": limits.least.cents if limits else None,
        "max_cents": limits.most.cents if limits else None,
        "daily_limit_cents": limits.daily.cents if limits and limits.daily else None,
    }


def print_partner(console: Console, described: PartnerDescription) -> None:
    """The partner as tables."""
    partner = described.partner
    state = partner.state if partner.state_reason is None else f"{partner.state}: {partner.state_reason}"
    can = capabilities_text(partner)
    failed = f", failed: {partner.last_poll_error}" if partner.last_poll_error else ""
    rows = {
        "state": state,
        "Mifos X": f"{partner.mifos_url}, tenant {partner.mifos_tenant}, user {partner.mifos_user}",
        "Mifos X can": can,
        "last poll": _moment(partner.last_poll_at) + failed,
        "M-Pesa": f"{partner.mpesa_url}, initiator {partner.mpesa_initiator}, {partner.b2c_command}",
        "short codes": f"pays from {partner.b2c_short_code}, collects on {partner.c2b_short_code}",
        "SMS": f"{partner.sms_url}, user {partner.sms_user}, sender {partner.sms_sender}, {described.part_price} a part",
        "our fees": "; ".join(fee_text(fee) for fee in described.system_fees) or "none",
        "M-Pesa's fees": bearers_text(partner),
        "warn below": _amount(partner.low_balance or None),
        "contacts": "; ".join(f"{each.role} {each.masked_name} {each.masked_phone}" for each in described.contacts),
        "secrets set": ", ".join(f"{purpose} ({_moment(at)})" for purpose, at in described.credentials.items()),
    }
    facts = Table(title=f"{partner.display_name} ({partner.name})", show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in rows.items():
        facts.add_row(name, escape(value))
    console.print(facts)
    urls = Table("purpose", "callback URL", title="Callback URLs (keep them secret)")
    for purpose, url in described.callback_urls.items():
        urls.add_row(purpose, url)
    urls.columns[1].overflow = "fold"
    console.print(urls)
    print_products(console, described.products)


def capabilities_text(partner: Partner) -> str:
    """What the partner's Mifos X can do, in one line."""
    found = partner.mifos_capabilities.to_json().items()
    words = {True: "yes", False: "no", None: "unknown"}
    return ", ".join(f"{name} {words.get(value, value)}" for name, value in found)


def print_products(console: Console, products: Sequence[Product]) -> None:
    """The loan products as a table."""
    table = Table("id", "product", "currency", "in Mifos X", "paid out", "from", "to", "a day", title="Loan products")
    for product in products:
        limits = product.limits
        table.add_row(
            str(product.product_id),
            escape(product.name),
            product.currency,
            "active" if product.active_in_mifos else "[yellow]inactive[/]",
            "[green]yes[/]" if product.enabled else "no",
            _amount(limits.least if limits else None),
            _amount(limits.most if limits else None),
            _amount(limits.daily if limits else None),
        )
    console.print(table)


def print_partners(console: Console, partners: Sequence[Partner]) -> None:
    """All partners as a table."""
    table = Table("name", "partner", "state", "pays from", "collects on", "last poll")
    for partner in partners:
        state = partner.state if partner.state_reason is None else f"{partner.state}: {partner.state_reason}"
        poll = _moment(partner.last_poll_at) + (f" [red]{escape(partner.last_poll_error)}[/]" if partner.last_poll_error else "")
        table.add_row(
            partner.name, escape(partner.display_name), escape(state), partner.b2c_short_code, partner.c2b_short_code, poll
        )
    console.print(table)


def _amount(amount: Money | None) -> str:
    return "-" if amount is None else str(amount)


def _moment(at: datetime | None) -> str:
    return "never" if at is None else f"{at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
