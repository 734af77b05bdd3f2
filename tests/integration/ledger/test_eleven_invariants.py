"""The eleven invariants of the ledger, each attacked by SQL that runs under the login of the product's own processes.

One ledger is lived in and then attacked; every attack must be refused, and leave every row, trigger and function as it was. Lies to
`ledger_post` begin with a posting that would be taken, of which one thing is made wrong.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine, text

from tests.database_urls import app_url
from tests.integration.ledger.conftest import Book
from vault_core.clock import SystemClock
from vault_core.database import open_async_engine, open_sync_engine
from vault_core.identifiers import id_maker
from vault_core.ledger.closing import close_period
from vault_core.ledger.posting import reversal_of
from vault_core.ledger.sealing import seal_due
from vault_core.ledger.verification import verify_ledger
from vault_core.runtime import Runtime
from vault_core.secrets import Sealer
from vault_core.settings import Pace

DENIED = r"permission denied|must be owner"
Facts = Mapping[str, Any]
Lie = Callable[[Facts], dict[str, Any]]

POST = """
    SELECT ledger_post(now(), %(ids)s::uuid[], %(partners)s::uuid[], %(kinds)s::text[], %(references)s::text[], %(keys)s::text[],
        %(descriptions)s::text[], %(effective_at)s::timestamptz[], %(carried)s::boolean[], %(reverses)s::uuid[], %(holds)s::uuid[],
        %(leg_posting)s::integer[], %(leg_code)s::text[], %(leg_cents)s::bigint[])
"""
HOLD = """
    SELECT * FROM ledger_hold(now(), %(ids)s::uuid[], %(partners)s::uuid[], %(codes)s::text[], %(keys)s::text[], %(cents)s::bigint[],
        %(expires_at)s::timestamptz[])
"""


@dataclass(frozen=True)
class Target:
    """The ledger under attack and what an attacker would know of it."""

    owner_url: str
    app: str
    owner: str
    facts: Facts

    def good(self) -> dict[str, object]:
        """A posting that is taken."""
        return {
            "ids": [uuid4()], "partners": [self.facts["alpha"]], "kinds": ["topup"], "references": ["r"], "keys": ["fresh"],
            "descriptions": [""], "effective_at": [datetime.now(UTC)], "carried": [True], "reverses": [None], "holds": [None],
            "leg_posting": [1, 1], "leg_code": ["bank:settlement", "wallet"], "leg_cents": [5, -5],
        }  # fmt: skip

    def good_hold(self) -> dict[str, object]:
        return {
            "ids": [uuid4()], "partners": [self.facts["alpha"]], "codes": ["wallet"], "keys": ["fresh"], "cents": [5], "expires_at": [None],
        }  # fmt: skip


@pytest.fixture(scope="module")
def target(postgres_url: str, template_database: str) -> Iterator[Target]:
    """Two partners with money, a hold under way, one captured and one released; a reversal, a closing and a seal."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    name = f"i{random.getrandbits(48):012x}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy"))
    owner_url = postgres_url.replace("/postgres?", f"/{name}?")
    facts = asyncio.run(live(app_url(owner_url)))
    plain = owner_url.replace("postgresql+psycopg://", "postgresql://")
    yield Target(owner_url, app_url(plain), plain, facts)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


async def live(url: str) -> Facts:
    clock = SystemClock()
    engine = open_async_engine(url)
    async with httpx.AsyncClient() as http:
        runtime = Runtime(engine, clock, id_maker(clock), random.Random(1), Sealer([("k", bytes(32))]), http, Pace(), "")
        book, now = Book(runtime), clock.now()
        alpha, beta = [await book.partner(partner) for partner in ("alpha", "beta")]
        topups = [
            replace(book.topup(partner, 1_000, key="topup:1"), effective_at=now - timedelta(days=40)) for partner in (alpha, beta)
        ]
        topup, betas_topup = await book.post(*topups)
        closed_before = now - timedelta(days=30)
        await close_period(runtime, closed_before, "test")
        undone = replace(book.topup(alpha, 70, key="topup:2"), effective_at=now)
        (original,) = await book.post(undone)
        async with engine.connect() as connection:
            undoing = await reversal_of(connection, original, key="undo", effective_at=now, why="test")
        (reversal,) = await book.post(undoing)
        open_hold, captured, released = [
            answer
            for answer in await book.hold(alpha, ("open", 300), ("captured", 200), ("released", 100))
            if isinstance(answer, UUID)
        ]
        (betas_hold,) = await book.hold(beta, ("betas", 400))
        (charge,) = await book.capture((captured, replace(book.charge(alpha, 150, "captured"), effective_at=now)))
        await book.release([released])
        await seal_due(runtime)
    await engine.dispose()
    return {
        "alpha": alpha, "beta": beta, "topup": topup, "betas_topup": betas_topup, "original": original, "reversal": reversal, "charge": charge,
        "open_hold": open_hold, "captured": captured, "released": released, "betas_hold": betas_hold, "closed_before": closed_before,
        "entries": f"ledger_entries_{now:%Y%m}", "transactions": f"ledger_transactions_{now:%Y%m}",
    }  # fmt: skip


