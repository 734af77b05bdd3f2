"""`vault disbursements`, `vault halt` and `vault partner resume` as a person runs them, on a real database."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_resolving import EVIDENCE, LARGE, with_a_person
from tests.integration.disbursements.test_results_and_answers import result, sent, tell
from vault_cli import disbursement_acts, disbursement_evidence, disbursements, halt, partner
from vault_core.disbursements.candidates import Selection
from vault_core.disbursements.claim import claim
from vault_core.partners.states import pause_partner
from vault_core.wallets.charges import load_tariffs

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Command:
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}")
    monkeypatch.setenv("COLUMNS", "250")
    app = typer.Typer()
    app.add_typer(disbursements.app, name="disbursements")
    app.add_typer(partner.app, name="partner")
    app.command()(halt.halt)

    async def run(*arguments: str, answer: str | None = None, login: str = "asha") -> Result:
        for module in (disbursement_acts, disbursement_evidence, halt, partner):
            monkeypatch.setattr(module, "actor", lambda: f"ops:{login}")
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=answer)

    return run


async def listed(command: Command, *arguments: str) -> list[dict[str, Any]]:
    done = await command("disbursements", "list", "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)["disbursements"]
    return found


async def test_the_list_says_what_each_waits_for_and_picks_by_state_partner_time_and_stuckness(
    command: Command, open_day
) -> None:
    async with open_day([loan(1), loan(2), loan(3)], [client(1), client(2), client(3, "12")]) as day:
        await tell(day, result(await sent(day), code=2040))
        by_loan = {one["loan_id"]: one for one in await listed(command)}
        assert {number: (one["state"], one["held_for"], one["stuck"]) for number, one in by_loan.items()} == {
            1: ("needs_review", None, True), 2: ("accepted", None, False), 3: ("held", "bad_phone", False),
        }  # fmt: skip
        assert by_loan[1]["phone"] == "***001"
        assert "release" in by_loan[1]["next"]
        assert [one["loan_id"] for one in await listed(command, "--state", "accepted")] == [2]
        assert [one["loan_id"] for one in await listed(command, "--stuck")] == [1]
        assert len(await listed(command, "--partner", "alpha", "--since", "1d")) == 3
        assert await listed(command, "--since", "2099-01-01") == []
        shown = await command("disbursements", "list")
        assert "needs_review" in shown.stdout
        assert "074" not in shown.stdout
        assert (await command("disbursements", "list", "--since", "soon")).exit_code == 2
        assert (await command("disbursements", "list", "--partner", "nobody")).exit_code == 4


async def test_all_that_is_stuck_is_counted_by_partner_and_cause_however_few_are_listed(command: Command, open_day) -> None:
    numbers = range(1, 6)
    async with open_day([loan(number, client=None, group_name="Chama") for number in numbers]) as day:
        await day.poll()
        told = json.loads((await command("disbursements", "list", "--stuck", "--most", "2", "--json")).stdout)
        assert len(told["disbursements"]) == 2
        (group,) = told["stuck"]
        assert (group["partner"], group["state"], group["held_for"], group["loans"]) == ("alpha", "held", "group_loan", 5)
        assert group["total_cents"] == 5 * told["disbursements"][0]["payout_cents"]
        shown = (await command("disbursements", "list", "--stuck", "--most", "2")).stdout
        assert "5 stuck, the 2 oldest below" in shown
        assert "5  alpha  held: group_loan" in shown
        assert "stuck" not in json.loads((await command("disbursements", "list", "--json")).stdout)


async def test_a_payout_is_shown_by_whatever_names_it_with_its_whole_story_in_order(command: Command, open_day) -> None:
    async with open_day([loan(1)]) as day:
        await day.fund(1000)
        await day.faults(result_lost={"rate": 1.0})
        await day.poll()
        await day.send()
        day.clock.pass_time(minutes=6)
        await day.ask()
        await day.hear("query_result")
        await day.post()
        await day.text_people()
        row = await day.loan_row(1)
        (attempt,) = await day.attempts(1)
        for name in (str(row["id"]), row["receipt"], row["loan_account_no"], "1", attempt["conversation_id"], attempt["id"].hex):
            assert (await command("disbursements", "show", name)).exit_code == 0, name
        story = json.loads((await command("disbursements", "show", "1", "--json")).stdout)["story"]
        assert [event["at"] for event in story] == sorted(event["at"] for event in story)
        told = "\n".join(event["what"] for event in story)
        for words in (
            "found loan", "held for charges", "instruction 1 written", "answered instruction 1: accepted",
            "asked M-Pesa about instruction 1", "answer to a status question came in: paid", "status Completed",
            f"booked as paid, receipt {row['receipt']}", "disbursement_paid: disbursed_unposted debit", "of the hold taken",
            "charges: ", "posting of KES 15,000.00 to loan 1 intended", "has the disbursement", "disbursement_posted",
            "text loan_disbursed to ***001", "text disbursement_done to ***001",
        ):  # fmt: skip
            assert words in told, words
        shown = (await command("disbursements", "show", "1")).stdout
        assert "254700000001" not in shown
        assert "0700000001" not in shown
        assert (await command("disbursements", "show", "NOSUCH")).exit_code == 4


async def test_an_act_asks_first_refuses_with_the_way_out_and_says_what_follows(command: Command, open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day), code=2040))
        refused = await command("disbursements", "retry", "1", "--yes")
        assert (refused.exit_code, "vault disbursements release" in refused.output) == (4, True)
        declined = await command("disbursements", "cancel", "1", "--reason", "client withdrew", answer="n\n")
        assert declined.exit_code == 1
        assert await day.states() == {1: "needs_review"}
        done = await command("disbursements", "cancel", "1", "--reason", "client withdrew", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["held_for"] == "cancelled"
        done = await command("disbursements", "release", "1", "--reason", "changed her mind", "--yes")
        assert "read in Mifos X again" in done.stdout
        done = await command("disbursements", "hold", "1", "--reason", "fraud desk")
        assert (await listed(command))[0]["held_for"] == "by_person", done.output


async def test_two_logins_resolve_what_is_above_the_limit(command: Command, open_day) -> None:
    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        proposed = await command("disbursements", "resolve", "1", "--paid", "UKO1234567", "--evidence", EVIDENCE, "--yes")
        assert "needs a second person" in proposed.stdout
        assert "UKO1234567" in (await command("disbursements", "proposals")).stdout
        assert (await command("disbursements", "approve", "1", "--yes")).exit_code == 4
        approved = await command("disbursements", "approve", "1", "--yes", "--json", login="barasa")
        assert json.loads(approved.stdout)["state"] == "applied"
        assert await day.states() == {1: "paid"}
        told = (await command("disbursements", "show", "1")).stdout
        assert "ops:asha  states: paid, receipt UKO1234567" in told
        assert "ops:barasa  approved it" in told


@pytest.mark.parametrize(
    "arguments",
    [[], ["--paid", "UKO1234567", "--not-paid"], ["--not-paid", "--amount", "5"], ["--paid", "UKO1234567", "--at", "x"]],
)
async def test_a_resolution_that_contradicts_itself_is_refused(command: Command, arguments: list[str], runtime) -> None:  # noqa: ARG001
    done = await command("disbursements", "resolve", "1", "--evidence", EVIDENCE, "--yes", *arguments)
    assert done.exit_code == 2


async def test_the_halt_command_names_what_is_under_way_and_ends_with_one(command: Command, open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        async with day.runtime.engine.connect() as connection:
            tariffs = await load_tariffs(connection)
        claimed = await claim(day.runtime, tariffs, day.partner.id, Selection(), 1)
        halted = await command("halt", "--reason", "wrong float", "--within", "0")
        assert halted.exit_code == 1
        assert claimed.claimed[0].originator_conversation_id in halted.stdout
        assert "in force at 2026-" in halted.stdout
        listing = (await command("disbursements", "list")).stdout
        assert "all sending is halted" in listing
        assert "wrong float" in listing
        ended = await command("halt", "--end", answer="y\n")
        assert "alpha: 1 loans, KES 15,000.00" in ended.stdout
        assert "sending goes on" in ended.stdout
        assert json.loads((await command("halt", "--end", "--json")).stdout)["ended"] is None


async def test_resuming_a_partner_tells_what_goes_and_asks(command: Command, open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.fund(1000)
        await day.poll()
        await pause_partner(day.runtime, day.partner.id, reason="audit", actor="ops:test")
        declined = await command("partner", "resume", "alpha", answer="n\n")
        assert "alpha: 2 loans, KES 30,000.00, the oldest found" in declined.stdout
        assert (await day.rows("SELECT state FROM partners"))[0]["state"] == "paused"
        assert (await command("partner", "resume", "alpha", "--yes")).exit_code == 0
        assert (await day.rows("SELECT state FROM partners"))[0]["state"] == "active"


async def test_a_number_that_several_loans_have_is_told_with_their_ids(command: Command, open_day) -> None:
    async with open_day([loan(1), loan(2)]) as day:
        await day.poll()
        async with day.runtime.engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE disbursements SET loan_account_no = '77'")
        done = await command("disbursements", "show", "77")
        assert done.exit_code == 2
        for row in await day.rows("SELECT id FROM disbursements"):
            assert str(row["id"]) in done.output


async def test_pausing_says_which_answers_are_missing(command: Command, open_day) -> None:
    async with open_day([loan(1)]) as day:
        await _claimed(day)
        done = await command("partner", "pause", "alpha", "--reason", "audit", "--within", "0")
        assert done.exit_code == 1
        assert "still missing" in done.stdout


async def _claimed(day: Day) -> None:
    await day.fund(1000)
    await day.poll()
    async with day.runtime.engine.connect() as connection:
        tariffs = await load_tariffs(connection)
    await claim(day.runtime, tariffs, day.partner.id, Selection(), 1)


async def test_what_is_against_the_books_is_kept_for_a_second_login_and_says_so(command: Command, open_day) -> None:
    async with open_day([loan(1)]) as day:
        await tell(day, result(await sent(day)))
        stated = await command("disbursements", "resolve", "1", "--not-paid", "--evidence", EVIDENCE, "--yes")
        assert "what is against the books (paid, receipt UKO1234567) needs a second person" in stated.stdout
        assert "against what is booked (paid, receipt UKO1234567)" in (await command("disbursements", "proposals")).stdout
        assert (await command("disbursements", "approve", "1", "--yes")).exit_code == 4
        approved = await command("disbursements", "approve", "1", "--yes", "--json", login="barasa")
        assert json.loads(approved.stdout)["overturns"] == "paid, receipt UKO1234567"
        assert await day.states() == {1: "needs_review"}
