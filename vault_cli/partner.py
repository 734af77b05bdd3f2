"""`vault partner ...`: taking partners in and saying what is paid for them."""

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from vault_cli import partner_api_tokens
from vault_cli.float_view import float_lines
from vault_cli.halt_view import sendable_words
from vault_cli.partner_questions import Answers
from vault_cli.partner_view import (
    capabilities_text,
    partner_json,
    print_partner,
    print_partners,
    print_products,
    product_json,
    summary_json,
)
from vault_cli.session import actor, attempt, failures_told, run
from vault_core.disbursements.float_description import FloatDescription, describe_float
from vault_core.disbursements.payout_halt import Halt, halt_in_force
from vault_core.disbursements.sendable import Sendable, sendable_loans
from vault_core.disbursements.under_way import UnderWay, await_quiet
from vault_core.errors import InvalidInput, LoginRefused, NotUnderstood, Unreachable
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.credentials import CredentialPurpose, parse_purpose, remove_hook_secret, replace_credential
from vault_core.partners.description import PartnerDescription, describe_partner
from vault_core.partners.mifos_findings import check_mifos_password
from vault_core.partners.partner import Partner, list_partners, load_partner
from vault_core.partners.partner_fields import read_secret
from vault_core.partners.partner_file import PartnerFile, load_partner_file
from vault_core.partners.products import Limits, Product, disable_product, enable_product, list_products, refresh_products
from vault_core.partners.registration import register_partner, renew_capabilities
from vault_core.partners.security_credential import read_certificate, security_credential
from vault_core.partners.states import pause_partner, resume_partner
from vault_core.partners.url_registration import ensure_mifos_hook
from vault_core.partners.url_registration import register_c2b_urls as register_with_mpesa
from vault_core.runtime import Runtime

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Partners: lenders with their Mifos X, short codes, products and limits.")
app.add_typer(partner_api_tokens.app, name="api-token")
console = Console()

_HOOK_SECRET_LEAST = 32

