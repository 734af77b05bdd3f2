"""`vault charges ...`: what a transaction costs and why, what a partner pays us, and who pays M-Pesa (docs/partners.md)."""

import json
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from vault_cli.charges_view import bearers_json, bearers_text, fee_json, print_fees, print_quote, quote_json
from vault_cli.moments import read_day
from vault_cli.session import actor, failures_told, run
from vault_core.clock import business_day
from vault_core.errors import ConfigurationError, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.notifications.charge_enquiry import enquire
from vault_core.partners.fee_setting import FeeBearers, FeeChange, end_fee, set_fee, set_fee_bearers
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.partner_fields import read_amount, read_percent
from vault_core.partners.system_fees import FeeTerms, SystemFee, fee_columns, load_system_fees
from vault_core.runtime import Runtime
from vault_core.wallets.charges import ChargeQuote

app = typer.Typer(no_args_is_help=True, help="Charges: quotes line by line, system fees, who pays M-Pesa's fees.")
console = Console(soft_wrap=True, highlight=False)


class Service(StrEnum):
    """What has a price of ours."""

    DISBURSEMENT = "disbursement"
    COLLECTION = "collection"
    SMS = "sms"


class Quoted(StrEnum):
    """What is charged as a whole, its text included."""

    DISBURSEMENT = "disbursement"
    COLLECTION = "collection"


