"""`vault cases` as a person runs it, on a real database."""

import base64
import json
import os
import subprocess
import sys

from sqlalchemy import text

from local_stack.home import REPOSITORY
from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.money import Money
from vault_core.runtime import Runtime


def run_cases(database_url: str, home, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "VAULT_HOME": str(home),
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "vault_cli", "cases", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=REPOSITORY)


async def test_open_cases_are_listed_oldest_first_and_closed_ones_are_not(
    runtime: Runtime, clock, database_url, tmp_path, lender
) -> None:
    async with runtime.engine.begin() as connection:
        await open_cases(
            connection,
            clock,
            runtime.new_id,
            [NewCase("payout_failed", "disbursement 1", lender.id, Money(50_00), {"code": "2"})],
        )
        clock.pass_time(minutes=1)
        await open_cases(
            connection,
            clock,
            runtime.new_id,
            [
                NewCase("sms_unknown", "message 2", lender.id, evidence={"candidates": [{"account": "0012", "score": 65}]}),
                NewCase("sms_refused", "message 3", None),
            ],
        )
        await close_case(connection, clock, kind="sms_refused", subject="message 3", resolution="seen")

    done = run_cases(database_url, tmp_path / "home", "--json")

    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert [(case["kind"], case["subject"], case["amount_cents"]) for case in listed] == [
        ("payout_failed", "disbursement 1", 50_00), ("sms_unknown", "message 2", None),
    ]  # fmt: skip
    assert listed[0]["partner"] == lender.name
    assert listed[0]["evidence"] == {"code": "2"}
    shown = run_cases(database_url, tmp_path / "home", "--kind", "payout_failed").stdout
    assert "KES 50.00" in shown
    assert "message 2" not in shown
    assert "score 65, account 0012" in run_cases(database_url, tmp_path / "home", "--kind", "sms_unknown").stdout


async def test_a_partner_that_does_not_exist_is_said_so(runtime: Runtime, database_url, tmp_path) -> None:
    async with runtime.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM cases"))).scalar_one() == 0
    assert run_cases(database_url, tmp_path / "home").stdout.strip() == "no open case"
    assert run_cases(database_url, tmp_path / "home", "--partner", "nobody").returncode == 4
