"""Each invariant attacked by raw SQL: as the application's own role, and, where triggers guard it, as the owner too."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from vault_core.ledger.verification import verify_ledger_async

_POST = """
    SELECT ledger_post(now(), ARRAY[gen_random_uuid()], ARRAY[CAST(:partner AS uuid)], ARRAY['x'], ARRAY['r'], ARRAY[:key], ARRAY[''],
        ARRAY[now()], ARRAY[true], ARRAY[CAST(:reverses AS uuid)], ARRAY[CAST(:hold AS uuid)], CAST(:postings AS integer[]),
        CAST(:codes AS text[]), CAST(:cents AS bigint[]))
"""
_GOOD = {
    "partner": None,
    "key": "k",
    "reverses": None,
    "hold": None,
    "postings": [1, 1],
    "codes": ["bank:settlement", "fees:system"],
    "cents": [5, -5],
}

WRITES = {
    "entries are not inserted": "INSERT INTO ledger_entries VALUES (gen_random_uuid(), 1, 1, 5, 0, 5, 1)",
    "entries are not inserted into a partition": "INSERT INTO {entries} VALUES (gen_random_uuid(), 1, 1, 5, 0, 5, 1)",
    "entries are not inserted into the default partition": "INSERT INTO ledger_entries_default VALUES (gen_random_uuid(), 1, 1, 5, 0, 5, 1)",
    "entries are not changed": "UPDATE ledger_entries SET amount_cents = amount_cents + 1",
    "entries of a partition are not changed": "UPDATE {entries} SET amount_cents = amount_cents + 1",
    "entries are not deleted": "DELETE FROM ledger_entries",
    "entries of a partition are not deleted": "DELETE FROM {entries}",
    "entries are not truncated": "TRUNCATE ledger_entries",
    "a partition is not truncated": "TRUNCATE {entries}",
    "a partition is not detached": "ALTER TABLE ledger_entries DETACH PARTITION {entries}",
    "transactions are not changed": "UPDATE ledger_transactions SET reference = 'else'",
    "transactions are not deleted": "DELETE FROM ledger_transactions",
    "transactions are not truncated": "TRUNCATE ledger_transactions CASCADE",
    "keys are not freed": "DELETE FROM ledger_keys",
    "keys are not changed": "UPDATE ledger_keys SET body_hash = ''",
    "keys are not taken without posting": "INSERT INTO ledger_keys VALUES (gen_random_uuid(), 'k', '', gen_random_uuid())",
    "balances are not changed": "UPDATE ledger_accounts SET balance_cents = balance_cents - 1",
    "held amounts are not changed": "UPDATE ledger_accounts SET held_cents = 0",
    "versions are not changed": "UPDATE ledger_accounts SET version = version + 1",
    "accounts are not deleted": "DELETE FROM ledger_accounts",
    "accounts are not made": "INSERT INTO ledger_accounts (code, shard, normal_side) VALUES ('fees:sms', 9, 'debit')",
    "the chart is not changed": "UPDATE ledger_chart SET normal_side = 'debit' WHERE code = 'wallet'",
    "holds are not made": "INSERT INTO ledger_holds (id, account_id, partner_id, key, amount_cents, placed_at) "
    "VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'k', 1, now())",
    "holds are not reopened": "UPDATE ledger_holds SET state = 'held', resolved_at = NULL",
    "holds are not deleted": "DELETE FROM ledger_holds",
    "a period is not closed by hand": "INSERT INTO ledger_closings VALUES (1, '2026-01-01', now(), 'x', 0, 0)",
    "a period is not opened again": "DELETE FROM ledger_closings",
    "closing balances are not changed": "UPDATE ledger_closing_balances SET balance_cents = 0",
    "reversals are not unlinked": "DELETE FROM ledger_reversals",
    "seals are not made": "INSERT INTO ledger_seals VALUES (1, 0, 9, gen_random_uuid(), gen_random_uuid(), 1, '', '', now())",
    "seals are not changed": "UPDATE ledger_seals SET digest = ''",
    "seals are not deleted": "DELETE FROM ledger_seals",
    "the numbering is not turned back": "UPDATE ledger_write_base SET base = 0",
    "guards are not dropped": "DROP TRIGGER append_only ON ledger_entries",
    "guards are not disabled": "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
    "triggers are not bypassed": "SET session_replication_role = replica",
    "the inner functions are not called": "SELECT ledger_lock_accounts(ARRAY[gen_random_uuid()], ARRAY['wallet'], ARRAY[0::smallint])",
    "the posting function is not replaced": "CREATE OR REPLACE FUNCTION ledger_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN RETURN NULL; END'",
    "a used tariff is not changed": "UPDATE tariff_bands SET fee_cents = 0",
}


@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES.keys())
async def test_the_application_role_is_refused(book, partner_id: UUID, statement: str) -> None:
    await book.post(book.topup(partner_id, 1_000))
    await book.hold(partner_id, ("a", 10))
    async with book.runtime.engine.connect() as connection:
        name = (await connection.execute(text("SELECT tableoid::regclass::text FROM ledger_entries LIMIT 1"))).scalar_one()
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            await connection.execute(text(statement.format(entries=name)))


LIES = {
    "legs that do not sum to zero": ({"cents": [5, -4]}, "do not sum to zero"),
    "a posting without legs": ({"postings": [], "codes": [], "cents": []}, "no legs"),
    "a leg of nothing": ({"cents": [0, 0]}, "empty leg"),
    "a leg without an amount": ({"postings": [1, 1, 1], "codes": ["fees:sms"] * 3, "cents": [5, -5, None]}, "empty leg"),
    "legs of a posting that is not there": ({"postings": [2, 2]}, "names account"),
    "an account that is not in the chart": ({"codes": ["bank:settlement", "my:pocket"]}, "not in the chart"),
    "a partner's account without a partner": ({"codes": ["bank:settlement", "wallet"]}, "only a partner has"),
    "lists that differ in length": ({"cents": [5, -5, 0]}, "differ in length"),
    "a hold that is not there": ({"hold": uuid4()}, "none of that id"),
    "a reversal of what is not there": ({"reverses": uuid4()}, "none of that id"),
    "an empty key": ({"key": ""}, "check constraint"),
}


@pytest.mark.parametrize(("lie", "answer"), LIES.values(), ids=LIES.keys())
async def test_the_posting_function_refuses(book, lie: dict[str, object], answer: str) -> None:
    async with book.runtime.engine.connect() as connection:
        with pytest.raises(DBAPIError, match=answer):
            await connection.execute(text(_POST), _GOOD | lie)
        await connection.rollback()
        await connection.execute(text(_POST), _GOOD)  # the same without the lie is taken


async def test_two_partners_cannot_be_named_in_one_transaction(book, partner_id: UUID) -> None:
    """A leg names a code; whose account it is follows from the posting, so there is no way to say it."""
    other_id = await book.partner("beta")
    await book.post(book.topup(partner_id, 100), book.topup(other_id, 100))
    async with book.runtime.engine.connect() as connection:
        row = (
            await connection.execute(
                text(
                    "SELECT max(n) FROM (SELECT count(DISTINCT a.partner_id) AS n FROM ledger_entries e JOIN ledger_accounts a"
                    " ON a.id = e.account_id GROUP BY e.transaction_id) AS counted"
                )
            )
        ).scalar_one()
    assert row == 1


@pytest.mark.parametrize("cents", [[0], [-5], [None]], ids=["nothing", "a negative amount", "no amount"])
async def test_the_hold_function_refuses(book, partner_id: UUID, cents: list[int | None]) -> None:
    async with book.runtime.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="a hold is a positive amount"):
            await connection.execute(
                text(
                    "SELECT * FROM ledger_hold(now(), ARRAY[gen_random_uuid()], ARRAY[CAST(:partner AS uuid)], ARRAY['wallet'], ARRAY['k'],"
                    " CAST(:cents AS bigint[]), ARRAY[NULL::timestamptz])"
                ),
                {"partner": partner_id, "cents": cents},
            )


OWNER = {
    "unbalanced entries": "INSERT INTO ledger_entries SELECT transaction_id, 9, account_id, 5, 0, 5, 99 FROM ledger_entries LIMIT 1",
    "a changed entry": "UPDATE ledger_entries SET amount_cents = 1, balance_after_cents = balance_before_cents + 1",
    "a changed entry of a partition": "UPDATE {entries} SET account_version = 7",
    "a deleted entry": "DELETE FROM {entries}",
    "a deleted transaction": "DELETE FROM ledger_transactions",
    "a freed key": "DELETE FROM ledger_keys",
    "a hold that is held again": "UPDATE ledger_holds SET state = 'held', resolved_at = NULL WHERE state = 'released'",
    "a deleted hold": "DELETE FROM ledger_holds",
    "a truncated ledger": "TRUNCATE ledger_entries",
}


@pytest.mark.parametrize("statement", OWNER.values(), ids=OWNER.keys())
async def test_even_the_owner_meets_the_triggers(book, partner_id: UUID, owner_url: str, statement: str) -> None:
    await book.post(book.topup(partner_id, 1_000))
    await book.release(await book.hold(partner_id, ("a", 100)))
    owner = create_engine(owner_url)
    with owner.connect() as connection:
        name = connection.execute(text("SELECT tableoid::regclass::text FROM ledger_entries LIMIT 1")).scalar_one()
        with pytest.raises(DBAPIError, match=r"append-only|does not sum to zero|is released already"):
            connection.execute(text(statement.format(entries=name)))
    owner.dispose()
    assert await verify_ledger_async(book.runtime.engine) == []
