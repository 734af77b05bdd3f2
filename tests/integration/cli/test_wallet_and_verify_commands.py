"""The commands as a person runs them: a process, its exit code and what it prints."""

import json

import pytest
from sqlalchemy import create_engine, text

from tests.integration.cli.conftest import Vault


def test_a_wallet_below_its_threshold_is_said_to_be_low_and_one_above_is_not(vault: Vault, partner: str, owner_url: str) -> None:
    vault("wallet", "top-up", partner, "100", "--reference", "FT1", "--reason", "bank line")
    assert "LOW" not in vault("wallet", "show", partner).stdout  # no threshold is set
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE partners SET low_balance_cents = 50000"))
    owner.dispose()
    assert "LOW: below the KES 500.00 that the partner set" in vault("wallet", "show", partner).stdout
    vault("wallet", "top-up", partner, "400", "--reference", "FT2", "--reason", "bank line")
    assert "LOW" not in vault("wallet", "show", partner).stdout


def test_a_topup_is_recorded_shown_and_proved(vault: Vault, partner: str) -> None:
    paid = vault("wallet", "top-up", partner, "25000.50", "--reference", "FT1", "--reason", "bank line of today")
    assert (paid.returncode, paid.stderr) == (0, "")
    assert "KES 25,000.50 recorded under FT1" in paid.stdout
    again = vault("wallet", "top-up", partner, "25000.50", "--reference", "FT1", "--reason", "typed twice", "--json")
    assert json.loads(again.stdout)["repeated"] is True
    shown = json.loads(vault("wallet", "show", partner, "--json").stdout)
    assert shown == {
        "partner": "alpha",
        "posted_cents": 2_500_050,
        "held_cents": 0,
        "available_cents": 2_500_050,
        "low_balance_cents": 0,
        "low_since": None,
        "short_since": None,
        "waiting_cents": 0,
        "burn_cents": 0,
        "burn_days": 1,
        "days_left": None,
        "recommended_topup_cents": 0,
        "open_adjustments": [],
    }
    proof = vault("verify", "--json")
    assert proof.returncode == 0
    told = json.loads(proof.stdout)
    assert told.pop("proof").pop("seconds") >= 0
    assert told == {
        "ok": True,
        "ledger": {"transactions": 1, "entries": 2, "seals": 0},
        "inbox": {"deliveries": 0, "waiting": 0, "processed": 0, "exceptions": 0},
        "findings": [],
    }


@pytest.mark.parametrize("amount", ["-5", "0", "1.005", "1e6", "much"])
def test_a_wrong_amount_is_told_and_changes_nothing(vault: Vault, partner: str, amount: str) -> None:
    refused = vault("wallet", "top-up", "--reference", "FT1", "--reason", "r", "--", partner, amount)
    assert refused.returncode == 2
    assert "error:" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unknown_partner_is_told(vault: Vault) -> None:
    refused = vault("wallet", "show", "nobody")
    assert refused.returncode == 4
    assert "nobody" in refused.stderr


def test_verify_exits_1_and_says_what_is_wrong_and_where(vault: Vault, partner: str, owner_url: str) -> None:
    vault("wallet", "top-up", partner, "100", "--reference", "FT1", "--reason", "r")
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE ledger_accounts SET balance_cents = balance_cents - 500 WHERE code = 'wallet'"))
    owner.dispose()
    proof = vault("verify")
    assert proof.returncode == 1
    assert "wrong balance_is_sum_of_entries: alpha wallet/0: " in proof.stdout
    assert {finding["check"] for finding in json.loads(vault("verify", "--json").stdout)["findings"]} == {
        "balance_is_sum_of_entries",
        "trial_balance",
    }


def test_a_proof_is_kept_and_listed_and_a_seal_can_be_published(vault: Vault, partner: str, owner_url: str) -> None:
    assert vault("verify", "--print-head", "--json").stdout.strip() == "null"
    vault("wallet", "top-up", partner, "100", "--reference", "FT1", "--reason", "r")
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE ledger_write_base SET base = base + 1000"))  # other tests' transactions hold nothing back
        assert connection.execute(text("SELECT ledger_seal(now(), 10)")).scalar_one() == 1
    head = vault("verify", "--print-head").stdout.strip()
    assert vault("verify", "--expect-seal", head).returncode == 0
    assert "read from seal 1 on: 0 transactions" in vault("verify", "--from-seal", "1").stdout
    rewritten = vault("verify", "--expect-seal", "1:" + "0" * 64)
    assert rewritten.returncode == 1
    assert "wrong seals_published: seal 1: its chain hash is" in rewritten.stdout
    proofs = json.loads(vault("verify", "--history", "--json").stdout)
    assert [(proof["from_seal"], proof["findings"]) for proof in proofs] == [(None, 1), (1, 0), (None, 0)]
    assert proofs[0]["by"].startswith("ops:")
    owner.dispose()


@pytest.mark.parametrize("arguments", [("--expect-seal", "1:xyz"), ("--from-seal", "0")])
def test_a_seal_that_is_none_is_told(vault: Vault, arguments: tuple[str, str]) -> None:
    assert vault("verify", *arguments).returncode == 2


def test_an_unknown_seal_is_told(vault: Vault) -> None:
    refused = vault("verify", "--from-seal", "9")
    assert refused.returncode == 4
    assert "seal 9" in refused.stderr
