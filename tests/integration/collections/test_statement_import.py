"""A statement from the M-Pesa portal closes what no confirmation and no pull told of."""

import base64
import json
from datetime import timedelta

import httpx
import pytest

import vault_cli.main  # noqa: F401 - puts the command into the group
from tests.integration.collections.conftest import PAY_BILL
from tests.integration.collections.feeds import paid, statement_of, tell_by_confirmation, tell_by_statement
from tests.integration.collections.test_collections_commands import command
from vault_core.collections import statement_import
from vault_core.collections.statement_import import Statement, import_statement, preview_statement
from vault_core.errors import InvalidInput
from vault_core.money import Money

BAD = "SKEBAD0000,2026-11-20 10:15:00,,x,Completed,ten,,,true,Pay Bill,,,1,KES"


def made(umoja, count=4):
    now = umoja.runtime.clock.now()
    return [paid(f"STMT00000{number}", now, (number + 1) * 100_00, reference="000000011") for number in range(count)]


async def receipts(umoja):
    return [row.receipt for row in await umoja.rows("SELECT receipt FROM collections ORDER BY receipt")]


async def test_a_dry_run_says_what_would_be_booked_and_writes_nothing(umoja):
    known, *new = made(umoja)
    await tell_by_confirmation(umoja, known)
    report = await preview_statement(umoja.runtime, umoja.partner, statement_of(known, *new, new[0], extra=BAD))

    assert (report.rows, report.booked, report.booked_amount, report.known, report.bad_count) == (6, 3, Money(900_00), 2, 1)
    assert await receipts(umoja) == [known.receipt]
    assert await umoja.rows("SELECT 1 FROM statement_imports") == []


async def test_what_is_missing_is_booked_with_its_rows_as_evidence_and_importing_again_does_nothing(umoja, monkeypatch):
    monkeypatch.setattr(statement_import, "_AT_ONCE", 2)
    known, *new = made(umoja)
    await tell_by_confirmation(umoja, known)
    report = await tell_by_statement(umoja, known, *new)
    assert (report.booked, report.booked_amount, report.known) == (3, Money(900_00), 1)
    again = await tell_by_statement(umoja, known, *new)
    assert (again.booked, again.known) == (0, 4)
    overlapping = await tell_by_statement(umoja, *new, *made(umoja, 5)[4:])
    assert (overlapping.booked, overlapping.known) == (1, 3)

    assert await umoja.balance("c2b_float") == Money(1_500_00)
    rows = await umoja.rows(
        "SELECT c.source, r.receipt, r.line, r.row_sealed, r.id FROM statement_rows r JOIN collections c ON c.event_id = r.id"
    )
    assert sorted(row.receipt for row in rows) == [one.receipt for one in new] + ["STMT000004"]
    cells = umoja.runtime.sealer.open(rows[0].row_sealed, bound_to=f"statement_rows:{rows[0].id}:row")
    assert json.loads(cells)["receipt"] == rows[0].receipt
    acts = await umoja.rows("SELECT after FROM audit_log WHERE act = 'collections.statement_imported' ORDER BY id")
    assert sorted(act.after["imported_before"] for act in acts) == [False, False, True]
    imports = await umoja.rows("SELECT imported_by, sha256 FROM statement_imports")
    assert {one.imported_by for one in imports} == {"ops:test"}
    assert statement_of(known, *new).sha256 in {bytes(one.sha256) for one in imports}


async def test_a_file_with_bad_rows_books_nothing_unless_a_person_leaves_them_out(umoja):
    one = made(umoja)[0]
    with pytest.raises(InvalidInput, match=r"line 5: SKEBAD0000: paid in: amount 'ten'"):
        await tell_by_statement(umoja, one, extra=BAD)
    assert await receipts(umoja) == []

    report = await import_statement(umoja.runtime, umoja.partner, statement_of(one, extra=BAD), actor="ops:test", skip_bad=True)
    assert (report.booked, report.bad_count) == (1, 1)
    [kept] = await umoja.rows("SELECT skipped_bad FROM statement_imports")
    assert kept.skipped_bad == 1


