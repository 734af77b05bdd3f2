"""`vault ledger` and `vault wallet transactions`: exit codes and what they print."""

import asyncio
import base64
import csv
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pyarrow.parquet as pq
import pytest
import typer
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from vault_cli import ledger, ledger_view, wallet, wallet_transactions
from vault_core.clock import business_day, day_bounds
from vault_core.database import open_async_engine
from vault_core.identifiers import id_maker
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.partners.partner import load_partner
from vault_core.runtime import Runtime
from vault_core.settings import Pace

_ADD_PARTNER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,
        b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    VALUES (:id, 'alpha', 'Alpha', 'u', 't', 'm', 'u', 'i', '1', '2', 'u', 's', 's', now(), now())
    """
)
Vault = Callable[..., "Told"]
OnRuntime = Callable[[Callable[[Runtime], Awaitable[None]]], None]


@dataclass(frozen=True)
class Told:
    """What a command printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def vault(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    for console in (ledger_view.console, wallet_transactions.console):
        monkeypatch.setattr(console, "width", 100)
    environment = {
        "VAULT_HOME": str(tmp_path / "home"),
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
    }
    app = typer.Typer()
    app.add_typer(ledger.app, name="ledger")
    app.add_typer(wallet.app, name="wallet")

    def run(*arguments: str, typed: str | None = None) -> Told:
        result = CliRunner().invoke(app, arguments, env=environment, input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Told(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def on_runtime(database_url: str, clock, sealer) -> OnRuntime:
    """Runs a piece of work on a runtime of this test's clock."""

    async def session(work: Callable[[Runtime], Awaitable[None]]) -> None:
        async with httpx.AsyncClient() as http:
            engine = open_async_engine(database_url)
            await work(Runtime(engine, clock, id_maker(clock), random.Random(1), sealer, http, Pace(), ""))
            await engine.dispose()

    return lambda work: asyncio.run(session(work))


@pytest.fixture
def days(clock, on_runtime: OnRuntime) -> dict[str, str]:
    """A little ledger; the Nairobi days on which its postings happened, by name.

    A top-up of 1,000.00 and a charge of 57.50, each booked as it happened; a charge of 10.00 that was told of today.
    """
    ago = {"paid in": 4, "between": 3, "charged": 2, "yesterday": 1, "today": 0}
    day_of = {name: business_day(clock.now()) - timedelta(days=days) for name, days in ago.items()}
    partner = uuid4()
    wallet = AccountRef(partner, "wallet")
    bank, fees, excise = (AccountRef(None, code) for code in ("bank:settlement", "fees:system", "tax:excise"))

    def posting(kind: str, reference: str, day: str, legs: dict[AccountRef, int], description: str) -> Posting:
        moment = day_bounds(day_of[day])[0]
        made = tuple(Leg(account, cents) for account, cents in legs.items())
        return Posting(partner, kind, reference, reference, moment, made, description)

    charge = {wallet: 57_50, fees: -50_00, excise: -7_50}
    booked = {
        "paid in": posting("topup", "FT1", "paid in", {bank: 1_000_00, wallet: -1_000_00}, "bank line"),
        "charged": posting("charges", "SKL1", "charged", charge, "charges of loan 12"),
        "today": posting("charges", "SKL2", "charged", {wallet: 10_00, fees: -10_00}, "charges of [bold]loan[/] 13"),
    }

    async def fill(runtime: Runtime) -> None:
        async with runtime.engine.begin() as connection:
            await connection.execute(_ADD_PARTNER, {"id": partner})
            for day, one in booked.items():
                clock.moment = day_bounds(day_of[day])[0] + timedelta(seconds=1)
                await post(connection, runtime, [one])

    on_runtime(fill)
    return {name: day.isoformat() for name, day in day_of.items()}


@pytest.fixture
def late_charge(days: dict[str, str], on_runtime: OnRuntime) -> Callable[[], None]:
    """Posts a charge of 2.00 that happened on the day "charged"."""

    async def charge(runtime: Runtime) -> None:
        async with runtime.engine.begin() as connection:
            partner = await load_partner(connection, name="alpha")
            legs = (Leg(AccountRef(partner.id, "wallet"), 2_00), Leg(AccountRef(None, "fees:system"), -2_00))
            moment = day_bounds(date.fromisoformat(days["charged"]))[0]
            await post(connection, runtime, [Posting(partner.id, "charges", "SKL3", "SKL3", moment, legs)])

    return lambda: on_runtime(charge)


def cents(answer: Told) -> int:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["balance_cents"]


def test_a_balance_is_that_of_the_end_of_the_day_by_either_time(vault: Vault, days: dict[str, str]) -> None:
    def wallet(*options: str) -> int:
        return cents(vault("ledger", "balance", "alpha/wallet", "--json", *options))

    assert wallet() == 932_50
    assert wallet("--as-of", days["between"]) == 1_000_00
    assert wallet("--as-of", days["charged"]) == 932_50
    assert wallet("--as-of", days["charged"], "--by", "booked") == 942_50
    assert wallet("--as-of", f"{days['charged']}T00:00") == 1_000_00  # an instant: what is before it
    assert cents(vault("ledger", "balance", "alpha/suspense", "--json")) == 0
    shown = vault("ledger", "balance", "house/fees:system", "--as-of", days["charged"]).stdout
    assert f"as of the end of {days['charged']}, by effective time" in shown
    assert "KES 60.00" in shown


def test_balances_show_what_is_held_now_and_only_a_partners_own_when_asked(vault: Vault, days: dict[str, str]) -> None:
    assert days
    rows = json.loads(vault("ledger", "balances", "--json").stdout)
    assert [(row["account"], row["balance_cents"]) for row in rows] == [
        ("house/bank:settlement", 1_000_00),
        ("house/fees:system", 60_00),
        ("house/tax:excise", 7_50),
        ("alpha/wallet", 932_50),
    ]
    own = json.loads(vault("ledger", "balances", "--partner", "alpha", "--json").stdout)
    assert own == [{"account": "alpha/wallet", "balance_cents": 932_50, "held_cents": 0, "available_cents": 932_50}]
    then = json.loads(vault("ledger", "balances", "--partner", "alpha", "--as-of", days["between"], "--json").stdout)
    assert then == [{"account": "alpha/wallet", "balance_cents": 1_000_00, "held_cents": None, "available_cents": None}]


def test_the_trial_balance_balances_at_any_time_and_exits_1_when_it_does_not(
    vault: Vault, days: dict[str, str], owner_url: str
) -> None:
    for options in ((), ("--as-of", days["between"]), ("--as-of", days["charged"], "--by", "booked")):
        told = vault("ledger", "trial-balance", *options)
        assert told.returncode == 0
        assert "debits and credits agree" in told.stdout
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE ledger_accounts SET balance_cents = balance_cents + 5 WHERE code = 'wallet'"))
    owner.dispose()
    broken = vault("ledger", "trial-balance")
    assert broken.returncode == 1
    assert "debits exceed credits by KES 0.05" in broken.stdout


def test_a_statement_is_shown_line_by_line_and_words_in_it_are_only_words(vault: Vault, days: dict[str, str]) -> None:
    shown = vault("ledger", "statement", "alpha/wallet", "--from", days["between"], "--to", days["today"])
    assert shown.returncode == 0, shown.stderr
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= 100
    flat = " ".join(shown.stdout.split())
    assert f"from {days['between']} 00:00 to the end of {days['today']}" in flat
    assert "opening balance KES 1,000.00" in flat
    assert "charges SKL1 (charges of loan 12) KES 57.50 KES 942.50" in flat
    assert "[bold]loan[/] 13" in flat
    assert "sums KES 67.50 KES 0.00" in flat
    assert "closing balance KES 932.50" in flat
    short = vault("ledger", "statement", "alpha/wallet", "--from", days["paid in"], "--most", "1").stdout
    assert "more lines" in short
    assert "sums" not in short


def test_a_statement_as_json_has_every_line(vault: Vault, days: dict[str, str]) -> None:
    told = json.loads(
        vault("ledger", "statement", "alpha/wallet", "--from", days["paid in"], "--most", "1", "--json", "--by", "booked").stdout
    )
    assert (told["opening_cents"], told["closing_cents"]) == (0, 932_50)
    assert [(line["reference"], line["balance_cents"]) for line in told["lines"]] == [
        ("FT1", 1_000_00),
        ("SKL1", 942_50),
        ("SKL2", 932_50),
    ]
    empty = json.loads(vault("ledger", "statement", "alpha/suspense", "--json").stdout)
    assert empty["lines"] == []


def test_an_export_has_every_entry_once_and_the_same_period_gives_the_same_file(
    vault: Vault, days: dict[str, str], tmp_path: Path
) -> None:
    options = ("--from", days["paid in"], "--to", days["today"])
    first, again, table = (str(tmp_path / name) for name in ("first.csv", "again.csv", "t.parquet"))
    told = vault("ledger", "export", first, *options)
    assert told.returncode == 0, told.stderr
    assert "7 entries written" in told.stdout
    assert "debits KES 1,067.50, credits KES 1,067.50" in " ".join(told.stdout.split())
    vault("ledger", "export", again, *options)
    assert Path(first).read_bytes() == Path(again).read_bytes()
    with Path(first).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["transaction_id"], row["leg"]) for row in rows}) == 7
    assert [row["debit"] for row in rows if row["account"] == "alpha/wallet"] == ["0.00", "57.50", "10.00"]
    booked = json.loads(vault("ledger", "export", table, *options, "--by", "booked", "--json").stdout)
    assert (booked["entries"], booked["debit_cents"], booked["credit_cents"]) == (7, 1_067_50, 1_067_50)
    assert sum(pq.read_table(table)["credit_cents"].to_pylist()) == 1_067_50
    one_day = json.loads(
        vault("ledger", "export", table, "--from", days["today"], "--to", days["today"], "--by", "booked", "--json").stdout
    )
    assert one_day["entries"] == 2
    refused = vault("ledger", "export", str(tmp_path / "t.xlsx"), *options)
    assert refused.returncode == 2
    assert not (tmp_path / "t.xlsx").exists()


