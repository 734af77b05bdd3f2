"""The receiver as a real process on a real PostgreSQL, with no Kafka there at all."""

import asyncio
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from local_stack.embedded_postgres import ensure_databases, temporary_postgres
from vault_core.database import APP_ROLE, open_owner_engine
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE, sealed_body_binding
from vault_core.schema import migrate
from vault_core.secrets import Sealer

ACCEPTED = {"ResultCode": 0, "ResultDesc": "Accepted"}
ANSWERS = {
    "c2b_validation": {"ResultCode": "0", "ResultDesc": "Accepted"},
    "c2b_confirmation": {"ResultCode": 0, "ResultDesc": "Success"},
    "b2c_result": ACCEPTED,
    "b2c_timeout": ACCEPTED,
    "stk_result": ACCEPTED,
    "query_result": ACCEPTED,
    "query_timeout": ACCEPTED,
    "mifos_hook": {},
    "sms_report": {},
}


def rows_of(inbox_url: str) -> list[Any]:
    engine = create_engine(inbox_url)
    with engine.connect() as connection:
        rows = list(connection.execute(text("SELECT * FROM inbound_events ORDER BY id")))
    engine.dispose()
    return rows


def metric(url: str, name: str) -> float:
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(name)


@pytest.mark.parametrize("purpose", sorted(ANSWERS))
def test_each_purpose_is_stored_and_answered_as_its_sender_needs(receiver, tokens, inbox_url, sealer: Sealer, purpose):
    answer = httpx.post(
        f"{receiver.url}/i/{tokens[purpose]}/0123abcd", content=b'{"a": 1}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json() == ANSWERS[purpose]
    (row,) = rows_of(inbox_url)
    assert (row.purpose, row.topic, row.path_reference, row.parsed) == (purpose, TOPIC_OF_PURPOSE[purpose], "0123abcd", True)
    assert (row.state, row.source_ip, row.content_type, row.body_bytes) == ("stored", "127.0.0.1", "application/json", 8)
    assert sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)) == b'{"a": 1}'
    assert (row.next_sweep_at - row.received_at).total_seconds() == 30


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe\x00nothing",
        b"<html>",
        b'["a list"]',
        b'"text"',
        b"7",
        b"null",
        b"[" * 3000,
        b'{"a": NaN}',
        b"\x00" * 50,
    ],
)
def test_a_body_that_cannot_be_parsed_is_stored_as_it_is_and_acknowledged(receiver, tokens, inbox_url, sealer, body):
    answer = httpx.post(f"{receiver.url}/i/{tokens['c2b_confirmation']}", content=body)
    assert (answer.status_code, answer.json()) == (200, ANSWERS["c2b_confirmation"])
    (row,) = rows_of(inbox_url)
    assert row.parsed is False
    assert sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)) == body


def test_a_body_over_the_cap_is_refused_and_not_stored_whether_its_length_is_told_or_not(receiver, tokens, inbox_url):
    url = f"{receiver.url}/i/{tokens['b2c_result']}"
    refused_before = metric(receiver.url, 'vault_receiver_refused_total{reason="too_large"}')
    assert httpx.post(url, content=b"x" * 65_537).status_code == 413
    assert httpx.post(url, content=iter([b"x" * 40_000, b"x" * 40_000])).status_code == 413
    assert httpx.post(url, content=b"x" * 65_536).status_code == 200
    assert [row.body_bytes for row in rows_of(inbox_url)] == [65_536]
    assert metric(receiver.url, 'vault_receiver_refused_total{reason="too_large"}') == refused_before + 2


def test_what_is_no_known_callback_path_is_not_found(receiver, tokens, inbox_url):
    token = tokens["b2c_result"]
    unknown = "ab" * 20
    unknown_before = metric(receiver.url, 'vault_receiver_refused_total{reason="unknown_token"}')
    for path in (
        f"/i/{unknown}",
        f"/i/{token.upper()}",
        f"/i/{token}.",
        f"/i/{token}..",
        f"/i/{token[:-1]}",
        f"/i/{token}0",
        f"/i/{token}/a/b",
        f"/i/{token}//",
        f"/i/%2e%2e/i/{token}",
        f"/i/{token}/%2e%2e",
        f"/i/{token}/" + "a" * 65,
        "/i/" + "a" * 5000,
        "/",
        "/i/",
        "/admin",
        f"/i/{token}/%00",
        f"/i/{token}%0a",
    ):
        answer = httpx.post(f"{receiver.url}{path}", content=b"{}")
        assert answer.status_code == 404, path
        assert answer.content == b"", path
    assert rows_of(inbox_url) == []
    assert metric(receiver.url, 'vault_receiver_refused_total{reason="unknown_token"}') == unknown_before + 1


