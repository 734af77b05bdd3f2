"""The report assets on a real database and a real ephemeral Dagster instance: figures, checks that block, versions, empty days."""

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import dagster as dg
import openpyxl
import pandas as pd
import pytest
from sqlalchemy import text

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.notifications.messages import phone_binding
from vault_core.reconciliation.report_files import report_parquet
from vault_core.runtime import Runtime
from vault_pipelines.assets.charges_report import charges, charges_equal_the_ledger
from vault_pipelines.assets.finance_day import finance_day
from vault_pipelines.assets.reconciliation_report import reconciliation, reconciliation_is_explained
from vault_pipelines.assets.sms_report import sms, sms_is_charged_once
from vault_pipelines.resources.vault_resource import VaultResource

REPORTS = [reconciliation, charges, sms, finance_day, reconciliation_is_explained, charges_equal_the_ledger, sms_is_charged_once]


@pytest.fixture
def reports_folder(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("VAULT_MASTER_KEY", "test:" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode())
    monkeypatch.setenv("VAULT_REPORTS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
async def partner_id(runtime: Runtime) -> UUID:
    partner = runtime.new_id()
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                """
                INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,
                    b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
                VALUES (:id, 'alpha', 'Alpha', 'http://m', 't', 'u', 'http://d', 'i', '600100', '700100', 'http://s', 'u', 'S', :now, :now)
                """
            ),
            {"id": partner, "now": runtime.clock.now()},
        )
    return partner


async def book_payment_in(runtime: Runtime, partner_id: UUID, receipt: str, cents: int, *, rail_cents: int | None = None) -> None:
    """A customer payment as the product books it, posted to Mifos X and read back there."""

    async def work(connection):
        at = runtime.clock.now()
        collection, posting_id = runtime.new_id(), runtime.new_id()
        external_id = f"x-{receipt}"
        c2b, unposted, book = (AccountRef(partner_id, code) for code in ("c2b_float", "collected_unposted", "loan_book"))
        await post(
            connection,
            runtime,
            [
                Posting(partner_id, "collection", f"c2b:700100:{receipt}", receipt, at, (Leg(c2b, cents), Leg(unposted, -cents))),
                Posting(
                    partner_id,
                    "collection_posted",
                    f"posted:{external_id}",
                    receipt,
                    at,
                    (Leg(unposted, cents), Leg(book, -cents)),
                ),
            ],
        )
        await connection.execute(
            text(
                """
                INSERT INTO collections (id, partner_id, short_code, receipt, amount_cents, happened_at, bill_reference_sealed,
                    bill_reference_hash, state, account_kind, account_id, account_no, source, event_id, booked_at)
                VALUES (:id, :partner, '700100', :receipt, :cents, :at, '', '', 'posted', 'loan', 5, '000000005', 'c2b', :id, :at)
                """
            ),
            {"id": collection, "partner": partner_id, "receipt": receipt, "cents": cents, "at": at},
        )
        await connection.execute(
            text(
                """
                INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt,
                    amount_cents, transaction_date, state, mifos_transaction_id, posted_at, created_at)
                VALUES (:id, :partner, 'repayment', :subject, 5, :external_id, :external_id, :receipt, :cents, :day, 'posted', :tx, :at, :at)
                """
            ),
            {"id": posting_id, "partner": partner_id, "subject": collection, "external_id": external_id, "receipt": receipt,
             "cents": cents, "day": business_day(at), "tx": abs(hash(receipt)) % 10**9, "at": at},
        )  # fmt: skip
        await connection.execute(
            text(
                """
                INSERT INTO core_lines (partner_id, kind, account_id, mifos_transaction_id, receipt, amount_cents, transaction_date, reversed, read_at)
                VALUES (:partner, 'repayment', 5, :tx, :receipt, :cents, :day, false, :at)
                """
            ),
            {
                "partner": partner_id,
                "tx": abs(hash(receipt)) % 10**9,
                "receipt": receipt,
                "cents": cents,
                "day": business_day(at),
                "at": at,
            },
        )
        await plant_rail_line(connection, runtime, partner_id, receipt, rail_cents or cents)

    await in_transaction(runtime.engine, work)