def test_a_statement_is_written_as_a_workbook(vault: Vault, days: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "wallet.xlsx"
    told = vault("ledger", "statement", "alpha/wallet", "--from", days["paid in"], "--file", str(file))
    assert (told.returncode, told.stderr) == (0, "")
    assert "3 entries written" in told.stdout
    assert file.stat().st_size > 1000


def test_a_transaction_is_shown_with_its_legs_and_its_seal(vault: Vault, days: dict[str, str]) -> None:
    lines = json.loads(vault("ledger", "statement", "alpha/wallet", "--from", days["paid in"], "--json").stdout)["lines"]
    told = json.loads(vault("ledger", "transaction", lines[1]["transaction"], "--json").stdout)
    assert (told["kind"], told["key"], told["partner"], told["reversed_by"], told["seal"]) == (
        "charges",
        "SKL1",
        "alpha",
        None,
        None,
    )
    assert [(leg["account"], leg["debit_cents"], leg["credit_cents"]) for leg in told["legs"]] == [
        ("alpha/wallet", 57_50, 0),
        ("house/fees:system", 0, 50_00),
        ("house/tax:excise", 0, 7_50),
    ]
    assert "not sealed yet" in vault("ledger", "transaction", lines[1]["transaction"]).stdout
    assert vault("ledger", "transaction", str(uuid4())).returncode == 4
    assert vault("ledger", "transaction", "SKL1").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("balance", "alpha/walet"), 4, "it has: wallet, b2c_float"),
        (("balance", "gamma/wallet"), 4, "belong to: house, alpha"),
        (("balance", "wallet"), 2, "OWNER/ACCOUNT"),
        (("balance", "alpha/wallet", "--as-of", "tomorrow"), 2, "neither a day nor a time"),
        (("statement", "alpha/wallet", "--from", "2026-01-02", "--to", "2025-01-01"), 2, "before it starts"),
        (("balances", "--partner", "gamma"), 4, "no partner gamma"),
    ],
)
def test_what_cannot_be_answered_is_told(
    vault: Vault, days: dict[str, str], arguments: tuple[str, ...], code: int, told: str
) -> None:
    assert days
    answer = vault("ledger", *arguments)
    assert answer.returncode == code
    assert told in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr


