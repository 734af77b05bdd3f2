"""`vault inbox` as a person or a program runs it."""

import asyncio
import base64
import json
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from vault_cli.inbox import app
from vault_core.inbox.applying import set_aside
from vault_core.inbox.receiving import Arrival, open_delivery_store
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import read_settings

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
BODY = b'{"MSISDN":"254712345678"}'
FIELDS = {
    "id", "partner", "purpose", "topic", "received_at", "source_ip", "content_type", "reference", "headers", "body_bytes",
    "parsed", "state", "cause", "effect", "processed_at", "sweeps", "next_sweep_at",
}  # fmt: skip


@pytest.fixture
def environment(database_url, monkeypatch) -> dict[str, str]:
    settings = {
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VAULT_MASTER_KEY": f"test:{KEY}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def stored(environment) -> list[UUID]:
    """Two deliveries: one stored, one set aside."""

    async def store() -> list[UUID]:
        async with open_runtime(read_settings(environment)) as runtime:
            arrivals = [_arrival(runtime) for _ in range(2)]
            async with open_delivery_store(runtime.engine, runtime.sealer, sweep_after=timedelta(seconds=30)) as opened:
                await opened.store(arrivals)
            await set_aside(runtime, arrivals[1].id, ValueError("no amount"))
            return [arrival.id for arrival in arrivals]

    return asyncio.run(store())


def _arrival(runtime: Runtime) -> Arrival:
    return Arrival(
        id=runtime.new_id(),
        partner_id=UUID(int=7),
        purpose="c2b_confirmation",
        received_at=runtime.clock.now(),
        source_ip="127.0.0.1",
        content_type="application/json",
        path_reference=None,
        headers={},
        body=BODY,
        parsed=True,
    )


def call(*arguments: str):
    return CliRunner().invoke(app, [*arguments])


def test_the_list_has_every_field_of_every_delivery_and_no_body(stored):
    done = call("list", "--json")
    assert done.exit_code == 0
    listed = json.loads(done.stdout)
    assert {row["id"] for row in listed} == {str(event_id) for event_id in stored}
    assert all(set(row) == FIELDS for row in listed)
    assert "254712345678" not in done.stdout
    assert {row["state"] for row in listed} == {"stored", "exception"}


def test_the_list_can_be_narrowed_and_a_wrong_word_is_told(stored):
    done = call("list", "--json", "--state", "exception")
    assert [(row["id"], row["cause"]) for row in json.loads(done.stdout)] == [(str(stored[1]), "ValueError: no amount")]
    wrong = call("list", "--state", "broken")
    assert wrong.exit_code == 2
    assert "stored, processed, exception" in wrong.stderr


def test_a_body_is_shown_only_when_asked_for_and_leaves_an_audit_entry(stored, database_url):
    without = call("show", str(stored[0]), "--json")
    assert "body" not in json.loads(without.stdout)
    assert audit_of(database_url) == []
    with_body = call("show", str(stored[0]), "--body", "--reason", "complaint", "--json")
    assert json.loads(with_body.stdout)["body"] == BODY.decode()
    assert audit_of(database_url) == [("inbox.body_shown", "complaint")]


def test_a_replayed_exception_is_stored_again(stored):
    done = call("replay", str(stored[1]), "--json")
    assert json.loads(done.stdout) == {"replayed": 1}
    assert json.loads(call("show", str(stored[1]), "--json").stdout)["state"] == "stored"


@pytest.mark.usefixtures("environment")
def test_an_unknown_or_malformed_id_is_told():
    unknown = call("show", "01890000-0000-7000-8000-000000000001")
    assert unknown.exit_code == 4
    malformed = call("replay", "seven")
    assert malformed.exit_code == 2
    assert "'seven' is no delivery id" in malformed.stderr


def audit_of(database_url: str) -> list[tuple]:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text("SELECT act, reason FROM audit_log"))]
    engine.dispose()
    return rows