async def write_message(runtime: Runtime, partner_id: UUID, *, state: str = "queued") -> None:
    async def work(connection):
        message = runtime.new_id()
        phone = runtime.sealer.seal("254712345678", bound_to=phone_binding(message))
        await connection.execute(
            text(
                """
                INSERT INTO messages (id, partner_id, business_key, template, phone_sealed, phone_hash, text_sealed, parts, price_cents, state, created_at)
                VALUES (:id, :partner, :key, 'payment_received', :phone, '', '', 2, 160, :state, :now)
                """
            ),
            {
                "id": message,
                "partner": partner_id,
                "key": str(message),
                "phone": phone,
                "state": state,
                "now": runtime.clock.now(),
            },
        )

    await in_transaction(runtime.engine, work)


async def plant_rail_line(connection, runtime: Runtime, partner_id: UUID, receipt: str, cents: int) -> None:
    await connection.execute(
        text("INSERT INTO rail_lines VALUES ('mpesa_c2b', '700100', :receipt, :partner, :cents, :at, uuidv7())"),
        {"receipt": receipt, "partner": partner_id, "cents": cents, "at": runtime.clock.now()},
    )


async def make_reports(instance: dg.DagsterInstance, day: date) -> dg.ExecuteInProcessResult:
    # Dagster runs event loops of its own, so it gets a thread without one.
    return await asyncio.to_thread(
        dg.materialize,
        REPORTS,
        partition_key=day.isoformat(),
        instance=instance,
        resources={"vault": VaultResource()},
        raise_on_error=False,
    )


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


async def test_a_sound_day_is_made_checked_and_summed(runtime, partner_id, instance, reports_folder) -> None:
    await book_payment_in(runtime, partner_id, "RAA1", 1_500_00)
    await book_payment_in(runtime, partner_id, "RAA2", 20_05)
    day = business_day(runtime.clock.now())

    result = await make_reports(instance, day)

    assert result.success
    assert checks_of(result) == {
        "reconciliation_is_explained": True,
        "charges_equal_the_ledger": True,
        "sms_is_charged_once": True,
    }
    assert made(result) == {"reconciliation", "charges", "sms", "finance_day"}
    frame = pd.read_parquet(report_parquet(reports_folder, "reconciliation", day), dtype_backend="pyarrow")
    assert frame["outcome"].tolist() == ["matched", "matched"]
    assert sorted(frame["ledger_cents"]) == [20_05, 1_500_00]
    metadata = next(
        e for e in result.get_asset_materialization_events() if e.asset_key == reconciliation.key
    ).materialization.metadata
    assert metadata["rows"].value == 2
    assert metadata["total"].value == "KES 1,520.05"
    assert metadata["plot"].value.startswith("![reconciliation of")
    sheet = openpyxl.load_workbook(report_parquet(reports_folder, "reconciliation", day).with_suffix(".xlsx"))["reconciliation"]
    assert sheet.max_row == 3
    summary = pd.read_parquet(report_parquet(reports_folder, "finance_day", day))
    assert json.loads(summary.to_json(orient="records")) == [
        {"partner": "alpha", "figure": "collections", "count": 2, "amount_cents": 1_520_05}
    ]


@pytest.mark.usefixtures("reports_folder")
async def test_a_planted_rail_line_fails_the_check_and_leaves_finance_day_unmade(runtime, partner_id, instance) -> None:
    await book_payment_in(runtime, partner_id, "RAA1", 1_500_00)
    async with runtime.engine.begin() as connection:
        await plant_rail_line(connection, runtime, partner_id, "RPLANTED", 700_00)

    result = await make_reports(instance, business_day(runtime.clock.now()))

    assert not result.success
    assert checks_of(result)["reconciliation_is_explained"] is False
    assert "finance_day" not in made(result)
    failed = next(e for e in result.get_asset_check_evaluations() if e.check_name == "reconciliation_is_explained")
    assert "no break without an open case" in str(failed.metadata["failed"].value)