Name = Annotated[str, typer.Argument(metavar="PARTNER", help="The partner's short name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]
Product = Annotated[int | None, typer.Option("--product", help="A loan product's id in Mifos X; without it every product.")]
ServiceOption = Annotated[Service, typer.Option("--service", help="What is charged; sms: a part of a text.")]
From = Annotated[
    str | None, typer.Option("--from", help="First day (year-month-day, in Nairobi) it holds on; tomorrow if left out.")
]


@app.command()
def quote(
    name: Name,
    amount: Annotated[str, typer.Argument(help="What is paid out or in, in shillings.")],
    service: Annotated[Quoted, typer.Option("--service", help="What is charged.")] = Quoted.DISBURSEMENT,
    product: Product = None,
    on: Annotated[str | None, typer.Option(help="The day in Nairobi, year-month-day; today if left out.")] = None,
    json_: Json = False,
) -> None:
    """Explain what a transaction costs, line by line: how much, from which row, and who pays it. Nothing is charged.

    JSON: {"partner", "service", "amount_cents", "day", "product", "lines": [{"line", "amount_cents", "paid_by", "from": {...}}],
    "totals": {"wallet_cents", "short_code_cents", "customer_cents"}, "confirmed"}
    """
    with failures_told():
        paid = _amount("AMOUNT", amount)
        day = None if on is None else read_day(on)
        if service is Quoted.COLLECTION and product is not None:
            raise InvalidInput("--product: a collection is charged before its loan product is known; leave it out")

    async def work(runtime: Runtime) -> tuple[Partner, str, ChargeQuote]:
        chosen = day or business_day(runtime.clock.now())
        try:
            partner, quoted = await enquire(runtime, name, service.value, paid, chosen, product_id=product)
        except ConfigurationError as error:
            raise NotFound(f"{error}; `vault tariff list` shows what there is") from error
        return partner, str(chosen), quoted

    partner, chosen, quoted = run(work)
    if json_:
        head = {"partner": partner.name, "service": service.value, "amount_cents": paid.cents, "day": chosen, "product": product}
        _print_json(head | quote_json(quoted))
    else:
        print_quote(console, f"A {service.value} of {paid} for {partner.name} on {chosen}", quoted)


@app.command()
def fees(name: Name, json_: Json = False) -> None:
    """The partner's system fees, past ones too, and who pays M-Pesa's fees.

    JSON: {"system_fees": [{"id", "service", "product_id", "flat_cents", "rate_basis_points", "min_cents", "max_cents",
    "valid_from", "valid_to", "set_by"}], "mpesa_fees": {"mpesa_fee_paid_by", "b2c_tariff", "c2b_bouquet", "c2b_fee_paid_by"}}
    """

    async def work(runtime: Runtime) -> tuple[Partner, tuple[SystemFee, ...]]:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
            return partner, (await load_system_fees(connection, [partner.id]))[partner.id]

    partner, found = run(work)
    if json_:
        _print_json({"system_fees": [fee_json(fee) for fee in found], "mpesa_fees": bearers_json(partner)})
    else:
        print_fees(console, partner, found)


@app.command("set-fee")
def set_fee_(
    name: Name,
    service: ServiceOption,
    product: Product = None,
    flat: Annotated[str, typer.Option(help="The fee, in shillings.")] = "0",
    percent: Annotated[str, typer.Option(help="Percentage of the amount, besides, at most two decimals.")] = "0",
    least: Annotated[str, typer.Option("--min", help="Least fee, in shillings.")] = "0",
    most: Annotated[str | None, typer.Option("--max", help="Greatest fee, in shillings.")] = None,
    from_: From = None,
    json_: Json = False,
) -> None:
    """Set our price for a service from a day on; the one in force ends there. Audited; a repeat changes nothing.

    JSON: {"fee": {...} or null, "valid_from", "former": {...} or null, "repeated"}
    """
    with failures_told():
        try:
            terms = FeeTerms(
                service=service.value,
                product_id=product,
                flat=_amount("--flat", flat),
                rate_basis_points=_percent(percent),
                least=_amount("--min", least),
                most=None if most is None else _amount("--max", most),
            )
        except InvalidInput as error:
            raise InvalidInput(f"this fee cannot be meant: {error}") from error
        day = None if from_ is None else read_day(from_)

    async def work(runtime: Runtime) -> FeeChange:
        partner = await _partner(runtime, name)
        return await set_fee(runtime, partner, terms, day or _tomorrow(runtime), actor=actor())

    _tell(name, run(work), json_=json_)


@app.command("end-fee")
def end_fee_(
    name: Name,
    service: ServiceOption,
    product: Product = None,
    from_: From = None,
    json_: Json = False,
) -> None:
    """End a fee: from the day on a product costs what its service does, a service nothing. Audited.

    JSON: as set-fee, with "fee" null
    """
    with failures_told():
        day = None if from_ is None else read_day(from_)

    async def work(runtime: Runtime) -> FeeChange:
        partner = await _partner(runtime, name)
        return await end_fee(runtime, partner, service.value, product, day or _tomorrow(runtime), actor=actor())

    _tell(name, run(work), json_=json_)


@app.command("who-pays")
def who_pays(
    name: Name,
    payouts: Annotated[str | None, typer.Option(help="Who pays M-Pesa's fee for payouts: wallet or short_code.")] = None,
    b2c_tariff: Annotated[str | None, typer.Option(help="M-Pesa's list for payouts: b2c or b2c_withdrawal_paid.")] = None,
    bouquet: Annotated[str | None, typer.Option(help="The pay bill's bouquet: business, mgao or customer.")] = None,
    collections: Annotated[
        str | None, typer.Option(help="Who pays the business's part of the pay bill fee: short_code or wallet.")
    ] = None,
    json_: Json = False,
) -> None:
    """Say or change who pays M-Pesa's fees, for what is charged from now on. It must be as Safaricom has the short codes.

    JSON: {"mpesa_fee_paid_by", "b2c_tariff", "c2b_bouquet", "c2b_fee_paid_by"}
    """

    async def work(runtime: Runtime) -> Partner:
        wanted = FeeBearers(payouts, b2c_tariff, bouquet, collections)
        return await set_fee_bearers(runtime, await _partner(runtime, name), wanted, actor=actor())

    partner = run(work)
    if json_:
        _print_json(bearers_json(partner))
    else:
        console.print(f"M-Pesa's fees of {partner.name}: {bearers_text(partner)}", markup=False)


async def _partner(runtime: Runtime, name: str) -> Partner:
    async with runtime.engine.connect() as connection:
        return await load_partner(connection, name=name)


def _tomorrow(runtime: Runtime) -> date:
    return business_day(runtime.clock.now()) + timedelta(days=1)


def _amount(what: str, text: str) -> Money:
    try:
        return read_amount(text)
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from error


def _percent(text: str) -> int:
    try:
        return read_percent(text)
    except InvalidInput as error:
        raise InvalidInput(f"--percent: {error}") from error


def _tell(name: str, done: FeeChange, *, json_: bool) -> None:
    if json_:
        _print_json(
            {
                "fee": None if done.terms is None else fee_columns(done.terms),
                "valid_from": str(done.valid_from),
                "former": None if done.former is None else fee_json(done.former),
                "repeated": done.repeated,
            }
        )
        return
    if done.repeated:
        console.print(f"{name} pays this since {done.valid_from} already: {done.terms}", markup=False)
        return
    if done.terms is not None:
        console.print(f"{name} pays {done.terms} a {done.terms.service} from {done.valid_from} on", markup=False)
    if done.former is not None:
        console.print(
            f"ended before {done.valid_from}: {done.former.terms}, in force from {done.former.valid_from}", markup=False
        )


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