async def test_the_statement_of_another_pay_bill_is_refused(umoja):
    content = statement_of(*made(umoja)).content.replace(PAY_BILL.encode(), b"600999", 1)
    with pytest.raises(InvalidInput, match="of short code '600999'"):
        await import_statement(umoja.runtime, umoja.partner, Statement("x.csv", content), actor="ops:test")


async def test_payments_from_before_the_lender_was_added_are_left_to_who_had_them_then(umoja):
    [one] = made(umoja, 1)
    before = paid("STMTBEFORE", umoja.runtime.clock.now() - timedelta(days=1), 100_00)
    report = await tell_by_statement(umoja, one, before)
    assert (report.booked, dict(report.not_payments)) == (1, {"payments from before the lender was added here": 1})
    assert await receipts(umoja) == [one.receipt]


async def test_a_row_of_a_day_yet_to_come_is_bad_because_a_spreadsheet_may_have_swapped_day_and_month(umoja):
    now = umoja.runtime.clock.now()
    with pytest.raises(
        InvalidInput, match=r"STMTFUTURE: completion time .* is yet to come: did a spreadsheet swap day and month"
    ):
        await tell_by_statement(umoja, paid("STMTFUTURE", now + timedelta(days=17), 100_00), paid("STMTRIGHT1", now, 100_00))
    assert await receipts(umoja) == []
    report = await tell_by_statement(umoja, paid("STMTRIGHT1", now + timedelta(minutes=2), 100_00))  # M-Pesa's clock is ahead
    assert report.booked == 1


async def test_a_receipt_that_is_booked_with_another_amount_is_named_and_is_a_case(umoja):
    one = made(umoja)[0]
    await tell_by_confirmation(umoja, one)
    other = paid(one.receipt, one.at, 999_00, reference=one.reference)
    dry = await preview_statement(umoja.runtime, umoja.partner, statement_of(other))
    assert (dry.conflicts, dry.booked, dry.known, await umoja.cases()) == ([one.receipt], 0, 0, [])
    report = await tell_by_statement(umoja, other)
    assert report.conflicts == [one.receipt]
    assert [case.kind for case in await umoja.cases()] == ["receipt_conflict"]


@pytest.fixture
def at_home(monkeypatch, database_url):
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}")


@pytest.mark.usefixtures("at_home")
async def test_the_command_takes_the_portals_download(umoja, tmp_path):
    wish = {"short_code": PAY_BILL, "phone": "254712000126", "amount_cents": 250_00, "bill_reference": "000000011"}
    receipt = (await umoja.runtime.http.post(f"{umoja.sandbox}/control/c2b", json=wish)).json()["receipt"]
    file = tmp_path / "statement.csv"
    file.write_bytes(httpx.get(f"{umoja.sandbox}/control/statement?short_code={PAY_BILL}", timeout=10, verify=False).content)  # noqa: S501, ASYNC210 - plain HTTP

    preview = await command("import-statement", str(file), "--partner", "umoja", "--dry-run", "--json")
    assert preview.exit_code == 0, preview.output
    assert json.loads(preview.stdout) | {"first_at": "", "last_at": ""} == {
        "dry_run": True, "rows": 1, "booked": 1, "booked_cents": 250_00, "above_limit": [], "known": 0, "conflicts": [],
        "not_payments": {}, "bad": [], "bad_rows": 0, "first_at": "", "last_at": "",
    }  # fmt: skip
    assert await receipts(umoja) == []
    done = await command("import-statement", str(file), "--partner", "umoja")
    assert "booked: 1 for KES 250.00" in done.stdout
    assert await receipts(umoja) == [receipt]
    umoja.runtime.clock.pass_time(minutes=1)  # the command went by the machine's clock
    await umoja.work()
    assert await umoja.posted_to("loans", 11) == [(receipt, 250_00)]
