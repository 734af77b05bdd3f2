"""`vault partner collections NAME`: how its payments find their account, and what M-Pesa is told before it takes one."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from vault_cli.session import actor, run
from vault_core.errors import InvalidInput
from vault_core.partners.collection_settings import (
    CollectionSettings,
    load_collection_settings,
    read_prefixes,
    read_rules,
    set_collection_settings,
)
from vault_core.partners.partner import load_partner
from vault_core.partners.partner_fields import read_amount
from vault_core.runtime import Runtime

console = Console(soft_wrap=True, highlight=False)

_NONE = "none"
_OVERPAYMENTS = {
    "post_all": "all to the loan",
    "to_savings": "the rest to the client's one open savings account",
    "hold": "in suspense, for a person",
}


def collections(
    name: Annotated[str, typer.Argument(help="The partner's short name.")],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="A rule, or several that compete joined by +; given again: the next, in order. All rules are replaced."
        ),
    ] = None,
    prefix: Annotated[list[str] | None, typer.Option(help="PREFIX=loan, savings or client; all prefixes are replaced.")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Answer M-Pesa's questions by these rules: on or off (always yes).")
    ] = None,
    when_unknown: Annotated[str | None, typer.Option(help="Where it cannot be told: accept or refuse.")] = None,
    closed_accounts: Annotated[str | None, typer.Option(help="Of accounts that take no payment: accept or refuse.")] = None,
    least: Annotated[str | None, typer.Option(help="Least payment, in shillings, or none.")] = None,
    most: Annotated[str | None, typer.Option(help="Greatest payment, in shillings, or none.")] = None,
    overpayment: Annotated[
        str | None, typer.Option(help="More than is owed on a loan: post_all, to_savings (the rest) or hold (in suspense).")
    ] = None,
    assign_alone_up_to: Annotated[
        str | None, typer.Option(help="What one person may assign or move alone, in shillings; none: as the installation says.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")] = False,
) -> None:
    """Say or change how payments find their account, and which are refused before M-Pesa takes them (docs/partners.md).

    JSON: {"match_rules", "prefixes", "validation", "when_unknown", "closed_accounts", "least_cents", "most_cents", "overpayment",
    "assign_alone_up_to_cents"}
    """

    async def work(runtime: Runtime) -> CollectionSettings:
        words = {"validation": validation, "when_unknown": when_unknown, "closed_accounts": closed_accounts}
        changes: dict[str, Any] = {
            key: value for key, value in {**words, "overpayment": overpayment}.items() if value is not None
        }
        if rule is not None:
            changes["match_rules"] = _read("--rule", lambda: read_rules(rule))
        if prefix is not None:
            changes["prefixes"] = _read("--prefix", lambda: read_prefixes(dict(_pair(each) for each in prefix)))
        for key, amount in (("least", least), ("most", most), ("assign_alone_up_to", assign_alone_up_to)):
            if amount is not None:
                option = f"--{key.replace('_', '-')}"
                changes[key] = None if amount == _NONE else _read(option, lambda text=amount: read_amount(text))
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
            if not changes:
                return (await load_collection_settings(connection, [partner.id]))[partner.id]
        return await set_collection_settings(runtime, partner, changes, actor=actor())

    settings = run(work)
    if json_:
        typer.echo(json.dumps(settings.to_json(), indent=2))
        return
    for line in settings_lines(settings):
        console.print(line, markup=False)


def settings_lines(settings: CollectionSettings) -> list[str]:
    """The settings in words for a person."""
    limits = [f"at least {settings.least}"] if settings.least is not None else []
    limits += [f"at most {settings.most}"] if settings.most is not None else []
    by_kind: dict[str, list[str]] = {}
    for prefix, kind in settings.prefixes.items():
        by_kind.setdefault(kind, []).append(prefix)
    listed = {kind: ", ".join(prefixes) for kind, prefixes in by_kind.items()}
    return [
        f"a payment's account is found by: {', then '.join(' or '.join(group) for group in settings.match_rules)}",
        f"prefixes: {'; '.join(f'{kind} {own}' for kind, own in listed.items()) or 'none'}",
        f"M-Pesa's questions before a payment: {'answered by these rules' if settings.validation == 'on' else 'always yes'}",
        f"where it cannot be told: {settings.when_unknown}; of accounts that take no payment: {settings.closed_accounts}",
        f"payments: {' and '.join(limits) or 'of any amount'}",
        f"more than is owed on a loan: {_OVERPAYMENTS[settings.overpayment]}",
        f"one person alone may assign or move up to: {settings.assign_alone_up_to or 'what the installation says'}",
    ]


def _pair(text: str) -> tuple[str, str]:
    prefix, separator, kind = text.partition("=")
    if not separator:
        raise InvalidInput(f"--prefix {text[:40]!r}: write it like L=loan")
    return prefix, kind.strip()


def _read(option: str, read: Any) -> Any:
    try:
        return read()
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error}") from error