TABLES = (
    "ledger_chart", "ledger_accounts", "ledger_keys", "ledger_transactions", "ledger_entries", "ledger_reversals", "ledger_holds",
    "ledger_seals", "ledger_closings", "ledger_closing_balances", "ledger_write_base",
)  # fmt: skip


def fingerprint(target: Target) -> list[tuple[Any, ...]]:
    """Every row of the ledger, and what guards them."""
    row = "SELECT '{0}', md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {0} t"
    rows = [row.format(table) for table in TABLES]
    guards = """
        SELECT 'triggers', md5(string_agg(concat(tgrelid, tgname, tgenabled, tgfoid), '' ORDER BY tgrelid, tgname))
        FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'functions', md5(string_agg(concat(oid, prosrc, proacl), '' ORDER BY oid)) FROM pg_proc WHERE proname LIKE 'ledger%'
        UNION ALL SELECT 'tables', md5(string_agg(concat(oid, relname, relkind, relispartition, relacl), '' ORDER BY oid))
        FROM pg_class WHERE relname LIKE 'ledger%'
    """
    with psycopg.connect(target.owner) as connection:
        return connection.execute(f"{' UNION ALL '.join(rows)} UNION ALL {guards}").fetchall()


def is_refused(target: Target, statement: str, answer: str, values: Mapping[str, object] | None = None) -> None:
    """Runs the statement, commits what it did if anything, and looks that it was refused and nothing moved."""
    before = fingerprint(target)
    with psycopg.connect(target.app) as connection:
        with pytest.raises(psycopg.Error, match=answer):
            connection.execute(statement.encode(), values)
        connection.commit()
    assert fingerprint(target) == before


Attack = tuple[str, str] | str  # a statement, and how it is answered if not by DENIED