def test_a_day_is_closed_once_it_is_over_and_confirmed_and_its_figures_are_told(vault: Vault, days: dict[str, str]) -> None:
    assert "no period is closed yet" in vault("ledger", "closings").stdout
    for day, code in ((days["today"], 2), ("2999-01-01", 2), ("2026-11-20T10:00", 2)):
        refused = vault("ledger", "close", day, "--yes")
        assert (refused.returncode, refused.stdout) == (code, "")
    assert vault("ledger", "close", days["charged"], typed="n\n").returncode == 1
    assert json.loads(vault("ledger", "closings", "--json").stdout) == []

    closed = vault("ledger", "close", days["charged"], typed="y\n")
    assert closed.returncode == 0, closed.stderr
    told = " ".join(closed.stdout.split())
    assert f"closing 1: everything up to the end of {days['charged']} is final, 3 transactions more" in told
    assert "total KES 1,000.00 KES 1,000.00 debits and credits agree" in told
    again = vault("ledger", "close", days["between"], "--yes")
    assert again.returncode == 4
    assert "is final already" in again.stderr

    second = json.loads(vault("ledger", "close", days["yesterday"], "--yes", "--json").stdout)
    assert (second["closing"], second["transactions"], second["trial_balance"]["debit_cents"]) == (2, 0, 1_000_00)
    listed = json.loads(vault("ledger", "closings", "--json").stdout)
    assert [(one["closing"], one["transactions"], one["debit_cents"]) for one in listed] == [(1, 3, 1_000_00), (2, 0, 1_000_00)]
    assert f"the end of {days['yesterday']}" in vault("ledger", "closings").stdout