@pytest.mark.usefixtures("reports_folder")
async def test_a_break_that_an_open_case_names_does_not_block(runtime, partner_id, instance) -> None:
    await book_payment_in(runtime, partner_id, "RAA1", 1_500_00, rail_cents=1_400_00)
    async with runtime.engine.begin() as connection:
        await open_cases(
            connection, runtime.clock, runtime.new_id, [NewCase("amount_differs", "collection RAA1", partner_id, Money(100_00))]
        )

    result = await make_reports(instance, business_day(runtime.clock.now()))

    assert result.success
    assert "finance_day" in made(result)


async def test_messages_are_reported_with_the_phone_in_clear(runtime, partner_id, instance, reports_folder) -> None:
    await write_message(runtime, partner_id)
    day = business_day(runtime.clock.now())

    assert (await make_reports(instance, day)).success

    frame = pd.read_parquet(report_parquet(reports_folder, "sms", day))
    assert frame[["phone", "parts", "charged_cents", "state"]].to_numpy().tolist() == [["254712345678", 2, 0, "queued"]]


@pytest.mark.usefixtures("reports_folder")
async def test_an_accepted_message_that_was_not_charged_fails_the_check(runtime, partner_id, instance) -> None:
    await write_message(runtime, partner_id, state="accepted")

    result = await make_reports(instance, business_day(runtime.clock.now()))

    assert checks_of(result)["sms_is_charged_once"] is False
    assert "finance_day" not in made(result)


async def test_a_row_lost_from_the_report_fails_its_check(runtime, partner_id, instance, reports_folder) -> None:
    await book_payment_in(runtime, partner_id, "RAA1", 1_500_00)
    await book_payment_in(runtime, partner_id, "RAA2", 20_00)
    day = business_day(runtime.clock.now())
    assert (await make_reports(instance, day)).success
    path = report_parquet(reports_folder, "reconciliation", day)
    pd.read_parquet(path, dtype_backend="pyarrow").head(1).to_parquet(path, index=False)

    result = await asyncio.to_thread(
        dg.materialize,
        [reconciliation, reconciliation_is_explained], selection=dg.AssetSelection.checks(reconciliation_is_explained),
        instance=instance, resources={"vault": VaultResource()}, raise_on_error=False,
    )  # fmt: skip

    assert checks_of(result) == {"reconciliation_is_explained": False}


@pytest.mark.usefixtures("reports_folder")
async def test_an_empty_day_is_made_and_says_that_nothing_happened(runtime, instance) -> None:
    day = business_day(runtime.clock.now()) - timedelta(days=3)

    result = await make_reports(instance, day)

    assert result.success
    metadata = next(e for e in result.get_asset_materialization_events() if e.asset_key == charges.key).materialization.metadata
    assert metadata["rows"].value == 0
    assert metadata["preview"].value == f"No rows: nothing happened on {day}."


async def test_a_day_made_again_is_the_same_version_until_its_content_changes(
    runtime, partner_id, reports_folder, instance
) -> None:
    await book_payment_in(runtime, partner_id, "RAA1", 1_500_00)
    day = business_day(runtime.clock.now())

    def version(result: dg.ExecuteInProcessResult) -> object:
        events = [e for e in result.get_asset_materialization_events() if e.asset_key == reconciliation.key]
        return events[0].materialization.metadata["version"].value

    assert [version(await make_reports(instance, day)) for _ in range(2)] == [1, 1]
    await book_payment_in(runtime, partner_id, "RLATE", 10_00)
    assert version(await make_reports(instance, day)) == 2
    place = report_parquet(reports_folder, "reconciliation", day).parent
    assert sorted(path.name for path in place.iterdir()) == [
        "reconciliation.parquet", "reconciliation.v1.parquet", "reconciliation.v1.xlsx", "reconciliation.xlsx",
    ]  # fmt: skip
    assert len(pd.read_parquet(place / "reconciliation.v1.parquet")) == 1
