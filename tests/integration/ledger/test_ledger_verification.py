"""Each thing that could be wrong is made wrong behind the guards' back, and the proof names it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, post, reversal_of
from vault_core.ledger.sealing import seal_due
from vault_core.ledger.verification import verify_ledger_async
from vault_core.ledger.verification_seals import SEAL_LAG

Tamper = Callable[[str], None]


@pytest.fixture
def tamper(owner_url: str) -> Tamper:
    """Runs a statement as a superuser with every trigger off."""

    def run(statement: str) -> None:
        owner = create_engine(owner_url, poolclass=NullPool)
        with owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            assert connection.execute(text(statement)).rowcount != 0
        owner.dispose()

    return run


@pytest.fixture
async def lived_in(book, partner_id: UUID) -> UUID:
    """A ledger with a bit of everything: the partner of it."""
    await book.post(*(book.topup(partner_id, 1_000 + n, key=f"topup:{n}") for n in range(3)))
    taken, freed, _ = await book.hold(partner_id, ("a", 100), ("b", 200), ("c", 300))
    await book.capture((taken, book.charge(partner_id, 60, "a")))
    await book.release([freed])
    return partner_id


def tamper_with_constraints(tamper: Tamper, table: str) -> None:
    """Drops the table's checks, as whoever has the owner's rights could."""
    tamper(
        f"""
        DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c' LOOP
                EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', name);
            END LOOP;
        END $$
        """  # noqa: S608 - the test's own table names
    )


async def sealed(book, transactions: int, *, most: int = 100) -> None:
    """Returns once so many are sealed: any other database transaction of the server holds sealing back for a moment."""
    for _ in range(1_000):
        transactions -= await seal_due(book.runtime, most=most)
        if transactions <= 0:
            break
        await asyncio.sleep(0.01)
    assert transactions == 0


async def test_a_sound_ledger_has_no_findings(book, lived_in: UUID) -> None:
    assert await verify_ledger_async(book.runtime.engine) == []
    await sealed(book, 4, most=2)
    assert await verify_ledger_async(book.runtime.engine) == []
    assert lived_in


# (check, what is done behind the guards' back, a part of the line that tells of it)
WRONGS = [
    (
        "sums_to_zero",
        """
        UPDATE ledger_entries SET amount_cents = amount_cents + 1, balance_after_cents = balance_after_cents + 1
        WHERE account_version = 2 AND leg = 2
        """,
        "2 legs sum to 1 cents",
    ),
    ("sums_to_zero", "DELETE FROM ledger_entries WHERE account_version = 2 AND leg = 2", "1 legs sum to"),
    ("sums_to_zero", "DELETE FROM ledger_transactions WHERE key = 'topup:1'", "leg 1 has no transaction"),
    (
        "balance_is_sum_of_entries",
        "UPDATE ledger_accounts SET balance_cents = balance_cents - 500 WHERE code = 'wallet'",
        "alpha wallet/0: account",
    ),
    ("balance_is_sum_of_entries", "UPDATE ledger_accounts SET version = version + 1 WHERE code = 'wallet'", "entries sum to"),
    (
        "balance_is_sum_of_entries",
        "UPDATE ledger_entries SET account_id = 777 WHERE account_version = 2 AND leg = 2",
        "account 777: 1 entries are of an account that is not there",
    ),
    ("entries_chain", "UPDATE ledger_entries SET account_version = 17 WHERE account_version = 2 AND leg = 2", "entry 17 of"),
    ("entries_chain", "UPDATE ledger_entries SET account_version = 3 WHERE account_version = 2 AND leg = 2", "entry 3 of"),
    (
        "entries_chain",
        "UPDATE ledger_entries SET balance_before_cents = 1, balance_after_cents = amount_cents + 1 WHERE account_version = 2 AND leg = 2",
        "entry 2 of",
    ),
    ("keys", "DELETE FROM ledger_keys WHERE key = 'topup:1'", "its key topup:1 is not reserved"),
    ("keys", "UPDATE ledger_keys SET transaction_id = gen_random_uuid() WHERE key = 'topup:1'", "its key topup:1 is not"),
    ("keys", "INSERT INTO ledger_keys SELECT scope, 'more', body_hash, gen_random_uuid() FROM ledger_keys LIMIT 1", "key more"),
    ("partners_apart", "UPDATE ledger_transactions SET partner_id = NULL WHERE key = 'topup:1'", "of another partner"),
    ("reversed_once", "UPDATE ledger_transactions SET reverses = gen_random_uuid() WHERE key = 'topup:1'", "on one side"),
    ("reversed_once", "INSERT INTO ledger_reversals VALUES (gen_random_uuid(), gen_random_uuid())", "on one side"),
    ("held_is_sum_of_holds", "UPDATE ledger_holds SET amount_cents = 301 WHERE key = 'c'", "301"),
    ("captures_match", "UPDATE ledger_holds SET captured_cents = 61 WHERE key = 'a'", "its transaction took 60"),
    ("hold_states", "UPDATE ledger_holds SET resolved_at = now() WHERE key = 'c'", "(c)"),
    ("hold_states", "UPDATE ledger_holds SET state = 'expired' WHERE key = 'b'", "(b)"),
    (
        "trial_balance",
        "UPDATE ledger_accounts SET balance_cents = balance_cents + 1 WHERE code = 'bank:settlement'",
        "debits exceed credits by",
    ),
]


@pytest.mark.parametrize(("check", "statement", "line"), WRONGS, ids=[f"{check}: {line}" for check, _, line in WRONGS])
async def test_the_proof_names_what_is_wrong(book, lived_in: UUID, tamper: Tamper, check: str, statement: str, line: str) -> None:
    for guard in ("ledger_entries", "ledger_holds"):  # a checked rule is no guard once its constraint is dropped
        tamper_with_constraints(tamper, guard)
    tamper(statement)
    findings = await verify_ledger_async(book.runtime.engine)
    assert [finding for finding in findings if finding.check == check and line in str(finding)], findings
    assert all("\n" not in str(finding) for finding in findings)
    assert lived_in


async def test_a_body_that_is_not_what_was_posted_shows_before_it_is_sealed(book, lived_in: UUID, tamper: Tamper) -> None:
    tamper("UPDATE ledger_transactions SET reference = 'else' WHERE key = 'topup:1'")
    (finding,) = await verify_ledger_async(book.runtime.engine)
    assert finding.check == "keys"
    assert lived_in


SEALED_WRONGS = {
    "a changed description": ("UPDATE ledger_transactions SET description = 'else' WHERE key = 'topup:1'", "seal 1"),
    "a changed booking time": (
        "UPDATE ledger_transactions SET booked_at = booked_at + interval '1 us' WHERE key = 'a'",
        "seal 2",
    ),
    "a changed digest": ("UPDATE ledger_seals SET digest = sha256('x') WHERE number = 1", "seal 1"),
    "a missing seal": ("DELETE FROM ledger_seals WHERE number = 1", "seal 2"),
    "a changed chain": ("UPDATE ledger_seals SET chain = sha256('x') WHERE number = 1", "seal 2"),
    "a transaction slipped in": (
        """
        INSERT INTO ledger_transactions (id, kind, reference, key, effective_at, booked_at, written_by)
        SELECT gen_random_uuid(), 'x', 'r', 'slipped', now(), now(), written_by FROM ledger_transactions WHERE key = 'topup:1'
        """,
        "seal 1",
    ),
}


@pytest.mark.parametrize(("statement", "where"), SEALED_WRONGS.values(), ids=SEALED_WRONGS.keys())
async def test_the_chain_shows_what_was_changed_after_sealing(
    book, lived_in: UUID, tamper: Tamper, statement: str, where: str
) -> None:
    await sealed(book, 4, most=3)
    tamper(statement)
    findings = await verify_ledger_async(book.runtime.engine)
    assert where in {finding.where for finding in findings if finding.check == "seals_chain"}
    assert lived_in


# Two accounts of one partner change places, and every trace of it that is not sealed is put right.
SWAP = """
    UPDATE ledger_accounts SET shard = 9 WHERE code = 'wallet';
    UPDATE ledger_accounts SET code = 'wallet', normal_side = 'credit' WHERE code = 'b2c_float';
    UPDATE ledger_accounts SET code = 'b2c_float', normal_side = 'debit', shard = 0 WHERE shard = 9;
    UPDATE ledger_keys k SET body_hash = ledger_body_hash(t.kind, t.reference, t.effective_at, t.reverses, (
        SELECT string_agg(ledger_leg_bytes(a.code, e.amount_cents), ''::bytea ORDER BY a.code, e.amount_cents)
        FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE e.transaction_id = t.id))
    FROM ledger_transactions t WHERE t.id = k.transaction_id
    """
# The seals as they were made before they covered the names of accounts.
FORMAT_1 = """
    UPDATE ledger_seals s SET format = 1, digest = d.digest,
        chain = ledger_chain('', s.number, s.from_write, s.upto_write, s.transactions, d.digest)
    FROM ledger_seals o, ledger_digest(o.from_write, o.upto_write, 1::smallint) AS d WHERE o.number = s.number
    """


async def test_the_names_of_accounts_are_sealed(book, partner_id: UUID, tamper: Tamper) -> None:
    legs = (Leg(AccountRef(partner_id, "wallet"), 5), Leg(AccountRef(partner_id, "b2c_float"), -5))
    await book.post(book.topup(partner_id, 100), replace(book.topup(partner_id, 5, key="move"), kind="move", legs=legs))
    tamper(SWAP)
    assert await verify_ledger_async(book.runtime.engine) == []  # nothing is sealed yet: it might have been so
    tamper(SWAP)
    await sealed(book, 2)
    assert await verify_ledger_async(book.runtime.engine) == []
    tamper(SWAP)
    (finding,) = await verify_ledger_async(book.runtime.engine)
    assert (finding.check, finding.where) == ("seals_chain", "seal 1")


async def test_a_seal_of_the_first_format_is_proved_by_it_and_those_after_it_by_theirs(
    book, lived_in: UUID, tamper: Tamper
) -> None:
    await sealed(book, 4)
    tamper(FORMAT_1)
    assert await verify_ledger_async(book.runtime.engine) == []
    await book.post(book.topup(lived_in, 7, key="topup:later"))
    await sealed(book, 1)
    assert await verify_ledger_async(book.runtime.engine) == []
    tamper("UPDATE ledger_seals SET format = 2 WHERE number = 1")
    assert [finding.where for finding in await verify_ledger_async(book.runtime.engine)] == ["seal 1"]


async def test_not_even_the_owner_gives_an_account_another_name(book, lived_in: UUID, owner_url: str) -> None:
    owner = create_engine(owner_url, poolclass=NullPool)
    for change in ("code = 'b2c_float'", "normal_side = 'debit'", "shard = 1", f"partner_id = '{uuid4()}'"):
        with pytest.raises(DBAPIError, match="append-only"), owner.begin() as connection:
            connection.execute(text(f"UPDATE ledger_accounts SET {change} WHERE code = 'wallet'"))  # noqa: S608 - the lines above
    assert await verify_ledger_async(book.runtime.engine) == []
    assert lived_in


async def test_a_reversal_that_does_not_mirror_its_original_is_named(book, partner_id: UUID, tamper: Tamper) -> None:
    first, second = await book.post(book.topup(partner_id, 100), book.topup(partner_id, 60, key="topup:2"))
    async with book.runtime.engine.connect() as connection:
        undo = await reversal_of(connection, second, key="undo", effective_at=book.WHEN, why="typed twice")
    await book.post(undo)
    assert await verify_ledger_async(book.runtime.engine) == []
    tamper(
        f"""
        UPDATE ledger_reversals SET original = '{first}';
        UPDATE ledger_transactions SET reverses = '{first}' WHERE key = 'undo';
        UPDATE ledger_keys k SET body_hash = ledger_body_hash(t.kind, t.reference, t.effective_at, t.reverses, (
            SELECT string_agg(ledger_leg_bytes(a.code, e.amount_cents), ''::bytea ORDER BY a.code, e.amount_cents)
            FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE e.transaction_id = t.id))
        FROM ledger_transactions t WHERE t.id = k.transaction_id AND k.key = 'undo'
        """  # noqa: S608 - an id of this test
    )
    (finding,) = await verify_ledger_async(book.runtime.engine)
    assert finding.check == "reversals_mirror"
    assert str(first) in finding.what


async def test_two_holds_that_say_they_were_taken_by_one_capture_are_named(book, lived_in: UUID, tamper: Tamper) -> None:
    tamper("DROP INDEX ledger_holds_capture")
    tamper(
        """
        UPDATE ledger_holds SET state = 'captured', captured_cents = 60, transaction_id = o.transaction_id
        FROM (SELECT transaction_id FROM ledger_holds WHERE key = 'a') AS o WHERE key = 'b'
        """
    )
    (finding,) = await verify_ledger_async(book.runtime.engine)
    assert finding.check == "captures_match"
    assert "2 holds" in finding.what
    assert lived_in


async def test_the_database_takes_one_hold_a_capture(book, lived_in: UUID, tamper: Tamper) -> None:
    with pytest.raises(IntegrityError, match="ledger_holds_capture"):
        tamper(
            """
            UPDATE ledger_holds SET state = 'captured', captured_cents = 60, transaction_id = o.transaction_id
            FROM (SELECT transaction_id FROM ledger_holds WHERE key = 'a') AS o WHERE key = 'b'
            """
        )
    assert await verify_ledger_async(book.runtime.engine) == []
    assert lived_in


async def test_a_late_commit_is_sealed_after_what_overtook_it(book, partner_id: UUID) -> None:
    """Its id is older than that of the postings already sealed: nothing slips behind a seal."""
    other_id = await book.partner("beta")
    async with book.runtime.engine.connect() as slow:
        await post(slow, book.runtime, [book.topup(partner_id, 100)])
        await book.post(book.topup(other_id, 50))
        assert await seal_due(book.runtime) == 0  # the slow one may still commit: nothing after it is sealed
        await slow.commit()
    await sealed(book, 2)
    assert await seal_due(book.runtime) == 0
    assert await verify_ledger_async(book.runtime.engine) == []


async def test_sealing_that_has_fallen_behind_is_told(book, partner_id: UUID) -> None:
    await book.post(book.topup(partner_id, 100))
    await sealed(book, 1)
    await book.post(book.topup(partner_id, 100, key="topup:2"))
    now = book.runtime.clock.now()
    assert await verify_ledger_async(book.runtime.engine, now=now + SEAL_LAG) == []
    (finding,) = await verify_ledger_async(book.runtime.engine, now=now + SEAL_LAG + timedelta(seconds=1))
    assert finding.check == "seals_lag"


async def test_a_ledger_restored_on_a_server_with_lower_transaction_ids_goes_on(
    book, partner_id: UUID, tamper: Tamper, owner_url: str
) -> None:
    await book.post(book.topup(partner_id, 100))
    tamper("UPDATE ledger_transactions SET written_by = written_by + 1000000")  # as if written where ids were far ahead
    assert await seal_due(book.runtime) == 0
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(text("UPDATE ledger_write_base SET base = 1000000"))
    await sealed(book, 1)
    with owner.begin() as connection:
        connection.execute(text("UPDATE ledger_write_base SET base = 0"))
        connection.execute(text("SELECT ledger_adopt_server()"))
    owner.dispose()
    await book.post(book.topup(partner_id, 100, key="topup:2"))
    await sealed(book, 1)
    assert await verify_ledger_async(book.runtime.engine) == []