def test_a_known_token_answers_a_get_and_refuses_other_methods(receiver, tokens):
    url = f"{receiver.url}/i/{tokens['mifos_hook']}/"
    assert httpx.get(url).status_code == 200
    assert httpx.get(f"{receiver.url}/i/{'0' * 40}/").status_code == 404
    refused = httpx.put(url, content=b"{}")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")


@pytest.mark.usefixtures("tokens")
def test_a_new_token_works_at_once_and_a_revoked_one_soon_does_not(start_receiver, inbox_url, sealer):
    receiver = start_receiver(inbox_url, VAULT_RECEIVER_TOKENS_EVERY="0.2")
    partner_token = sealer.callback_token("second generation")
    engine = create_engine(inbox_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO callback_tokens SELECT :hash, partner_id, purpose, 2 FROM callback_tokens WHERE purpose = 'mifos_hook'"
            ),
            {"hash": sealer.token_hash(partner_token)},
        )
    assert httpx.post(f"{receiver.url}/i/{partner_token}/", content=b"{}").status_code == 200
    with engine.begin() as connection:
        connection.execute(text("UPDATE callback_tokens SET revoked_at = now() WHERE generation = 2"))
    engine.dispose()
    deadline = time.monotonic() + 10
    while httpx.get(f"{receiver.url}/i/{partner_token}/").status_code != 404:
        assert time.monotonic() < deadline


def test_only_the_headers_that_matter_are_kept(receiver, tokens, inbox_url):
    headers = {
        "X-Fineract-Entity": "LOAN",
        "X-Fineract-Action": "APPROVE",
        "Fineract-Platform-TenantId": "alpha",
        "X-Fineract-API-Key": "planted-secret",
        "Authorization": "planted-secret",
        "X-Forwarded-For": "196.201.214.200",
    }
    assert httpx.post(f"{receiver.url}/i/{tokens['mifos_hook']}/", content=b"{}", headers=headers).status_code == 200
    (row,) = rows_of(inbox_url)
    assert row.headers == {"x-fineract-entity": "LOAN", "x-fineract-action": "APPROVE", "fineract-platform-tenantid": "alpha"}
    assert row.source_ip == "127.0.0.1"  # no proxy is trusted here


def test_the_forwarded_address_counts_when_the_proxy_is_trusted(start_receiver, tokens, inbox_url):
    receiver = start_receiver(inbox_url, VAULT_TRUSTED_PROXIES="127.0.0.0/8")
    httpx.post(f"{receiver.url}/i/{tokens['b2c_result']}", content=b"{}", headers={"X-Forwarded-For": "6.6.6.6, 196.201.214.200"})
    assert [row.source_ip for row in rows_of(inbox_url)] == ["196.201.214.200"]


async def test_five_hundred_deliveries_at_once_are_stored_once_each(receiver, tokens, inbox_url, sealer):
    accepted = 'vault_receiver_accepted_total{purpose="c2b_confirmation"}'
    accepted_before = metric(receiver.url, accepted)
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        answers = await asyncio.gather(
            *(client.post(f"{receiver.url}/i/{tokens['c2b_confirmation']}", content=b'{"n": %d}' % n) for n in range(500))
        )
    assert {answer.status_code for answer in answers} == {200}
    bodies = [sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)) for row in rows_of(inbox_url)]
    assert sorted(json.loads(body)["n"] for body in bodies) == list(range(500))
    assert metric(receiver.url, accepted) == accepted_before + 500


