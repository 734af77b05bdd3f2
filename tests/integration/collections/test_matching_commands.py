import asyncio
import base64
import json

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from vault_cli.main import app


@pytest.fixture
def at_home(monkeypatch, database_url, tmp_path):
    monkeypatch.setenv("VAULT_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    key = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{key}")


pytestmark = pytest.mark.usefixtures("umoja", "at_home")


async def vault(*arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_what_a_partner_wants_of_its_collections_is_shown_and_changed():
    result = await vault("partner", "collections", "umoja", "--rule", "loan_number", "--rule", "phone", "--least", "10", "--json")
    assert result.exit_code == 0, result.output
    changed = json.loads(result.stdout)
    assert (changed["match_rules"], changed["least_cents"], changed["when_unknown"]) == (["loan_number", "phone"], 1000, "accept")

    result = await vault("partner", "collections", "umoja", "--least", "none", "--when-unknown", "refuse")
    assert "found by: loan_number, then phone" in result.stdout
    assert "where it cannot be told: refuse" in result.stdout
    assert "payments: of any amount" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rule", "number"], "--rule: 'number' is no rule"),
        (["--prefix", "L"], "write it like L=loan"),
        (["--prefix", "L=house"], "--prefix: prefix L names 'house'"),
        (["--most", "ten"], "--most: amount 'ten'"),
        (["--validation", "maybe"], "write on or off"),
    ],
)
async def test_a_wrong_setting_is_named_and_ends_with_2(arguments, said):
    result = await vault("partner", "collections", "umoja", *arguments)

    assert (result.exit_code, said in result.stderr) == (2, True), result.output


async def test_an_alias_is_added_by_an_accounts_number_listed_masked_and_ended():
    assert (await vault("collections", "alias", "umoja", "Mama Njeri", "--loan", "ln-1001")).exit_code == 0
    assert (await vault("collections", "alias", "umoja", "Shop 4", "--savings", "000000022")).exit_code == 0
    listed = json.loads((await vault("collections", "aliases", "umoja", "--json")).stdout)
    assert sorted((one["reference"], one["kind"], one["account_no"]) for one in listed) == [
        ("M***ri", "loan", "000000011"),
        ("S*** 4", "savings", "000000022"),
    ]
    assert "loan 000000011" in (await vault("collections", "aliases", "umoja")).stdout

    assert (await vault("collections", "unalias", "umoja", "mamanjeri")).exit_code == 0
    assert (await vault("collections", "unalias", "umoja", "mamanjeri")).exit_code == 4
    assert (await vault("collections", "alias", "umoja", "x", "--loan", "000000022")).exit_code == 4
    assert (await vault("collections", "alias", "umoja", "x")).exit_code == 2


async def test_payments_that_were_refused_are_listed_with_their_reason_and_only_what_was_told_counts(umoja):
    kept = text(
        """
        INSERT INTO payment_validations (event_id, late, partner_id, at, decision, known, code, reason, short_code, receipt,
                                         amount_cents, reference_masked, reference_hash)
        VALUES (:id, :late, :partner, :at, :decision, :known, :code, :reason, '600100', :receipt, 500, '0***09', '\\x00')
        """
    )
    refused = {"decision": "refused", "known": True, "code": "C2B00012", "reason": "no such account", "late": False}
    told = {"decision": "accepted", "known": False, "code": "0", "reason": "not known: too slow", "late": True}
    one, other = umoja.runtime.new_id(), umoja.runtime.new_id()
    async with umoja.runtime.engine.begin() as connection:
        for event_id, receipt, row in ((one, "V1", refused), (other, "V2", refused), (other, "V2", told)):
            moment = {"at": umoja.runtime.clock.now(), "partner": umoja.partner.id}
            await connection.execute(kept, {"id": event_id, "receipt": receipt, **row, **moment})

    listed = json.loads((await vault("collections", "validations", "--partner", "umoja", "--json")).stdout)
    assert {one["receipt"]: (one["decision"], one["known"], one["reference"]) for one in listed} == {
        "V1": ("refused", True, "0***09"),
        "V2": ("accepted", False, "0***09"),
    }
    only = json.loads((await vault("collections", "validations", "--refused", "--json")).stdout)
    assert [one["receipt"] for one in only] == ["V1"]
    assert "V1" in (await vault("collections", "validations", "--receipt", "V1")).stdout
    assert "a plain yes" in (await vault("collections", "validations", "--receipt", "V9")).stdout