def test_what_is_told_of_after_its_period_was_closed_shows_its_real_day_and_leaves_the_closed_one_alone(
    vault: Vault, days: dict[str, str], late_charge: Callable[[], None]
) -> None:
    before = vault("ledger", "statement", "alpha/wallet", "--from", days["paid in"], "--to", days["yesterday"], "--json").stdout
    vault("ledger", "close", days["yesterday"], "--yes")
    late_charge()
    after = vault("ledger", "statement", "alpha/wallet", "--from", days["paid in"], "--to", days["yesterday"], "--json").stdout
    assert after == before
    today = " ".join(vault("ledger", "statement", "alpha/wallet", "--from", days["today"], "--to", days["today"]).stdout.split())
    assert f"{days['today']} 00:00 charges SKL3" in today
    assert f"of {days['charged']} 00:00, after closing" in today
    newest = json.loads(vault("wallet", "transactions", "alpha", "--limit", "1", "--json").stdout)[0]
    assert newest["carried_from"].startswith(days["between"])  # midnight in Nairobi is still the day before in UTC
    assert newest["amount_cents"] == -2_00


def test_the_chart_says_what_each_account_is(vault: Vault) -> None:
    chart = {row["account"]: row for row in json.loads(vault("ledger", "accounts", "--json").stdout)}
    assert chart["wallet"]["owner"] == "partner"
    assert chart["fees:system"]["normal_side"] == "credit"
    assert "house/tax:excise" in vault("ledger", "accounts").stdout


def test_a_wallets_movements_are_told_newest_first_in_words_and_as_data(vault: Vault, days: dict[str, str]) -> None:
    shown = " ".join(vault("wallet", "transactions", "alpha").stdout.split())
    assert "Charges of loan 12, M-Pesa receipt SKL1 KES -57.50 KES 942.50" in shown
    assert "system fee KES 50.00, excise duty KES 7.50" in shown
    assert "Top-up, bank reference FT1 KES 1,000.00 KES 1,000.00" in shown
    told = json.loads(vault("wallet", "transactions", "alpha", "--from", days["charged"], "--json").stdout)
    assert [(one["amount_cents"], one["balance_after_cents"], one["version"]) for one in told] == [
        (-10_00, 932_50, 3),
        (-57_50, 942_50, 2),
    ]
    assert told[0]["fee_lines"] == [{"line": "system_fee", "amount_cents": 10_00, "tariff": None}]
    rows = list(csv.DictReader(vault("wallet", "transactions", "alpha", "--to", days["between"], "--csv").stdout.splitlines()))
    assert [(row["what"], row["amount"]) for row in rows] == [("Top-up, bank reference FT1", "1000.00")]
    assert len(json.loads(vault("wallet", "transactions", "alpha", "--limit", "1", "--json").stdout)) == 1
    assert "nothing moved the wallet then" in vault("wallet", "transactions", "alpha", "--to", "2020-01-01").stdout
    assert vault("wallet", "transactions", "alpha", "--csv", "--json").returncode == 2
    assert vault("wallet", "transactions", "nobody").returncode == 4