def test_what_comes_while_a_commit_is_under_way_is_committed_together(receiver, tokens, inbox_url, shared_owner_url):
    commits_before = metric(receiver.url, "vault_receiver_batch_size_count")
    owner = create_engine(shared_owner_url)
    with owner.connect() as connection, ExitStack() as open_sockets:
        connection.execute(text("LOCK TABLE inbound_events IN EXCLUSIVE MODE"))  # a commit that takes long
        clients = [
            open_sockets.enter_context(socket.create_connection(("127.0.0.1", receiver.port), timeout=30)) for _ in range(100)
        ]
        for client in clients:
            head = f"POST /i/{tokens['c2b_confirmation']} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
            client.sendall(head.encode() + b"{}")
        metric(receiver.url, "vault_receiver_batch_size_count")  # answered after what was sent before it was read
        connection.rollback()
        assert all(client.recv(12) == b"HTTP/1.1 200" for client in clients)
    owner.dispose()
    assert len(rows_of(inbox_url)) == 100
    assert metric(receiver.url, "vault_receiver_batch_size_count") <= commits_before + 50


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(receiver, tokens, inbox_url):
    disconnected = 'vault_receiver_refused_total{reason="disconnected"}'
    before = metric(receiver.url, disconnected)
    with socket.create_connection(("127.0.0.1", receiver.port)) as client:
        client.sendall(f"POST /i/{tokens['b2c_result']} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
    deadline = time.monotonic() + 10
    while metric(receiver.url, disconnected) != before + 1:
        assert time.monotonic() < deadline
    assert rows_of(inbox_url) == []


def test_no_body_token_or_phone_is_logged(start_receiver, tokens, inbox_url):
    receiver = start_receiver(inbox_url)
    httpx.post(f"{receiver.url}/i/{tokens['c2b_confirmation']}", content=b'{"MSISDN": "254712345678"}')
    httpx.post(f"{receiver.url}/i/{tokens['c2b_confirmation']}", content=b"254712345678 planted-body")
    httpx.post(f"{receiver.url}/i/{'cd' * 20}", content=b"planted-body")
    receiver.stop()
    log = receiver.log_file.read_text()
    for planted in ("254712345678", "planted-body", "cd" * 20, *tokens.values()):
        assert planted not in log


def test_the_receiver_is_alive_without_postgresql_but_not_ready_and_acknowledges_nothing(start_receiver, tokens):
    receiver = start_receiver("postgresql://postgres@/nothing?host=/nonexistent")
    assert httpx.get(f"{receiver.url}/healthz").status_code == 200
    assert httpx.get(f"{receiver.url}/readyz").status_code == 503
    answer = httpx.post(f"{receiver.url}/i/{tokens['b2c_result']}", content=b"{}")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_while_postgresql_is_stopped_nothing_is_acknowledged_and_when_it_is_back_nothing_is_lost(
    start_receiver: Callable[..., Any], sealer: Sealer
):
    from tests.integration.callback_receiver.conftest import add_partner_with_tokens

    folder = Path(tempfile.mkdtemp(prefix="pv"))
    acknowledged = []

    def post(n: int) -> int:
        status = httpx.post(target, content=b'{"n": %d}' % n, timeout=15).status_code
        if status == 200:
            acknowledged.append(n)
        return status

    try:
        with temporary_postgres(folder, durable=True) as place:
            ensure_databases(place)
            url = place.url("vault", user=APP_ROLE)
            owner = open_owner_engine(place.url("vault"))
            migrate(owner, now=datetime.now(UTC))
            owner.dispose()
            tokens = add_partner_with_tokens(url, sealer)
            receiver = start_receiver(url)
            target = f"{receiver.url}/i/{tokens['b2c_result']}"
            assert post(1) == 200
        assert [post(n) for n in (2, 3)] == [503, 503]
        assert httpx.get(f"{receiver.url}/readyz").status_code == 503
        with temporary_postgres(folder, durable=True):
            assert post(4) == 200
            assert httpx.get(f"{receiver.url}/readyz").status_code == 200
            stored = {json.loads(sealer.open(row.body_sealed, bound_to=sealed_body_binding(row.id)))["n"] for row in rows_of(url)}
        assert acknowledged == [1, 4]
        assert stored >= set(acknowledged)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_wrong_setting_stops_the_start_with_a_message_that_names_it(start_receiver, inbox_url):
    with pytest.raises(AssertionError, match="VAULT_RECEIVER_BODY_CAP='many' is not a number"):
        start_receiver(inbox_url, VAULT_RECEIVER_BODY_CAP="many")