def attacks(tries: Mapping[str, Attack]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", tries.values(), ids=tries.keys())


def lies(tries: Mapping[str, tuple[Lie, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("lie", "answer"), tries.values(), ids=tries.keys())


def run_attack(target: Target, attack: Attack) -> None:
    statement, answer = (attack, DENIED) if isinstance(attack, str) else attack
    for fact, value in target.facts.items():
        statement = statement.replace("{" + fact + "}", str(value))
    is_refused(target, statement, answer)


def run_lie(target: Target, lie: Lie, answer: str) -> None:
    is_refused(target, POST, answer, target.good() | lie(target.facts))


def test_what_the_lies_begin_with_is_taken(target: Target) -> None:
    with psycopg.connect(target.app) as connection:
        connection.execute(POST.encode(), target.good())
        assert connection.execute(HOLD.encode(), target.good_hold()).fetchone() is not None
        connection.rollback()


# 1. The entries of a transaction sum to zero, and come in by one function.

UNBALANCED: dict[str, Attack] = {
    "an entry is inserted": "INSERT INTO ledger_entries VALUES ('{topup}', 9, 1, 5, 0, 5, 99)",
    "an entry is inserted into a partition": "INSERT INTO {entries} VALUES ('{topup}', 9, 1, 5, 0, 5, 99)",
    "an entry is inserted into the default partition": "INSERT INTO ledger_entries_default VALUES ('{topup}', 9, 1, 5, 0, 5, 99)",
    "an entry is inserted on conflict": "INSERT INTO ledger_entries VALUES ('{topup}', 1, 1, 5, 0, 5, 1) ON CONFLICT DO NOTHING",
    "entries are copied in": "COPY ledger_entries FROM STDIN",
    "entries are copied into a partition": "COPY {entries} FROM STDIN",
    "entries are merged in": "MERGE INTO ledger_entries e USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN INSERT VALUES ('{topup}', 9, 1, 5, 0, 5, 99)",
    "an entry is inserted by a DO block": "DO $$ BEGIN INSERT INTO ledger_entries VALUES ('{topup}', 9, 1, 5, 0, 5, 99); END $$",
    "the guard is disabled": "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
    "the guard of a partition is disabled": "ALTER TABLE {entries} DISABLE TRIGGER sums_to_zero",
    "the guard is dropped": "DROP TRIGGER sums_to_zero ON ledger_entries",
    "the guard's function is replaced": "CREATE OR REPLACE FUNCTION ledger_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "the guard's function is dropped": "DROP FUNCTION ledger_sums_to_zero CASCADE",
    "triggers are told to rest": "SET session_replication_role = replica",
    "triggers are told to rest by a function": "SELECT set_config('session_replication_role', 'replica', false)",
    "a trigger of one's own is added": "CREATE TRIGGER mine BEFORE INSERT ON ledger_entries FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a rule is added": "CREATE RULE mine AS ON INSERT TO ledger_entries DO INSTEAD NOTHING",
    "the table is made an orphan": "ALTER TABLE ledger_entries DETACH PARTITION {entries}",
    "a table of one's own becomes a partition": "CREATE TABLE mine PARTITION OF ledger_entries FOR VALUES FROM ('ffffffff-0000-0000-0000-000000000000') TO (MAXVALUE)",
}  # fmt: skip
UNBALANCED_LIES: dict[str, tuple[Lie, str]] = {
    "legs that do not sum to zero": (lambda _: {"leg_cents": [5, -4]}, "do not sum to zero"),
    "a leg of nothing": (lambda _: {"leg_cents": [0, 0]}, "empty leg"),
    "a leg without an amount": (lambda _: {"leg_cents": [5, None]}, "empty leg"),
    "no legs": (lambda _: {"leg_posting": [], "leg_code": [], "leg_cents": []}, "no legs"),
    "one leg": (lambda _: {"leg_posting": [1], "leg_code": ["wallet"], "leg_cents": [-5]}, "do not sum to zero"),
    "legs that only sum to zero as 64 bits": (
        lambda _: {"leg_posting": [1] * 3, "leg_code": ["bank:settlement", "wallet", "wallet"], "leg_cents": [2**63 - 1, 2**63 - 1, 2]},
        "do not sum to zero",
    ),
    "a sum beyond a balance": (
        lambda _: {"leg_posting": [1] * 4, "leg_code": ["bank:settlement"] * 2 + ["wallet"] * 2, "leg_cents": [2**63 - 1] * 2 + [1 - 2**63] * 2},
        "out of range",
    ),
    "legs of a posting that is not there": (lambda _: {"leg_posting": [1, 2]}, "names account"),
    "legs of no posting": (lambda _: {"leg_posting": [1, None]}, "hold nulls"),
    "fewer amounts than legs": (lambda _: {"leg_cents": [5]}, "differ in length"),
    "two postings that only balance together": (
        lambda f: {
            "ids": [uuid4(), uuid4()], "partners": [f["alpha"]] * 2, "kinds": ["x"] * 2, "references": ["r"] * 2, "keys": ["f1", "f2"],
            "descriptions": [""] * 2, "effective_at": [datetime.now(UTC)] * 2, "carried": [True] * 2, "reverses": [None] * 2, "holds": [None] * 2,
            "leg_posting": [1, 2],
        },
        "do not sum to zero",
    ),
}  # fmt: skip


@attacks(UNBALANCED)
def test_1_entries_come_in_by_one_function(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(UNBALANCED_LIES)
def test_1_every_transaction_sums_to_zero(target: Target, lie: Lie, answer: str) -> None:
    run_lie(target, lie, answer)


# 2. Entries and transactions are never changed or deleted.

REWRITTEN: dict[str, Attack] = {
    f"{table.replace('_', ' ').strip('{}')}, {name}": statement.format(table=table)
    for table in ("ledger_entries", "{entries}", "ledger_transactions", "{transactions}", "ledger_entries_default")
    for name, statement in {
        "deleted": "DELETE FROM {table}",
        "truncated": "TRUNCATE {table} CASCADE",
        "dropped": "DROP TABLE {table} CASCADE",
        "locked away": "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
        "given another owner": "ALTER TABLE {table} OWNER TO vault_app",
    }.items()
} | {
    "an amount is changed": "UPDATE ledger_entries SET amount_cents = amount_cents + 1",
    "an amount is changed in a partition": "UPDATE {entries} SET amount_cents = amount_cents + 1",
    "an amount is changed through its row's address": "UPDATE ledger_entries SET amount_cents = 1 WHERE ctid = '(0,1)'",
    "a reference is changed": "UPDATE ledger_transactions SET reference = 'another'",
    "a time is changed": "UPDATE {transactions} SET effective_at = now()",
    "a transaction is merged away": "MERGE INTO ledger_transactions t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
    "rows are taken for update": "SELECT * FROM ledger_entries FOR UPDATE",
    "a column is dropped": "ALTER TABLE ledger_entries DROP COLUMN amount_cents",
    "a type is changed": "ALTER TABLE ledger_entries ALTER COLUMN amount_cents TYPE int",
    "rows are deleted inside a query": "WITH gone AS (DELETE FROM ledger_entries RETURNING 1) SELECT * FROM gone",
    "row security hides rows": "ALTER TABLE ledger_entries ENABLE ROW LEVEL SECURITY",
}  # fmt: skip


@attacks(REWRITTEN)
def test_2_history_is_not_rewritten(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


OWNERS_SLIPS = {
    "an unbalanced entry": "INSERT INTO ledger_entries SELECT transaction_id, 9, account_id, 5, 0, 5, 99 FROM ledger_entries LIMIT 1",
    "a changed entry": "UPDATE ledger_entries SET amount_cents = 1, balance_after_cents = balance_before_cents + 1",
    "a changed entry of a partition": "UPDATE {entries} SET account_version = 7",
    "a deleted entry": "DELETE FROM {entries}",
    "a deleted transaction": "DELETE FROM ledger_transactions",
    "a freed key": "DELETE FROM ledger_keys",
    "a truncated ledger": "TRUNCATE ledger_entries",
    "a truncated partition": "TRUNCATE {entries}",
    "a transaction in a closed period": "INSERT INTO ledger_transactions SELECT gen_random_uuid(), partner_id, kind, reference, key, description,"
    " effective_at, booked_at, reverses, written_by FROM ledger_transactions WHERE id = '{topup}'",
    "a changed closing": "UPDATE ledger_closing_balances SET balance_cents = 0",
    "a deleted seal": "DELETE FROM ledger_seals",
}  # fmt: skip


@attacks(OWNERS_SLIPS)
def test_2_even_the_owner_meets_the_guards(target: Target, attack: str) -> None:
    for fact, value in target.facts.items():
        attack = attack.replace("{" + fact + "}", str(value))
    before = fingerprint(target)
    with psycopg.connect(target.owner) as connection:
        with pytest.raises(psycopg.Error, match=r"append-only|does not sum to zero|is closed"):
            connection.execute(attack.encode())
        connection.rollback()
    assert fingerprint(target) == before


# 3. A balance is the sum of its entries, which are numbered without a gap.

BALANCES: dict[str, Attack] = {
    "a balance is changed": "UPDATE ledger_accounts SET balance_cents = balance_cents - 1",
    "a version is changed": "UPDATE ledger_accounts SET version = version + 1",
    "an account is made": "INSERT INTO ledger_accounts (code, shard, normal_side) VALUES ('fees:sms', 9, 'debit')",
    "an account is made by the inner function": "SELECT ledger_lock_accounts(ARRAY['{alpha}'::uuid], ARRAY['sms'], ARRAY[0::smallint])",
    "an account is deleted": "DELETE FROM ledger_accounts",
    "an account is locked": "SELECT * FROM ledger_accounts FOR NO KEY UPDATE",
    "a wallet is turned into a debt": "UPDATE ledger_chart SET normal_side = 'debit' WHERE code = 'wallet'",
    "the chart grows": "INSERT INTO ledger_chart (code, normal_side, house, holdable) VALUES ('my:pocket', 'debit', true, true)",
}
ACCOUNT_LIES: dict[str, tuple[Lie, str]] = {
    "an account that is not in the chart": (lambda _: {"leg_code": ["bank:settlement", "my:pocket"]}, "not in the chart"),
    "an account without a name": (lambda _: {"leg_code": ["bank:settlement", None]}, "not in the chart"),
    "an id that is taken": (lambda f: {"ids": [f["topup"]]}, "duplicate key"),
    "no id": (lambda _: {"ids": [None]}, "hold nulls"),
}


@attacks(BALANCES)
def test_3_balances_are_moved_by_entries_alone(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(ACCOUNT_LIES)
def test_3_entries_are_of_known_accounts(target: Target, lie: Lie, answer: str) -> None:
    run_lie(target, lie, answer)


# 4. available = posted - held, looked at when money is held.

HELD: dict[str, Attack] = {
    "held money is forgotten": "UPDATE ledger_accounts SET held_cents = 0",
    "a hold is inserted": "INSERT INTO ledger_holds (id, account_id, partner_id, key, amount_cents, placed_at) "
    "VALUES (gen_random_uuid(), 1, '{alpha}', 'k', 1, now())",
    "a hold is made smaller": "UPDATE ledger_holds SET amount_cents = 1",
    "a hold is deleted": "DELETE FROM ledger_holds",
    "holds are truncated": "TRUNCATE ledger_holds",
}
HOLD_LIES: dict[str, tuple[Lie, str]] = {
    "nothing": (lambda _: {"cents": [0]}, "positive amount"),
    "a negative amount": (lambda _: {"cents": [-5]}, "positive amount"),
    "no amount": (lambda _: {"cents": [None]}, "positive amount"),
    "an account that may not be held": (lambda _: {"codes": ["suspense"]}, "positive amount"),
    "an account of the house": (lambda _: {"codes": ["bank:settlement"]}, "positive amount"),
    "nobody's account": (lambda _: {"partners": [None]}, "positive amount"),
    "a partner that is not there": (lambda _: {"partners": [uuid4()]}, "foreign key|permission|none of that"),
    "the house as a partner": (lambda _: {"partners": [UUID(int=0)]}, "positive amount"),
    "a key that holds another amount": (lambda _: {"keys": ["open"], "cents": [1]}, "holds another amount"),
    "no key": (lambda _: {"keys": [None]}, "null value|violates"),
    "an expiry in the past": (lambda _: {"expires_at": [datetime(2020, 1, 1, tzinfo=UTC)]}, "expires after it is placed"),
    "an amount beyond a balance": (lambda _: {"ids": [uuid4(), uuid4()], "cents": [5]}, "positive amount|differ"),
}


@attacks(HELD)
def test_4_held_money_is_not_freed_or_held_past_the_function(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(HOLD_LIES)
def test_4_holds_are_positive_amounts_on_a_partners_account(target: Target, lie: Lie, answer: str) -> None:
    is_refused(target, HOLD, answer, target.good_hold() | lie(target.facts))


@pytest.mark.parametrize("cents", [[551], [300, 251 + 1], [2**63 - 1], [2**63 - 1, 2**63 - 1]])
def test_4_more_than_is_available_is_not_held_alone_or_together(target: Target, cents: list[int]) -> None:
    """Of alpha's 1,000 - 150 charged, 300 are held: 550 are available."""
    asked = {
        "ids": [uuid4() for _ in cents], "partners": [target.facts["alpha"]] * len(cents), "codes": ["wallet"] * len(cents),
        "keys": [f"f{n}" for n in range(len(cents))], "cents": cents, "expires_at": [None] * len(cents),
    }  # fmt: skip
    with psycopg.connect(target.app) as connection:
        answers = connection.execute(HOLD.encode(), asked).fetchall()
        connection.rollback()
    assert answers[-1][0] is None


# 5. A hold is resolved once, by at most what it holds.

RESOLVED: dict[str, Attack] = {
    "a hold is reopened": "UPDATE ledger_holds SET state = 'held', resolved_at = NULL",
    "a hold is captured past the function": "UPDATE ledger_holds SET state = 'captured'",
    "a hold is given an expiry": "UPDATE ledger_holds SET expires_at = now()",
    "a hold is captured by the inner function": "SELECT ledger_capture_holds(now(), ARRAY['{topup}'::uuid], ARRAY['{alpha}'::uuid], ARRAY['{open_hold}'::uuid],"
    " ARRAY[true], ARRAY[1], ARRAY['wallet'], ARRAY[1::bigint])",
    "a hold is ended by the inner function": "SELECT ledger_free(now(), ARRAY['{open_hold}'::uuid], 'expired')",
    "a captured hold is released": ("SELECT ledger_release(now(), ARRAY['{captured}'::uuid])", "captured already"),
    "a hold that is not there is released": ("SELECT ledger_release(now(), ARRAY[gen_random_uuid()])", "none of that id"),
    "a captured hold is kept": ("SELECT ledger_keep(ARRAY['{captured}'::uuid])", "captured already"),
    "a released hold is kept": ("SELECT ledger_keep(ARRAY['{released}'::uuid])", "released already"),
    "one of two is captured already": ("SELECT ledger_release(now(), ARRAY['{open_hold}', '{captured}']::uuid[])", "captured already"),
}  # fmt: skip
CAPTURE = {"leg_code": ["wallet", "fees:system"]}
CAPTURE_LIES: dict[str, tuple[Lie, str]] = {
    "a hold that is not there": (lambda _: CAPTURE | {"holds": [uuid4()]}, "none of that id"),
    "a hold that is captured": (lambda f: CAPTURE | {"holds": [f["captured"]]}, "captured already"),
    "a hold that is released": (lambda f: CAPTURE | {"holds": [f["released"]]}, "released already"),
    "another partner's hold": (lambda f: CAPTURE | {"holds": [f["betas_hold"]]}, "takes 0"),
    "more than is held": (lambda f: CAPTURE | {"holds": [f["open_hold"]], "leg_cents": [301, -301]}, "is of 300 cents"),
    "nothing of what is held": (lambda f: {"holds": [f["open_hold"]], "leg_code": ["bank:settlement", "fees:system"]}, "takes 0"),
    "money into what is held": (lambda f: {"holds": [f["open_hold"]]}, "takes -?5"),
    "one hold twice in a batch": (
        lambda f: CAPTURE | {
            "ids": [uuid4(), uuid4()], "partners": [f["alpha"]] * 2, "kinds": ["x"] * 2, "references": ["r"] * 2, "keys": ["f1", "f2"],
            "descriptions": [""] * 2, "effective_at": [datetime.now(UTC)] * 2, "carried": [True] * 2, "reverses": [None] * 2,
            "holds": [f["open_hold"]] * 2, "leg_posting": [1, 1, 2, 2], "leg_code": ["wallet", "fees:system"] * 2, "leg_cents": [5, -5] * 2,
        },
        "captured twice",
    ),
}  # fmt: skip


@attacks(RESOLVED)
def test_5_a_hold_is_not_resolved_past_the_functions_or_twice(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(CAPTURE_LIES)
def test_5_a_hold_is_captured_once_and_by_no_more_than_it_holds(target: Target, lie: Lie, answer: str) -> None:
    run_lie(target, lie, answer)


def test_5_a_hold_without_an_expiry_is_ended_by_no_time(target: Target) -> None:
    before = fingerprint(target)
    with psycopg.connect(target.app) as connection:
        assert connection.execute("SELECT ledger_expire('9999-01-01', 1000)").fetchone() == (0,)
    assert fingerprint(target) == before


# 6. A key stands for one posting, in the transaction of that posting.

KEYS: dict[str, Attack] = {
    "a key is taken without a posting": "INSERT INTO ledger_keys VALUES ('{alpha}', 'k', '', gen_random_uuid())",
    "a key is freed": "DELETE FROM ledger_keys",
    "a key is given another body": "UPDATE ledger_keys SET body_hash = ''",
    "a key is moved to another partner": "UPDATE ledger_keys SET scope = '{beta}'",
    "keys are truncated": "TRUNCATE ledger_keys",
    "the key's index is dropped": "DROP INDEX ledger_keys_pkey",
}
KEY_LIES: dict[str, tuple[Lie, str]] = {
    "the key of another amount": (lambda _: {"keys": ["topup:1"]}, "used for another posting"),
    "a key twice in a batch with two bodies": (
        lambda f: {
            "ids": [uuid4(), uuid4()], "partners": [f["alpha"]] * 2, "kinds": ["x"] * 2, "references": ["r", "another"], "keys": ["f"] * 2,
            "descriptions": [""] * 2, "effective_at": [datetime.now(UTC)] * 2, "carried": [True] * 2, "reverses": [None] * 2, "holds": [None] * 2,
            "leg_posting": [1, 1, 2, 2], "leg_code": ["bank:settlement", "wallet"] * 2, "leg_cents": [5, -5] * 2,
        },
        "used for another posting",
    ),
    "an empty key": (lambda _: {"keys": [""]}, "check constraint"),
    "no key": (lambda _: {"keys": [None]}, "null value"),
    "fewer keys than postings": (lambda _: {"keys": []}, "differ in length"),
}  # fmt: skip


@attacks(KEYS)
def test_6_keys_are_not_taken_or_freed_past_the_function(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(KEY_LIES)
def test_6_a_key_stands_for_one_body(target: Target, lie: Lie, answer: str) -> None:
    run_lie(target, lie, answer)


def test_6_a_posting_that_fails_and_is_caught_leaves_no_key_behind(target: Target) -> None:
    """The error is swallowed under a savepoint and the transaction committed: neither key, account nor entry is left."""
    before = fingerprint(target)
    with psycopg.connect(target.app) as connection:
        with pytest.raises(psycopg.Error, match="takes 0"), connection.transaction():
            connection.execute(POST.encode(), target.good() | CAPTURE | {"holds": [target.facts["betas_hold"]]})
        connection.commit()
    assert fingerprint(target) == before


# 7. Accounts are locked in one order, and no setting of the session lets anything half-way through.

TIMEOUTS = ("SET lock_timeout = '50ms'", "SET statement_timeout = '50ms'", "SET transaction_timeout = '50ms'")


@pytest.mark.parametrize("setting", TIMEOUTS)
def test_7_a_posting_that_gives_up_waiting_for_an_account_has_done_nothing(target: Target, setting: str) -> None:
    before = fingerprint(target)
    with psycopg.connect(target.app) as holder, psycopg.connect(target.app) as victim:
        holder.execute(POST.encode(), target.good())
        victim.execute(setting)
        with pytest.raises(psycopg.Error, match="timeout"):
            victim.execute(POST.encode(), target.good() | {"keys": ["other"]})
        holder.rollback()
    assert fingerprint(target) == before


def test_7_the_locks_of_a_posting_cannot_be_let_go_before_it_ends(target: Target) -> None:
    with psycopg.connect(target.app) as holder, psycopg.connect(target.app) as other:
        holder.execute(POST.encode(), target.good())
        holder.execute("SELECT pg_advisory_unlock_all(), pg_advisory_unlock_shared(7266331003)")
        other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(POST.encode(), target.good() | {"keys": ["other"]})
        other.rollback()
        other.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT ledger_close(now(), now(), 'x')")
        holder.rollback()


SESSIONS = (
    "SET search_path = ''", "SET search_path = pg_temp, public", "SET enable_indexscan = off; SET enable_nestloop = off",
    "SET default_transaction_isolation = 'repeatable read'", "SET default_transaction_isolation = 'serializable'",
    "SET row_security = off", "SET DateStyle = 'German'", "SET TimeZone = 'Pacific/Kiritimati'", "SET client_encoding = 'LATIN1'",
    "SET check_function_bodies = off", "SET extra_float_digits = 0", "SET plan_cache_mode = force_generic_plan",
    "SET constraint_exclusion = on", "SET synchronous_commit = off", "SET bytea_output = 'escape'", "SET standard_conforming_strings = off",
)  # fmt: skip


@pytest.mark.parametrize("setting", SESSIONS)
def test_7_whatever_a_session_sets_a_repeat_is_known_and_a_lie_refused(target: Target, setting: str) -> None:
    """The body's hash is the same under every setting: the first posting's id comes back."""
    (moment,) = one(target, "SELECT effective_at FROM ledger_transactions WHERE id = %s", target.facts["original"])
    repeat = target.good() | {"keys": ["topup:2"], "references": ["topup:2"], "effective_at": [moment], "leg_cents": [70, -70]}
    before = fingerprint(target)
    with psycopg.connect(target.app, autocommit=True) as connection:
        connection.execute(setting.encode())
        post = POST.replace("ledger_post(", "public.ledger_post(").encode()
        answer = connection.execute(post, repeat).fetchone()
        assert answer == ([target.facts["original"]],)
        with pytest.raises(psycopg.Error, match="do not sum to zero"):
            connection.execute(post, target.good() | {"leg_cents": [5, -4]})
    assert fingerprint(target) == before


def one(target: Target, query: str, *values: object) -> tuple[Any, ...]:
    with psycopg.connect(target.owner) as connection:
        row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row


SHADOWS = (
    "CREATE TEMP TABLE ledger_accounts (LIKE public.ledger_accounts INCLUDING DEFAULTS)",
    "CREATE TEMP TABLE ledger_entries (LIKE public.ledger_entries)",
    "CREATE TEMP TABLE ledger_chart AS SELECT code, 'debit' AS normal_side, true AS house, true AS holdable FROM public.ledger_chart",
    "CREATE TEMP TABLE ledger_holds (LIKE public.ledger_holds)",
    "CREATE TEMP TABLE ledger_closings (LIKE public.ledger_closings)",
    "CREATE FUNCTION pg_temp.ledger_leg_bytes(code text, cents bigint) RETURNS bytea LANGUAGE sql RETURN ''::bytea",
    "CREATE FUNCTION pg_temp.ledger_open_from() RETURNS timestamptz LANGUAGE sql RETURN '-infinity'::timestamptz",
    "CREATE FUNCTION pg_temp.sum(bigint) RETURNS bigint LANGUAGE sql RETURN 0",
    """CREATE FUNCTION pg_temp.lie(bigint, integer) RETURNS boolean LANGUAGE sql RETURN true;
       CREATE OPERATOR pg_temp.= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = pg_temp.lie)""",
)


@pytest.mark.parametrize("shadow", SHADOWS)
def test_7_temporary_objects_stand_before_nothing_even_for_one_who_may_make_them(target: Target, shadow: str) -> None:
    """The migration takes the right to make temporary objects away; a restored database may have it again."""
    with psycopg.connect(target.owner, autocommit=True) as owner:
        owner.execute(f"GRANT TEMPORARY ON DATABASE {owner.info.dbname} TO vault_app".encode())
    before = fingerprint(target)
    with psycopg.connect(target.app) as connection:
        connection.execute(shadow.encode())
        connection.execute("SET search_path = pg_temp, public, pg_catalog")
        post = POST.replace("ledger_post(", "public.ledger_post(").encode()
        for lie, answer in (({"leg_cents": [5, -4]}, "sum to zero"), ({"leg_code": ["bank:settlement", "my:pocket"]}, "not in the chart"),
                            ({"effective_at": [datetime(2020, 1, 1, tzinfo=UTC)], "carried": [False]}, "closed"),
                            (CAPTURE | {"holds": [target.facts["captured"]]}, "captured already")):  # fmt: skip
            with pytest.raises(psycopg.Error, match=answer), connection.transaction():
                connection.execute(post, target.good() | lie)
        connection.execute(post, target.good())
        assert connection.execute("SELECT count(*) FROM public.ledger_entries").fetchone() == (
            one(target, "SELECT count(*) FROM ledger_entries")[0] + 2,
        )
        connection.rollback()
    assert fingerprint(target) == before
    with psycopg.connect(target.owner, autocommit=True) as owner:
        owner.execute(f"REVOKE TEMPORARY ON DATABASE {owner.info.dbname} FROM vault_app".encode())


# 8. A partner's accounts never share a transaction with another's.

STRANGERS: dict[str, tuple[Lie, str]] = {
    "a partner's account without a partner": (lambda _: {"partners": [None]}, "only a partner has"),
    "the house as a partner": (lambda _: {"partners": [UUID(int=0)]}, "no partner's id"),
    "the house as a partner, with its own accounts": (
        lambda _: {"partners": [UUID(int=0)], "leg_code": ["bank:settlement", "fees:system"]}, "no partner's id"
    ),
    "a partner that is not there, with the house's accounts": (
        lambda _: {"partners": [uuid4()], "leg_code": ["bank:settlement", "fees:system"]}, "no partner's id"
    ),
    "a partner that is not there": (lambda _: {"partners": [uuid4()]}, "no partner's id"),
    "another partner's code by its id": (lambda f: {"leg_code": ["bank:settlement", f"wallet:{f['beta']}"]}, "not in the chart"),
    "fewer partners than postings": (lambda _: {"partners": []}, "differ in length"),
}  # fmt: skip


@lies(STRANGERS)
def test_8_two_partners_cannot_be_named_in_one_transaction(target: Target, lie: Lie, answer: str) -> None:
    """A leg names a code; whose account it is follows from the posting, so that there is no way to say it."""
    run_lie(target, lie, answer)


def test_8_no_transaction_of_the_ledger_has_two_partners(target: Target) -> None:
    query = """
        SELECT max(n) FROM (SELECT count(DISTINCT a.partner_id) AS n FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
                            GROUP BY e.transaction_id) AS counted
    """
    assert one(target, query) == (1,)


# 9. A reversal points to its original, undoes it to the cent, and comes once.

UNLINKED: dict[str, Attack] = {
    "a reversal is unlinked": "DELETE FROM ledger_reversals",
    "a reversal is linked past the function": "INSERT INTO ledger_reversals VALUES ('{topup}', '{charge}')",
    "a reversal is pointed elsewhere": "UPDATE ledger_reversals SET original = '{topup}'",
    "a reversal is linked by the inner function": "SELECT ledger_link_reversals(ARRAY['{charge}'::uuid], ARRAY['{alpha}'::uuid], ARRAY['{topup}'::uuid], ARRAY[true])",
    "links are truncated": "TRUNCATE ledger_reversals",
}  # fmt: skip
OWN = uuid4()
REVERSAL_LIES: dict[str, tuple[Lie, str]] = {
    "of what is not there": (lambda _: {"reverses": [uuid4()]}, "none of that id"),
    "of another partner's": (lambda f: {"reverses": [f["betas_topup"]], "leg_cents": [-1_000, 1_000]}, "none of that id"),
    "of what is reversed already": (lambda f: {"reverses": [f["original"]], "leg_cents": [-70, 70]}, "reversed already"),
    "of a reversal": (lambda f: {"reverses": [f["reversal"]], "leg_cents": [70, -70]}, "a reversal itself"),
    "of a part": (lambda f: {"reverses": [f["topup"]], "leg_cents": [-999, 999]}, "do not mirror"),
    "of more": (lambda f: {"reverses": [f["topup"]], "leg_cents": [-1_001, 1_001]}, "do not mirror"),
    "into another account": (
        lambda f: {"reverses": [f["topup"]], "leg_code": ["bank:settlement", "suspense"], "leg_cents": [-1_000, 1_000]}, "do not mirror"
    ),
    "of itself": (lambda _: {"ids": [OWN], "reverses": [OWN]}, "cannot be reversed|a reversal itself"),
}  # fmt: skip


@attacks(UNLINKED)
def test_9_reversals_are_not_linked_past_the_function(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(REVERSAL_LIES)
def test_9_a_reversal_undoes_its_own_original_once(target: Target, lie: Lie, answer: str) -> None:
    run_lie(target, lie, answer)


# 10. When it happened and when it was booked are told apart, and nothing is effective in a closed period.

REOPENED: dict[str, Attack] = {
    "a period is opened again": "DELETE FROM ledger_closings",
    "a closing is moved": "UPDATE ledger_closings SET closed_before = '2020-01-01'",
    "a closing is inserted": "INSERT INTO ledger_closings VALUES (99, now(), now(), 'me', 0, 0)",
    "closings are truncated": "TRUNCATE ledger_closings CASCADE",
    "a kept balance is changed": "UPDATE ledger_closing_balances SET balance_cents = 0",
    "a transaction is moved back": "UPDATE ledger_transactions SET effective_at = '2020-01-01'",
    "the guard is dropped": "DROP TRIGGER period_is_open ON ledger_transactions",
    "the guard's question is replaced": "CREATE OR REPLACE FUNCTION ledger_open_from() RETURNS timestamptz LANGUAGE sql STABLE RETURN '-infinity'::timestamptz",
    "a closed period is closed again": ("SELECT ledger_close(now(), '{closed_before}', 'me')", "closed already"),
    "an earlier period is closed": ("SELECT ledger_close(now(), '2020-01-01', 'me')", "closed already"),
    "the future is closed": ("SELECT ledger_close(now(), now() + interval '1 hour', 'me')", "has not ended"),
    "eternity is closed": ("SELECT ledger_close('infinity', 'infinity', 'me')", "has not ended"),
    "a period without an end is closed": ("SELECT ledger_close(now(), NULL, 'me')", "has not ended"),
    "nobody closes": ("SELECT ledger_close(now(), now(), '')", "check constraint"),
    "a closing on an old snapshot": ("BEGIN; ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT ledger_close(now(), now(), 'me')", "READ COMMITTED"),
}  # fmt: skip
CLOSED_LIES: dict[str, tuple[Lie, str]] = {
    "before the closing": (lambda f: {"effective_at": [f["closed_before"] - timedelta(microseconds=1)], "carried": [False]}, "closed"),
    "long before": (lambda _: {"effective_at": [datetime(1970, 1, 1, tzinfo=UTC)], "carried": [False]}, "closed"),
    "neither carried nor not": (lambda _: {"effective_at": [datetime(1970, 1, 1, tzinfo=UTC)], "carried": [None]}, "closed"),
    "at no time": (lambda _: {"effective_at": [None]}, "null value"),
    "a reversal there": (
        lambda f: {"reverses": [f["topup"]], "leg_cents": [-1_000, 1_000], "effective_at": [datetime(2020, 1, 1, tzinfo=UTC)], "carried": [False]},
        "closed",
    ),
}  # fmt: skip


@attacks(REOPENED)
def test_10_a_closed_period_is_not_opened(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


@lies(CLOSED_LIES)
def test_10_what_a_person_dates_in_a_closed_period_is_refused(target: Target, lie: Lie, answer: str) -> None:
    run_lie(target, lie, answer)


def test_10_what_happened_in_a_closed_period_is_effective_in_the_open_one(target: Target) -> None:
    happened = target.facts["closed_before"] - timedelta(days=3)
    with psycopg.connect(target.app) as connection:
        connection.execute(POST.encode(), target.good() | {"effective_at": [happened]})
        row = connection.execute("SELECT effective_at, carried_from FROM ledger_transactions WHERE key = 'fresh'").fetchone()
        connection.rollback()
    assert row == (target.facts["closed_before"], happened)


# 11. The trial balance is zero, and what was proved is sealed.

SEALS: dict[str, Attack] = {
    "a seal is made": "INSERT INTO ledger_seals VALUES (9, 0, 9, gen_random_uuid(), gen_random_uuid(), 1, '', '', now())",
    "a seal is changed": "UPDATE ledger_seals SET digest = ''",
    "a seal is deleted": "DELETE FROM ledger_seals",
    "seals are truncated": "TRUNCATE ledger_seals",
    "the numbering is turned back": "UPDATE ledger_write_base SET base = 0",
    "the numbering is turned back by the inner function": "SELECT ledger_adopt_server()",
    "what is sealed is redefined": "CREATE OR REPLACE FUNCTION ledger_text_bytes(value text) RETURNS bytea LANGUAGE sql RETURN ''::bytea",
}  # fmt: skip


@attacks(SEALS)
def test_11_seals_are_not_made_or_broken_past_the_function(target: Target, attack: Attack) -> None:
    run_attack(target, attack)


def test_11_the_trial_balance_is_zero_and_every_proof_holds_after_all_of_this(target: Target) -> None:
    assert one(target, "SELECT sum(amount_cents), (SELECT sum(balance_cents) FROM ledger_accounts) FROM ledger_entries") == (0, 0)
    engine = open_sync_engine(app_url(target.owner_url))
    assert verify_ledger(engine) == []
    engine.dispose()
