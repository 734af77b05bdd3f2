"""`vault collect` and `vault partner api-token`, as a person types them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner

from tests.integration.collections.stk_till import Till, open_till
from vault_cli import collect, partner_api_tokens
from vault_core.partners.api_tokens import Scope, admit


@pytest.fixture
async def till(umoja, monkeypatch, database_url) -> AsyncIterator[Till]:
    async with open_till(umoja) as opened:
        monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
        monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
        monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}")
        monkeypatch.setenv("VAULT_PUBLIC_URL", opened.catcher.base)
        yield opened


async def command(app, *arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


ASK = ("umoja", "--phone", "0712000001", "--amount", "500", "--account", "LN-1001", "--reason", "at the counter")


async def test_a_customer_is_asked_and_what_became_of_it_is_shown(till):
    asked = await command(collect.app, *ASK, "--key", "k1", "--json")
    assert asked.exit_code == 0, asked.output
    said = json.loads(asked.stdout)
    assert (said["state"], said["phone"], said["account"], said["repeated"]) == ("prompted", "***001", "L***01", False)
    again = await command(collect.app, *ASK, "--key", "k1")
    assert "asked before under this key" in again.stdout
    await till.hand_on("stk_result", after=2)

    [prompt] = await till.prompts()
    for which in (said["id"], prompt["checkout_request_id"], prompt["receipt"].lower()):
        shown = json.loads((await command(collect.app, "show", which, "--json")).stdout)
        assert (shown["state"], shown["receipt"]) == ("paid", prompt["receipt"])
    assert prompt["receipt"] in (await command(collect.app, "show", said["id"])).stdout
    assert [one["id"] for one in json.loads((await command(collect.app, "list", "--json")).stdout)] == [said["id"]]
    listed = (await command(collect.app, "list")).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in listed] == [f"umoja  {said['id']}  ***001  KES 500.00  paid  {prompt['receipt']}"]
    assert (await command(collect.app, "list", "--state", "declined")).stdout == "none\n"


async def test_what_cannot_be_asked_ends_with_the_code_that_says_why(till):
    assert (await command(collect.app, "nobody", *ASK[1:])).exit_code == 4
    assert (await command(collect.app, *ASK[:3], "--amount", "1.50", *ASK[5:])).exit_code == 2
    assert (await command(collect.app, *ASK, "--key", "k1")).exit_code == 0
    other = await command(collect.app, *ASK[:3], "--amount", "7", *ASK[5:], "--key", "k1")
    assert (other.exit_code, "needs a new key" in other.stderr) == (4, True)
    assert (await command(collect.app, "show", "nothing")).exit_code == 4
    assert len(await till.prompts()) == 1


async def test_a_token_is_made_shown_once_listed_and_revoked_with_its_acts_in_the_audit_trail(till):
    app = partner_api_tokens.app
    made = await command(app, "add", "umoja", "branch", "--scope", "wallet:read", "--scope", "collect:write", "--json")
    assert made.exit_code == 0, made.output
    token = json.loads(made.stdout)["token"]
    caller = await admit(till.runtime, token)
    assert caller is not None
    assert (caller.partner_id, caller.scopes) == (till.umoja.partner.id, {Scope.WALLET_READ, Scope.COLLECT_WRITE})
    assert (await command(app, "add", "umoja", "branch", "--scope", "wallet:read")).exit_code == 4
    assert (await command(app, "add", "umoja", "other", "--scope", "everything")).exit_code == 2

    listed = await command(app, "list", "umoja", "--json")
    assert token not in listed.stdout
    [one] = json.loads(listed.stdout)
    assert (one["name"], one["state"], one["scopes"]) == ("branch", "active", ["collect:write", "wallet:read"])
    assert (await command(app, "revoke", "umoja", "branch", "--reason", "leaked")).exit_code == 0
    assert await admit(till.runtime, token) is None
    assert (await command(app, "revoke", "umoja", "branch", "--reason", "again")).exit_code == 4
    assert (await command(app, "add", "umoja", "branch", "--scope", "wallet:read")).exit_code == 0  # the name is free again

    acts = await till.umoja.rows("SELECT act, subject, reason FROM audit_log WHERE act LIKE 'api_token.%' ORDER BY id")
    assert [(act.act, act.subject, act.reason) for act in acts] == [
        ("api_token.added", "umoja branch", None),
        ("api_token.revoked", "umoja branch", "leaked"),
        ("api_token.added", "umoja branch", None),
    ]
