"""The mirror of a partner's accounts, held against the sandbox's Mifos X over HTTP."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.integration.collections.conftest import Umoja
from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import AccountState
from vault_core.collections import mirror_refresh
from vault_core.collections.mirror import load_freshness
from vault_core.collections.mirror_refresh import refresh_mirrors
from vault_core.collections.mirror_writing import SeenAccount, note_seen
from vault_core.errors import RemoteBusy


async def mirrored(umoja: Umoja) -> dict[tuple[str, int], object]:
    return {(row.kind, row.account_id): row for row in await umoja.rows("SELECT * FROM mifos_accounts")}


async def refresh(umoja: Umoja) -> int:
    return await refresh_mirrors(umoja.runtime, umoja.connections)


async def freshness(umoja: Umoja):
    async with umoja.runtime.engine.connect() as connection:
        return (await load_freshness(connection, [umoja.partner.id]))[umoja.partner.id]


async def test_all_accounts_are_read_with_their_clients_and_nothing_personal_in_clear(umoja):
    assert await refresh(umoja) == 1

    rows = await mirrored(umoja)
    assert rows.keys() == {("loan", n) for n in (11, 12, 13, 14, 21)} | {("savings", 21), ("savings", 22)}
    loan = rows["loan", 11]
    assert (loan.account_no, loan.external_id, loan.currency, loan.state) == ("000000011", "LN-1001", "KES", "active")
    assert (loan.client_id, loan.client_no, loan.bare_key) == (1, "000000001", "11")
    assert bytes(loan.phone_hash) == umoja.runtime.sealer.lookup_hash("254712000001", purpose="phone")
    assert (rows["loan", 13].state, rows["loan", 14].phone_hash) == ("approved", None)
    assert "Jane" not in str([tuple(row) for row in rows.values()])
    assert (await freshness(umoja)).holds(umoja.runtime.clock.now(), timedelta(seconds=1))


async def test_pages_are_read_to_the_end_and_an_account_that_is_gone_is_dropped(umoja, monkeypatch):
    monkeypatch.setattr(mirror_refresh, "PAGE", 2)
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO mifos_accounts (partner_id, kind, account_id, account_no, currency, state, refreshed_at)"
                " VALUES (:id, 'loan', 999, '000000999', 'KES', 'active', now() - interval '1 day')"
            ),
            {"id": umoja.partner.id},
        )

    await refresh(umoja)
    assert len(await mirrored(umoja)) == 7
    assert ("loan", 999) not in await mirrored(umoja)


async def test_an_account_that_a_full_read_does_not_understand_is_named_and_not_dropped(umoja, monkeypatch):
    await refresh(umoja)
    known, read = await mirrored(umoja), MifosClient.account_page

    async def not_understood(client, kind, **which):
        page = await read(client, kind, **which)
        kept = tuple(one for one in page.accounts if one.id != 11)
        return replace(page, accounts=kept, unreadable=("loan 11: no status",)) if kept != page.accounts else page

    monkeypatch.setattr(MifosClient, "account_page", not_understood)
    umoja.runtime.clock.pass_time(seconds=umoja.runtime.pace.mirror_read_every + 1)
    assert await refresh(umoja) == 1
    assert (await mirrored(umoja)).keys() == known.keys()
    [mirror] = await umoja.rows("SELECT last_error FROM mifos_mirrors")
    assert "loan 11: no status" in mirror.last_error


async def test_new_accounts_are_there_a_minute_later_without_reading_all_of_them(umoja):
    await refresh(umoja)
    assert await refresh(umoja) == 0  # not due
    made = [{"id": n, "client": 3, "product": 1, "principal_cents": 100_00, "status": 300} for n in range(31, 61)]
    await umoja.control("setup", {"mifos": {"alpha": {"loans": made}}})

    umoja.runtime.clock.pass_time(seconds=umoja.runtime.pace.mirror_renew_every + 1)
    assert await refresh(umoja) == 1
    rows = await mirrored(umoja)
    assert rows.keys() >= {("loan", n) for n in range(31, 61)}
    assert rows["loan", 31].client_no == "000000003"
    assert rows["loan", 11].refreshed_at < rows["loan", 31].refreshed_at  # the old ones were not written again


async def test_new_accounts_whose_reading_was_cut_off_are_read_the_next_time_and_one_that_was_committed_late_too(
    umoja, monkeypatch
):
    await refresh(umoja)
    made = [{"id": n, "client": 3, "product": 1, "principal_cents": 100_00, "status": 300} for n in range(31, 61) if n != 58]
    await umoja.control("setup", {"mifos": {"alpha": {"loans": made}}})
    page = MifosClient.account_page

    async def breaks(client, kind, *, offset, limit, newest_first=False):
        if offset:
            raise RemoteBusy("away")
        return await page(client, kind, offset=offset, limit=limit, newest_first=newest_first)

    umoja.runtime.clock.pass_time(minutes=2)
    with monkeypatch.context() as patched:
        patched.setattr(MifosClient, "account_page", breaks)
        await refresh(umoja)
    umoja.runtime.clock.pass_time(minutes=5)
    await refresh(umoja)
    assert (await mirrored(umoja)).keys() >= {("loan", one["id"]) for one in made}
    assert (await freshness(umoja)).holds(umoja.runtime.clock.now(), timedelta(seconds=1))

    await umoja.control("setup", {"mifos": {"alpha": {"loans": [made[0] | {"id": 58}]}}})
    umoja.runtime.clock.pass_time(minutes=2)
    await refresh(umoja)
    assert ("loan", 58) in await mirrored(umoja)


async def test_a_refresh_gives_way_to_postings_that_are_due_within_a_bound(umoja):
    await refresh(umoja)
    read_at = (await freshness(umoja)).renewed_at
    await umoja.pay("UKL31H7AB1", 100_000, "LN-1001")
    umoja.runtime.clock.pass_time(seconds=61)
    assert await refresh(umoja) == 1
    assert (await freshness(umoja)).renewed_at == read_at
    umoja.runtime.clock.pass_time(seconds=120)
    await refresh(umoja)
    assert (await freshness(umoja)).renewed_at > read_at
    umoja.runtime.clock.pass_time(seconds=3600)
    await refresh(umoja)
    (row,) = await umoja.rows("SELECT read_at FROM mifos_mirrors")
    assert row.read_at == read_at, "all accounts were read beside a posting that is due"
    umoja.runtime.clock.pass_time(seconds=900)
    await refresh(umoja)
    (row,) = await umoja.rows("SELECT read_at FROM mifos_mirrors")
    assert row.read_at > read_at


async def test_a_partner_that_fails_is_tried_after_growing_waits_and_keeps_what_it_had(umoja):
    await refresh(umoja)
    await umoja.control("setup", {"mifos": {"alpha": {"html": True}}})
    waits = []
    for _ in range(3):
        umoja.runtime.clock.pass_time(days=1)
        await refresh(umoja)
        [row] = await umoja.rows("SELECT * FROM mifos_mirrors")
        waits.append((row.due_at - umoja.runtime.clock.now()).total_seconds())

    assert waits[0] < waits[1] < waits[2]
    assert (row.failures, "NotUnderstood" in row.last_error, len(await mirrored(umoja))) == (3, True, 7)
    assert not (await freshness(umoja)).holds(umoja.runtime.clock.now(), timedelta(hours=1))

    await umoja.control("setup", {"mifos": {"alpha": {"html": False}}})
    umoja.runtime.clock.pass_time(days=1)
    await refresh(umoja)
    [row] = await umoja.rows("SELECT * FROM mifos_mirrors")
    assert (row.failures, row.last_error) == (0, None)


async def test_a_partner_whose_accounts_cannot_be_kept_is_put_off_and_the_error_quotes_nothing(umoja):
    wide = [
        {
            "id": 41,
            "client": 1,
            "product": 1,
            "principal_cents": 100,
            "status": 300,
            "external_id": random.Random(1).randbytes(4000).hex(),
        }
    ]
    await umoja.control("setup", {"mifos": {"alpha": {"loans": wide}}})
    await refresh(umoja)

    [row] = await umoja.rows("SELECT * FROM mifos_mirrors")
    assert (row.failures, row.last_error, row.read_at) == (1, "OperationalError", None)


async def test_two_workers_share_the_partners(umoja):
    assert sorted(await asyncio.gather(refresh(umoja), refresh(umoja))) == [0, 1]


async def test_a_server_from_before_1_9_is_read_alike(umoja):
    await umoja.control("setup", {"mifos": {"alpha": {"legacy": True}}})

    await refresh(umoja)
    assert len(await mirrored(umoja)) == 7


async def test_a_loan_that_a_payment_pays_off_is_known_to_be_closed_at_once(umoja):
    await refresh(umoja)
    owed = (await umoja.truth())["mifos"]["alpha"]["loans"]["12"]["outstanding_cents"]
    await umoja.pay("R1", owed, "000000012")
    await umoja.work()

    assert (await mirrored(umoja))["loan", 12].state == "closed"


async def test_a_loan_whose_disbursal_we_posted_is_active_at_the_next_refresh(umoja):
    await refresh(umoja)
    umoja.runtime.clock.pass_time(seconds=61)
    posted = """INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt,
        amount_cents, transaction_date, created_at, state, posted_at)
        VALUES (gen_random_uuid(), :partner, 'disburse', gen_random_uuid(), 13, 'e', 'k', 'R', 100, :now, :now, 'posted', :now)"""
    async with umoja.runtime.engine.begin() as connection:
        await connection.execute(text(posted), {"partner": umoja.partner.id, "now": umoja.runtime.clock.now()})
    await refresh(umoja)

    assert (await mirrored(umoja))["loan", 13].state == "active"


async def test_what_a_posting_saw_stands_and_an_older_word_does_not_undo_it(umoja):
    await refresh(umoja)
    now = umoja.runtime.clock.now()

    async def see(state: AccountState, **ago: float) -> str:
        async with umoja.runtime.engine.begin() as connection:
            seen = [SeenAccount(umoja.partner.id, "loan", account_id, state) for account_id in (11, 4711)]
            await note_seen(connection, seen, at=now + timedelta(**ago))
        return (await mirrored(umoja))["loan", 11].state

    assert await see(AccountState.CLOSED, seconds=5) == "closed"
    assert await see(AccountState.ACTIVE, seconds=1) == "closed"
    assert ("loan", 4711) not in await mirrored(umoja)


@pytest.mark.parametrize("right", ["UPDATE", "DELETE"])
async def test_what_was_said_to_m_pesa_cannot_be_changed_by_the_application(umoja, right):
    statement = {"UPDATE": "UPDATE payment_validations SET reason = ''", "DELETE": "DELETE FROM payment_validations"}[right]
    with pytest.raises(Exception, match="permission denied"):
        async with umoja.runtime.engine.begin() as connection:
            await connection.execute(text(statement))