Name = Annotated[str, typer.Argument(help="The partner's short name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command()
def add(
    file: Annotated[Path | None, typer.Argument(help="TOML file (docs/partners.md); without it every value is asked.")] = None,
) -> None:
    """Take a partner in: log in to its Mifos X, find what it can do and its loan products, seal its credentials."""
    with failures_told():
        partner, products = _add(load_partner_file(file)) if file is not None else _add_by_asking()
    console.print(f"partner [bold]{partner.name}[/] is in. Its Mifos X: {escape(capabilities_text(partner))}", highlight=False)
    print_products(console, products)
    console.print(
        f"next: vault partner enable {partner.name} PRODUCT --min 1000 --max 50000 ; vault partner hook {partner.name} ; "
        f"vault partner register-urls {partner.name}",
        highlight=False,
    )


@app.command("list")
def list_(json_: Json = False) -> None:
    """All partners."""

    async def work(runtime: Runtime) -> list[Partner]:
        async with runtime.engine.connect() as connection:
            return await list_partners(connection)

    partners = run(work)
    if json_:
        _print_json([summary_json(partner) for partner in partners])
    else:
        print_partners(console, partners)


@app.command()
def show(name: Name, json_: Json = False) -> None:
    """One partner: state, what its Mifos X can do, its float, callback URLs, products, masked contacts."""

    async def work(runtime: Runtime) -> tuple[PartnerDescription, FloatDescription]:
        described = await describe_partner(runtime, name)
        async with runtime.engine.connect() as connection:
            return described, await describe_float(connection, described.partner.id)

    described, its_float = run(work)
    if json_:
        _print_json(partner_json(described) | {"float": its_float.to_json()})
        return
    print_partner(console, described)
    for line in float_lines(its_float):
        console.print(line, highlight=False, soft_wrap=True)


@app.command()
def products(
    name: Name,
    refresh: Annotated[bool, typer.Option("--refresh", help="Read them from Mifos X first.")] = False,
    json_: Json = False,
) -> None:
    """The partner's loan products and what is paid out of them."""

    async def work(runtime: Runtime, connections: Connections, partner: Partner) -> list[Product]:
        if refresh:
            return (await refresh_products(runtime, connections, partner)).products
        async with runtime.engine.connect() as connection:
            return await list_products(connection, partner.id)

    found = _with_partner(name, work)
    if json_:
        _print_json([product_json(product) for product in found])
    else:
        print_products(console, found)


@app.command()
def enable(
    name: Name,
    product: Annotated[str, typer.Argument(help="Its id in Mifos X, or its exact name.")],
    least: Annotated[str, typer.Option("--min", help="Smallest loan to pay, in shillings.")],
    most: Annotated[str, typer.Option("--max", help="Largest loan to pay, in shillings.")],
    daily: Annotated[str | None, typer.Option("--daily-limit", help="Most to pay out a day, in shillings.")] = None,
) -> None:
    """Pay approved loans of PRODUCT from now on, within limits."""

    async def work(runtime: Runtime, _connections: Connections, partner: Partner) -> Product:
        limits = Limits(
            _shillings("--min", least), _shillings("--max", most), None if daily is None else _shillings("--daily-limit", daily)
        )
        return await enable_product(runtime, partner, product, limits, actor=actor())

    print_products(console, [_with_partner(name, work)])


@app.command()
def disable(name: Name, product: Annotated[str, typer.Argument(help="Its id in Mifos X, or its exact name.")]) -> None:
    """Pay no new loans of PRODUCT."""

    async def work(runtime: Runtime, _connections: Connections, partner: Partner) -> Product:
        return await disable_product(runtime, partner, product, actor=actor())

    print_products(console, [_with_partner(name, work)])


@app.command()
def pause(
    name: Name,
    reason: Annotated[str, typer.Option(help="Stands in the audit trail.")],
    within: Annotated[float, typer.Option(min=0, help="Seconds to wait for what is under way.")] = 60,
) -> None:
    """Pay no loans of the partner until it is resumed. Returns when none is under way any more; ends with 1 if some still are."""

    async def stop(runtime: Runtime, _connections: Connections, partner: Partner) -> list[UnderWay]:
        await pause_partner(runtime, partner.id, reason=reason, actor=actor())
        return await await_quiet(runtime, within=within, partner_id=partner.id)

    left = _with_partner(name, stop)
    console.print(f"partner {name} is paused")
    if left:
        loans = ", ".join(one.loan_account_no for one in left)
        console.print(
            f"the answers to loans {loans} are still missing: each is settled by its result or a question", markup=False
        )
        raise typer.Exit(1)


@app.command()
def resume(
    name: Name,
    reason: Annotated[str, typer.Option(help="Stands in the audit trail.")] = "resumed on the command line",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Pay the partner's loans again. What will be sent is told, and asked about, before."""

    async def look(runtime: Runtime, _connections: Connections, partner: Partner) -> tuple[list[Sendable], Halt | None]:
        async with runtime.engine.connect() as connection:
            return await sendable_loans(connection, partner.id), await halt_in_force(connection)

    goes, halt = _with_partner(name, look)
    console.print(f"goes at once: {sendable_words(goes[0])}" if goes else "nothing waits to be sent", markup=False)
    if halt is not None:
        console.print(f"not before the halt of all sending ends: {halt.words}", markup=False)
    if goes and not yes:
        typer.confirm("Resume?", abort=True)
    _with_partner(name, lambda runtime, _, partner: resume_partner(runtime, partner.id, reason=reason, actor=actor()))
    console.print(f"partner {name} is active")


@app.command("set-secret")
def set_secret(
    name: Name,
    purpose: Annotated[str, typer.Argument(help=", ".join(CredentialPurpose))],
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Keep a Mifos X password without logging in with it.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Of hook_secret: take web hooks without a signature again.")] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Of mpesa_security_credential: Safaricom's .cer file. What is asked for is the initiator's password then."
        ),
    ] = None,
) -> None:
    """Replace a secret. It is asked for, or read from standard input when that is not a terminal."""
    with failures_told():
        chosen = parse_purpose(purpose)
        if certificate is not None and chosen is not CredentialPurpose.MPESA_SECURITY_CREDENTIAL:
            raise InvalidInput(f"--certificate belongs to {CredentialPurpose.MPESA_SECURITY_CREDENTIAL}")
        if remove:
            _remove_hook_secret(name, chosen)
            return
        given = typer.prompt(purpose, hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
        try:
            secret = read_secret(given)
        except InvalidInput as error:
            raise InvalidInput(f"{purpose}: {error}") from error
        if certificate is not None:
            secret = security_credential(secret, read_certificate(certificate))
        if chosen is CredentialPurpose.HOOK_SECRET and len(secret) < _HOOK_SECRET_LEAST:
            raise InvalidInput(f"{purpose}: at least {_HOOK_SECRET_LEAST} characters, made by chance (openssl rand -hex 32)")

    async def work(runtime: Runtime, _connections: Connections, partner: Partner) -> None:
        if chosen is CredentialPurpose.MIFOS_PASSWORD and not unchecked:
            await check_mifos_password(runtime, partner, secret)
        await replace_credential(runtime, partner.id, chosen, secret, actor=actor())

    _with_partner(name, work)
    console.print(f"{chosen} of partner {name} is set; running processes use it within half a minute")


def _remove_hook_secret(name: str, purpose: CredentialPurpose) -> None:
    if purpose is not CredentialPurpose.HOOK_SECRET:
        raise InvalidInput(f"{purpose} is needed: it can be replaced, not removed")

    async def work(runtime: Runtime, _connections: Connections, partner: Partner) -> bool:
        return await remove_hook_secret(runtime, partner.id, actor=actor())

    done = "is removed: its web hooks are taken without a signature" if _with_partner(name, work) else "was not set"
    console.print(f"{purpose} of partner {name} {done}")


@app.command("register-urls")
def register_urls(name: Name) -> None:
    """Register the pay bill's confirmation and validation URLs with M-Pesa (production takes this once)."""
    _with_partner(name, lambda runtime, connections, partner: register_with_mpesa(runtime, connections, partner, actor=actor()))
    console.print(f"M-Pesa calls this installation for payments to {name}'s pay bill")


@app.command()
def probe(name: Name) -> None:
    """Find out anew what the partner's Mifos X can do, after it was upgraded."""

    async def work(runtime: Runtime, connections: Connections, partner: Partner) -> Partner:
        return await renew_capabilities(runtime, await connections.mifos(partner.id), partner, actor=actor())

    partner = _with_partner(name, work)
    console.print(f"Mifos X of {name}: {escape(capabilities_text(partner))}", highlight=False)


@app.command()
def hook(name: Name) -> None:
    """Make the web hook for loans and payments in the partner's Mifos X, or add to one that is there what it does not send."""
    made = _with_partner(
        name, lambda runtime, connections, partner: ensure_mifos_hook(runtime, connections, partner, actor=actor())
    )
    console.print(f"hook {made.id} in Mifos X {'is made' if made.created else 'is there already'}")
    if made.added:
        console.print(f"it sends now, too: {', '.join(f'{entity} {action}' for entity, action in made.added)}")


def _add(described: PartnerFile) -> tuple[Partner, list[Product]]:
    _warn_of_clear_text({"mifos": described.mifos.url, "mpesa": described.mpesa.url, "sms": described.sms.url})

    async def work(runtime: Runtime) -> tuple[Partner, list[Product]]:
        partner = await register_partner(runtime, described, actor=actor())
        async with runtime.engine.connect() as connection:
            return partner, await list_products(connection, partner.id)

    return attempt(work)


def _add_by_asking() -> tuple[Partner, list[Product]]:
    answers = Answers(console)
    answers.ask_all()
    while True:
        try:
            return _add(answers.described())
        except (InvalidInput, LoginRefused, NotUnderstood, Unreachable) as error:
            console.print(f"\n[red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
            if not typer.confirm("answer for Mifos X again?", default=True):
                raise
            answers.ask("mifos")


def _with_partner(name: str, work: Callable[[Runtime, Connections, Partner], Awaitable[T]]) -> T:
    async def session(runtime: Runtime) -> T:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        async with aclosing(Connections(runtime)) as connections:
            return await work(runtime, connections, partner)

    return run(session)


def _shillings(option: str, text: str) -> Money:
    try:
        return Money.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error}") from error


def _warn_of_clear_text(urls: dict[str, str]) -> None:
    for table, url in urls.items():
        if url.startswith("http://") and not url.startswith(("http://127.", "http://localhost", "http://[::1]")):
            console.print(f"[yellow]warning:[/] {escape(f'[{table}]')} url is plain http: its credentials travel in the clear")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
