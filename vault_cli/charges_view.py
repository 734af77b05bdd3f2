"""How charges are shown: tables for people, JSON with stable keys for programs (docs/partners.md)."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.partners.system_fees import SystemFee, fee_columns, percent_text
from vault_core.wallets.charges import ByBand, ByParts, ByRule, ChargeQuote, Due

_WORDS = {"mpesa_fee": "M-Pesa fee", "system_fee": "system fee", "excise": "excise duty", "sms": "SMS"}
_PAYERS = {"wallet": "the wallet", "short_code": "the short code", "customer": "the customer"}


def fee_json(fee: SystemFee) -> dict[str, Any]:
    """A system fee. Keys are only ever added."""
    return {
        "id": str(fee.id),
        **fee_columns(fee.terms),
        "valid_from": str(fee.valid_from),
        "valid_to": None if fee.valid_to is None else str(fee.valid_to),
        "set_by": fee.set_by,
    }


def fee_text(fee: SystemFee) -> str:
    """A system fee in one line."""
    service = "text part" if fee.terms.service == "sms" else fee.terms.service
    of = service if fee.terms.product_id is None else f"{service} of product {fee.terms.product_id}"
    return f"a {of}: {fee.terms}, from {fee.valid_from}{f' to before {fee.valid_to}' if fee.valid_to else ''}"


def bearers_text(partner: Partner) -> str:
    """Who pays M-Pesa's fees, in one line."""
    return (
        f"payouts ({partner.b2c_tariff}) paid by {_PAYERS[partner.mpesa_fee_paid_by]}; "
        f"payments in ({partner.c2b_bouquet} bouquet) paid by {_business_part(partner)}"
    )


def bearers_json(partner: Partner) -> dict[str, str]:
    """Who pays M-Pesa's fees."""
    return {
        "mpesa_fee_paid_by": partner.mpesa_fee_paid_by,
        "b2c_tariff": partner.b2c_tariff,
        "c2b_bouquet": partner.c2b_bouquet,
        "c2b_fee_paid_by": partner.c2b_fee_paid_by,
    }


def print_fees(console: Console, partner: Partner, fees: tuple[SystemFee, ...]) -> None:
    """The fees as a table, and who pays M-Pesa's."""
    table = Table("service", "product", "fee", "from", "to before", "set by", title=f"System fees of {escape(partner.name)}")
    for fee in fees:
        table.add_row(
            fee.terms.service,
            "all" if fee.terms.product_id is None else str(fee.terms.product_id),
            escape(str(fee.terms)),
            str(fee.valid_from),
            str(fee.valid_to or "-"),
            escape(fee.set_by),
        )
    console.print(table)
    console.print(f"M-Pesa's fees: {bearers_text(partner)}", markup=False)


def quote_json(quoted: ChargeQuote) -> dict[str, Any]:
    """A quote: its lines, and who pays how much. Keys are only ever added."""
    return {
        "lines": [
            {"line": due.line, "amount_cents": due.amount.cents, "paid_by": due.paid_by, "from": _source_json(due)}
            for due in quoted.dues
        ],
        "totals": {f"{payer}_cents": quoted.paid_by(payer).cents for payer in ("wallet", "short_code", "customer")},
        "confirmed": quoted.confirmed,
    }


def print_quote(console: Console, title: str, quoted: ChargeQuote) -> None:
    """The quote as a table, line by line."""
    table = Table("line", "amount", "paid by", "because", title=escape(title))
    table.columns[1].justify = "right"
    table.columns[3].overflow = "fold"
    for due in quoted.dues:
        table.add_row(_WORDS[due.line], str(due.amount), _PAYERS[due.paid_by], escape(source_text(due)))
    console.print(table)
    for payer in ("wallet", "short_code", "customer"):
        console.print(f"{_PAYERS[payer]} pays {quoted.paid_by(payer)}", markup=False)
    if not quoted.confirmed:
        console.print("[yellow]unconfirmed:[/] a price above stands in no source; vault tariff show tells why")


def source_text(due: Due) -> str:
    """Where the price of a line came from, in words."""
    match due.source:
        case ByBand(tariff=tariff, band=band, excise_inside=inside):
            what = (
                f"{percent_text(band.rate_basis_points)} % of the {'system fee' if due.line == 'excise' else 'amount'}"
                if band.rate_basis_points
                else _band_text(band.low, band.high)
            )
            excise = f", of it excise {inside}" if inside else ""
            mark = "" if band.confirmed else f" UNCONFIRMED: {band.note}."
            return f"{tariff.name}, {what}{excise}.{mark} Source: {tariff.source}"
        case ByRule(fee=fee):
            return "no system fee is set for it" if fee is None else f"{fee_text(fee)} (fee {fee.id})"
        case ByParts(parts=parts, price=price, fee=fee):
            row = "no price is set" if fee is None else f"from {fee.valid_from}, fee {fee.id}"
            return f"{parts} {'part' if parts == 1 else 'parts'} at {price} ({row}), when the gateway accepts the text"


def _band_text(low: Money, high: Money) -> str:
    return f"band {low} to {high}"


def _source_json(due: Due) -> dict[str, Any]:
    match due.source:
        case ByBand(tariff=tariff, band=band, excise_inside=inside):
            return {
                "provider": tariff.provider,
                "product": tariff.product,
                "valid_from": str(tariff.valid_from),
                "source": tariff.source,
                "tariff_band_id": band.id,
                "band_from_cents": band.low.cents,
                "band_to_cents": band.high.cents,
                "rate_basis_points": band.rate_basis_points,
                "confirmed": band.confirmed,
                "excise_inside_cents": inside.cents,
            }
        case ByRule(fee=fee):
            return {"system_fee": None if fee is None else fee_json(fee)}
        case ByParts(parts=parts, price=price, fee=fee):
            return {
                "parts": parts,
                "part_price_cents": price.cents,
                "system_fee": None if fee is None else fee_json(fee),
            }


def _business_part(partner: Partner) -> str:
    payer = _PAYERS[partner.c2b_fee_paid_by]
    return {
        "business": "the customer",
        "mgao": f"the customer and, its part, {payer}",
        "customer": payer,
    }[partner.c2b_bouquet]
