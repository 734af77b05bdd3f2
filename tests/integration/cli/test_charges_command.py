"""`vault charges` as a person runs it: quotes line by line, fees from a day on, who pays M-Pesa."""

import base64
import json

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from vault_cli.charges import app

KEY = f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}"


@pytest.fixture
def vault(database_url, partner, monkeypatch):  # noqa: ARG001 - the partner is there
    """Runs a command on a database with partner alpha; gives its result."""
    for name, value in {
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9",
        "VAULT_MASTER_KEY": KEY,
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def today(owner_url: str):
    engine = create_engine(owner_url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT (now() AT TIME ZONE 'Africa/Nairobi')::date")).scalar_one()
    engine.dispose()
    return str(found)


def test_a_quote_explains_each_line_with_its_row_and_its_payer(vault, owner_url) -> None:
    assert vault("set-fee", "alpha", "--service", "disbursement", "--flat", "30", "--from", today(owner_url)).exit_code == 0
    assert vault("set-fee", "alpha", "--service", "sms", "--flat", "0.80", "--from", today(owner_url)).exit_code == 0
    shown = vault("quote", "alpha", "15000")
    assert shown.exit_code == 0, shown.stderr
    for words in (
        "KES 11.00",
        "safaricom b2c of 2023-08-01, band KES 10,001.00 to KES 15,000.00, of it excise KES 1.43",
        "b2c_tariff_form_august_2023.pdf",
        "a disbursement: KES 30.00, from",
        "kra excise_fees of 2025-07-01, 15 % of the system fee",
        "UNCONFIRMED",
        "at KES 0.80",
        "the short code pays KES 0.00",
    ):
        assert words in " ".join(shown.stdout.replace("│", " ").split()), words


def test_a_quote_in_json_says_who_pays_what(vault, owner_url) -> None:
    vault(
        "set-fee", "alpha", "--service", "collection", "--percent", "0.5", "--min", "5", "--max", "20", "--from", today(owner_url)
    )
    assert vault("who-pays", "alpha", "--bouquet", "mgao").exit_code == 0
    said = json.loads(vault("quote", "alpha", "1200", "--service", "collection", "--json").stdout)
    assert [(line["line"], line["amount_cents"], line["paid_by"]) for line in said["lines"][:4]] == [
        ("mpesa_fee", 5_00, "short_code"),
        ("mpesa_fee", 10_00, "customer"),
        ("system_fee", 6_00, "wallet"),
        ("excise", 90, "wallet"),
    ]
    assert said["lines"][0]["from"]["product"] == "c2b_mgao"
    assert said["lines"][2]["from"]["system_fee"]["rate_basis_points"] == 50
    wallet = sum(line["amount_cents"] for line in said["lines"] if line["paid_by"] == "wallet")
    assert said["totals"] == {"wallet_cents": wallet, "short_code_cents": 5_00, "customer_cents": 10_00}


def test_the_price_of_a_text_is_a_fee_with_a_day(vault, owner_url) -> None:
    assert vault("set-fee", "alpha", "--service", "sms", "--flat", "0.95", "--from", today(owner_url)).exit_code == 0
    assert "KES 0.95" in vault("fees", "alpha").stdout
    said = json.loads(vault("quote", "alpha", "1000", "--json").stdout)
    (sms,) = [line for line in said["lines"] if line["line"] == "sms"]
    assert (sms["from"]["part_price_cents"], sms["from"]["system_fee"]["service"]) == (95, "sms")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("quote", "alpha", "1000", "--on", "2020-01-01"), 4, "no safaricom b2c tariff holds on 2020-01-01"),
        (("quote", "alpha", "300000"), 4, "has no band for KES 300,000.00"),
        (("quote", "alpha", "a lot"), 2, "AMOUNT: amount 'a lot'"),
        (("quote", "nobody", "1000"), 4, "no partner nobody"),
        (
            ("quote", "alpha", "1000", "--service", "collection", "--product", "1"),
            2,
            "before its loan product is known",
        ),
        (("set-fee", "alpha", "--service", "disbursement", "--min", "3", "--max", "2"), 2, "max KES 2.00 is below"),
        (("set-fee", "alpha", "--service", "sms", "--percent", "1"), 2, "a text has one price a part"),
        (("quote", "alpha", "1000", "--service", "sms"), 2, "'sms' is not one of"),
        (("set-fee", "alpha", "--service", "disbursement", "--percent", "101"), 2, "--percent: is more than 100"),
        (("set-fee", "alpha", "--service", "disbursement", "--from", "2020-01-01"), 2, "is over"),
        (("end-fee", "alpha", "--service", "disbursement"), 4, "has no such fee"),
        (("who-pays", "alpha", "--payouts", "client"), 2, "write one of wallet, short_code"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_write(vault, arguments, code, said) -> None:
    result = vault(*arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())


def test_fees_are_set_from_tomorrow_listed_and_not_set_twice(vault) -> None:
    first = vault("set-fee", "alpha", "--service", "disbursement", "--flat", "20.50", "--percent", "0.25")
    assert "alpha pays KES 20.50 + 0.25 % a disbursement from" in first.stdout
    again = json.loads(
        vault("set-fee", "alpha", "--service", "disbursement", "--flat", "20.5", "--percent", "0.25", "--json").stdout
    )
    assert again["repeated"] is True
    (fee,) = json.loads(vault("fees", "alpha", "--json").stdout)["system_fees"]
    assert (fee["flat_cents"], fee["rate_basis_points"], fee["valid_to"]) == (20_50, 25, None)
    listed = vault("fees", "alpha").stdout
    assert {"20.50", "0.25"} <= set(listed.replace("│", " ").split())  # the table is as wide as the screen
    assert "M-Pesa's fees: payouts (b2c) paid by the wallet" in listed
    ended = vault("end-fee", "alpha", "--service", "disbursement", "--from", fee["valid_from"])
    assert ended.exit_code == 0
    assert json.loads(vault("fees", "alpha", "--json").stdout)["system_fees"] == []
