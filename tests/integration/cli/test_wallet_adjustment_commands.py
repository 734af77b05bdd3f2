"""Two people at two logins put a wallet right, by commands."""

import json
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from tests.integration.cli.conftest import Vault

DAEMON, BIN = 1, 2  # people that every system has


@pytest.fixture
def funded(vault: Vault, partner: str) -> str:
    vault("wallet", "top-up", partner, "1000", "--reference", "FT1", "--reason", "bank line", login=DAEMON)
    return partner


def propose(vault: Vault, partner: str, amount: str) -> dict:
    words = ("--reference", "TICKET-7", "--reason", "charged twice")
    proposed = vault("wallet", "adjust", partner, amount, *words, "--json", login=DAEMON)
    assert (proposed.returncode, proposed.stderr) == (0, "")
    return json.loads(proposed.stdout)


def test_one_proposes_another_approves_and_each_is_told_what_happened(vault: Vault, funded: str) -> None:
    words = ("--reference", "TICKET-7", "--reason", "charged twice")
    proposed = vault("wallet", "adjust", funded, "-400.50", *words, login=DAEMON)
    assert proposed.returncode == 0
    assert "KES -400.50 for alpha under TICKET-7 waits for a second person; KES 400.50 is held for it" in proposed.stdout
    adjustment = proposed.stdout.split()[-1]
    shown = vault("wallet", "show", funded).stdout
    assert "alpha: KES 599.50 available (KES 1,000.00 posted, KES 400.50 held)" in shown
    assert adjustment in shown
    own = vault("wallet", "approve", adjustment, login=DAEMON)
    assert own.returncode == 4
    assert "ops:daemon proposed it: another login must approve it" in own.stderr
    approved = vault("wallet", "approve", adjustment, login=BIN)
    assert approved.returncode == 0
    assert "KES -400.50 for alpha under TICKET-7, proposed by ops:daemon, is posted" in approved.stdout
    assert "KES 599.50 available (KES 599.50 posted, KES 0.00 held)" in vault("wallet", "show", funded).stdout
    listed = vault("wallet", "adjustments", funded).stdout
    assert "approved by ops:bin" in listed
    assert vault("verify").returncode == 0


def test_an_adjustment_is_told_to_a_program_in_the_documented_keys(vault: Vault, funded: str) -> None:
    made = propose(vault, funded, "250")
    assert {key: made[key] for key in ("partner", "kind", "amount_cents", "reference", "reason", "state", "proposed_by")} == {
        "partner": "alpha",
        "kind": "correction",
        "amount_cents": 250_00,
        "reference": "TICKET-7",
        "reason": "charged twice",
        "state": "proposed",
        "proposed_by": "ops:daemon",
    }
    rejected = vault("wallet", "reject", made["id"], "--reason", "not ours", "--json", login=BIN)
    told = json.loads(rejected.stdout)
    assert (told["state"], told["decided_by"], told["decision_note"], told["transaction"]) == (
        "rejected",
        "ops:bin",
        "not ours",
        None,
    )
    assert json.loads(vault("wallet", "adjustments", "--json").stdout) == [told]
    assert vault("wallet", "adjustments", "--open").stdout.strip() == "no adjustment"


def test_a_topup_is_reversed_by_two_people(vault: Vault, funded: str, owner_url: str) -> None:
    owner = create_engine(owner_url)
    with owner.connect() as connection:
        topup = connection.execute(text("SELECT id FROM ledger_transactions")).scalar_one()
    owner.dispose()
    reversal = json.loads(vault("wallet", "reverse", str(topup), "--reason", "the cheque bounced", "--json", login=DAEMON).stdout)
    assert (reversal["original"], reversal["amount_cents"]) == (str(topup), -1_000_00)
    assert vault("wallet", "approve", reversal["id"], login=BIN).returncode == 0
    assert "KES 0.00 available" in vault("wallet", "show", funded).stdout
    again = vault("wallet", "reverse", str(topup), "--reason", "r", login=DAEMON)
    assert again.returncode == 4
    assert "reversed already" in again.stderr


def test_more_than_there_is_cannot_be_taken(vault: Vault, funded: str) -> None:
    refused = vault("wallet", "adjust", funded, "-1000.01", "--reference", "R", "--reason", "r")
    assert refused.returncode == 4
    assert "KES 1,000.00 available" in refused.stderr


@pytest.mark.parametrize("amount", ["-0", "1.005", "much"])
def test_a_wrong_amount_is_told(vault: Vault, partner: str, amount: str) -> None:
    refused = vault("wallet", "adjust", partner, amount, "--reference", "R", "--reason", "r")
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)


def test_what_does_not_exist_is_said_to_be_so(vault: Vault, partner: str) -> None:
    assert vault("wallet", "approve", str(uuid4())).returncode == 4
    assert vault("wallet", "approve", "not-an-id").returncode == 2
    assert vault("wallet", "adjust", "nobody", "1", "--reference", "R", "--reason", "r").returncode == 4
    assert vault("wallet", "adjust", partner, "1", "--reference", "R").returncode == 2  # no reason
    assert vault("wallet", "adjust", partner, "1", "--refrence", "R", "--reason", "r").returncode == 2


def test_a_threshold_is_set_and_the_wallets_are_listed_with_their_marks(vault: Vault, funded: str) -> None:
    assert vault("wallet", "list").stdout.count("LOW") == 0
    done = vault("wallet", "threshold", funded, "1500", login=BIN)
    assert "alpha is told when less than KES 1,500.00 is available (it was KES 0.00)" in done.stdout
    (line,) = [line for line in vault("wallet", "list").stdout.splitlines() if line.startswith("alpha")]
    assert line.split() == ["alpha", "1,000.00", "-", "1,500.00", "-", "-", "1,000.00", "LOW"]
    (told,) = json.loads(vault("wallet", "list", "--json").stdout)
    assert (told["partner"], told["low_balance_cents"], told["recommended_topup_cents"]) == ("alpha", 1_500_00, 1_000_00)
    assert vault("wallet", "threshold", funded, "0").stdout.strip() == "alpha is not told any more when its wallet runs low"
    negative = vault("wallet", "threshold", "--", funded, "-1")
    assert negative.returncode == 2
    assert "0 switches the alert off" in negative.stderr


def test_no_partner_is_said_to_be_so(vault: Vault) -> None:
    assert "no partner yet" in vault("wallet", "list").stdout
    assert json.loads(vault("wallet", "list", "--json").stdout) == []


def test_a_large_topup_waits_for_a_second_login(vault: Vault, partner: str) -> None:
    words = ("--reference", "FT9", "--reason", "statement of today")
    proposed = vault("wallet", "top-up", partner, "50000.01", *words, login=DAEMON)
    assert proposed.returncode == 0
    assert "KES 50,000.01 for alpha under FT9 waits for a second person" in proposed.stdout
    adjustment = proposed.stdout.split()[-1]
    assert vault("wallet", "approve", adjustment, login=DAEMON).returncode == 4
    assert vault("wallet", "approve", adjustment, login=BIN).returncode == 0
    assert "KES 50,000.01 available" in vault("wallet", "show", partner).stdout
