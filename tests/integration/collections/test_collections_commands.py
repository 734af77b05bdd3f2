import asyncio
import base64
import json

import pytest
from typer.testing import CliRunner

from vault_cli.collections import app


@pytest.fixture
def at_home(monkeypatch, database_url):
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    key = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{key}")


pytestmark = pytest.mark.usefixtures("umoja", "at_home")


async def command(*arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_payments_that_are_not_posted_are_listed_with_their_reason_and_a_masked_reference(umoja):
    await umoja.pay("R1", 500_00, "0712345678")
    await umoja.pay("R2", 500_00, "000000011")
    await umoja.work()
    result = await command("list", "--partner", "umoja", "--json")

    assert result.exit_code == 0, result.output
    [listed] = json.loads(result.stdout)
    assert (listed["receipt"], listed["state"], listed["amount_cents"], listed["reference"]) == (
        "R1",
        "suspense",
        500_00,
        "0***78",
    )
    assert "no loan or savings account" in listed["reason"]
    assert "R1" in (await command("list")).stdout


async def test_resume_says_what_it_took_up():
    result = await command("resume", "umoja", "--reason", "Mifos X is back", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"resumed": []}


async def test_a_partner_that_does_not_exist_is_named_and_ends_with_4():
    result = await command("list", "--partner", "nobody")

    assert result.exit_code == 4
