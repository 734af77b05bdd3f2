"""`vault partner api-token ...`: who may call the partners' API, and for what."""

import json
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vault_cli.session import actor, failures_told, run
from vault_core.clock import NAIROBI
from vault_core.partners.api_tokens import (
    REQUESTS_A_MINUTE,
    ApiToken,
    Scope,
    add_api_token,
    list_api_tokens,
    parse_scopes,
    revoke_api_token,
)
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime

app = typer.Typer(no_args_is_help=True, help="Tokens of the partners' API (docs/api.md).")
console = Console(soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(help="The partner's short name.")]
TokenName = Annotated[str, typer.Argument(help="What the token is called: the program that uses it, say.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with documented keys.")]


@app.command()
def add(
    name: Name,
    token_name: TokenName,
    scope: Annotated[list[str], typer.Option(help=f"What it may be used for; may be given again: {', '.join(Scope)}.")],
    days: Annotated[int, typer.Option(min=1, help="How long it lives.")] = 90,
    a_minute: Annotated[int, typer.Option("--requests-a-minute", min=1, help="How many requests it has.")] = REQUESTS_A_MINUTE,
    json_: Json = False,
) -> None:
    """Make a token. It is shown this once.

    JSON: {"token", "name", "scopes", "requests_a_minute", "expires_at"}
    """
    with failures_told():
        scopes = parse_scopes(scope)

    async def work(runtime: Runtime) -> tuple[str, ApiToken]:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        life = timedelta(days=days)
        return await add_api_token(
            runtime, partner, token_name, scopes, valid_for=life, requests_a_minute=a_minute, actor=actor()
        )

    token, made = run(work)
    if json_:
        shown = {key: _as_json(made)[key] for key in ("name", "scopes", "requests_a_minute", "expires_at")}
        typer.echo(json.dumps({"token": token} | shown))
        return
    typer.echo(token)
    console.print(f"keep it now: it is not shown again. It may {', '.join(sorted(made.scopes))} until {_day(made.expires_at)}")


@app.command("list")
def list_(name: Name, json_: Json = False) -> None:
    """The partner's tokens: scopes, life, last use. Never the tokens themselves.

    JSON: [{"name", "state", "scopes", "requests_a_minute", "created_at", "created_by", "expires_at", "revoked_at",
    "last_used_at"}]
    """

    async def work(runtime: Runtime) -> tuple[list[ApiToken], datetime]:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
            return await list_api_tokens(connection, partner.id), runtime.clock.now()

    found, now = run(work)
    if json_:
        typer.echo(json.dumps([_as_json(one) | {"state": one.state(now)} for one in found]))
        return
    table = Table("name", "state", "scopes", "a minute", "made by", "expires", "last used")
    for column in table.columns:  # names are copied from here
        column.overflow = "fold"
    for one in found:
        table.add_row(
            one.name,
            one.state(now),
            ", ".join(sorted(one.scopes)),
            str(one.requests_a_minute),
            one.created_by,
            _day(one.expires_at),
            "never" if one.last_used_at is None else f"{one.last_used_at.astimezone(NAIROBI):%Y-%m-%d %H:%M}",
        )
    console.print(table if found else "no token yet: `vault partner api-token add`")


@app.command()
def revoke(
    name: Name,
    token_name: TokenName,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")],
) -> None:
    """End a token: its next request is refused."""

    async def work(runtime: Runtime) -> ApiToken:
        async with runtime.engine.connect() as connection:
            partner = await load_partner(connection, name=name)
        return await revoke_api_token(runtime, partner, token_name, actor=actor(), reason=reason)

    console.print(f"token {run(work).name} of partner {name} is revoked")


def _as_json(token: ApiToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "scopes": sorted(token.scopes),
        "requests_a_minute": token.requests_a_minute,
        "created_at": token.created_at.isoformat(),
        "created_by": token.created_by,
        "expires_at": token.expires_at.isoformat(),
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
        "last_used_at": token.last_used_at.isoformat() if token.last_used_at else None,
    }


def _day(at: datetime) -> str:
    return f"{at.astimezone(NAIROBI):%Y-%m-%d}"
