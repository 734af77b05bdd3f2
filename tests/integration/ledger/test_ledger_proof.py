"""The proof in pieces, from a seal on, of closed periods, recorded, and over a sealer that dies."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from benchmarks.parts.ledger_load import load_ledger
from vault_core.cases.case_book import list_open_cases
from vault_core.database import open_sync_engine
from vault_core.errors import InvalidInput, NotFound
from vault_core.ledger import verification, verification_accounts, verification_transactions
from vault_core.ledger.closing import close_period
from vault_core.ledger.proof_history import BROKEN_CASE, PROVE_EVERY, past_proofs, prove_due
from vault_core.ledger.sealing import seal_due
from vault_core.ledger.verification import LedgerProof, ProofScope, prove_ledger, prove_ledger_async
from vault_core.ledger.verification_seals import SealHead

Tamper = Callable[[str], None]


@pytest.fixture
def tamper(owner_url: str) -> Tamper:
    """Runs a statement as a superuser with every trigger off."""

    def run(statement: str) -> None:
        owner = create_engine(owner_url)
        with owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            assert connection.execute(text(statement)).rowcount > 0
        owner.dispose()

    return run


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts the work into pieces of a few rows, so that runs of entries and seals are joined over many of them."""
    monkeypatch.setattr(verification_transactions, "PIECE_TRANSACTIONS", 7)
    monkeypatch.setattr(verification, "PIECE_TRANSACTIONS", 7)
    monkeypatch.setattr(verification_accounts, "PIECE_ENTRIES", 9)


async def sealed(book, transactions: int, *, most: int = 100) -> None:
    """Returns once so many are sealed: any other database transaction of the server holds sealing back for a moment."""
    for _ in range(1_000):
        transactions -= await seal_due(book.runtime, most=most)
        if transactions <= 0:
            break
        await asyncio.sleep(0.01)
    assert transactions == 0


async def checks(book, scope: ProofScope | None = None) -> set[str]:
    return {finding.check for finding in (await prove_ledger_async(book.runtime.engine, scope)).findings}


@pytest.mark.usefixtures("in_small_pieces", "loaded")
class TestInPieces:
    @pytest.fixture
    def loaded(self, owner_url: str) -> None:
        load_ledger(owner_url, 600, partners=3, seal=False)

    def test_a_loaded_ledger_is_sound_over_many_pieces(self, database_url: str) -> None:
        proof, told = self.prove(database_url, connections=2)
        assert list(proof.findings) == []
        assert (proof.transactions, proof.entries) == (300, 600)
        for check in ("transactions", "entries"):
            steps = [done for named, done, _ in told if named == check]
            assert steps == sorted(steps)
            assert len(steps) > 10
            assert steps[-1] == {"transactions": 300, "entries": 600}[check]

    def test_one_connection_finds_what_several_do(self, database_url: str, tamper: Tamper) -> None:
        tamper("UPDATE ledger_entries SET account_version = account_version + 1 WHERE account_version = 5 AND leg = 1")
        alone, _ = self.prove(database_url, connections=1)
        beside, _ = self.prove(database_url, connections=3)
        assert sorted(map(str, alone.findings)) == sorted(map(str, beside.findings))
        assert {finding.check for finding in alone.findings} == {"entries_chain"}

    @staticmethod
    def prove(database_url: str, connections: int) -> tuple[LedgerProof, list[tuple[str, int, int]]]:
        told: list[tuple[str, int, int]] = []
        engine = open_sync_engine(database_url)
        try:
            proof = prove_ledger(
                engine, connections=connections, progress=lambda check, done, total: told.append((check, done, total))
            )
            return proof, told
        finally:
            engine.dispose()


@pytest.mark.usefixtures("in_two_parts")
class TestFromASeal:
    @pytest.fixture
    async def in_two_parts(self, book, partner_id: UUID) -> UUID:
        """Four top-ups under seals 1 and 2, and after them three more and a captured hold."""
        await book.post(*(book.topup(partner_id, 1_000 + n, key=f"before:{n}") for n in range(4)))
        await sealed(book, 4, most=4)
        await book.post(*(book.topup(partner_id, 2_000 + n, key=f"after:{n}") for n in range(3)))
        (held,) = await book.hold(partner_id, ("h", 100))
        await book.capture((held, book.charge(partner_id, 60, "after:charge")))
        return partner_id

    FROM_ONE = ProofScope(from_seal=1)
    AFTER = (
        ("sums_to_zero", "DELETE FROM ledger_entries WHERE account_version = 6 AND amount_cents > 0"),
        ("keys", "UPDATE ledger_transactions SET reference = 'else' WHERE key = 'after:1'"),
        ("partners_apart", "UPDATE ledger_transactions SET partner_id = NULL WHERE key = 'after:1'"),
        ("entries_chain", "UPDATE ledger_entries SET account_version = 50 WHERE account_version = 6 AND amount_cents < 0"),
        ("entries_chain", "UPDATE ledger_accounts SET balance_cents = balance_cents + 1 WHERE code = 'wallet'"),
        ("captures_match", "UPDATE ledger_holds SET captured_cents = 61"),
        ("held_is_sum_of_holds", "UPDATE ledger_accounts SET held_cents = 1 WHERE code = 'wallet'"),
    )  # fmt: skip

    async def test_a_sound_ledger_is_sound_from_its_seal(self, book) -> None:
        proof = await prove_ledger_async(book.runtime.engine, self.FROM_ONE)
        assert list(proof.findings) == []
        assert proof.transactions == 4
        assert proof.entries < 16

    @pytest.mark.parametrize(("check", "statement"), AFTER, ids=[f"{check}: {said[-30:]}" for check, said in AFTER])
    async def test_nothing_after_the_seal_is_missed(self, book, tamper: Tamper, check: str, statement: str) -> None:
        tamper(statement)
        assert check in await checks(book, self.FROM_ONE)

    async def test_a_seal_after_it_is_held_to_its_rows(self, book, tamper: Tamper) -> None:
        await sealed(book, 4)
        tamper("UPDATE ledger_transactions SET description = 'else' WHERE key = 'after:1'")
        assert await checks(book, self.FROM_ONE) == {"seals_chain"}

    async def test_what_lies_before_it_is_found_by_the_whole_proof_only(self, book, tamper: Tamper) -> None:
        tamper("UPDATE ledger_transactions SET description = 'else' WHERE key = 'before:1'")
        assert await checks(book, self.FROM_ONE) == set()
        assert await checks(book) == {"seals_chain"}

    async def test_an_account_that_has_not_moved_since_is_held_to_its_last_entry(self, book, tamper: Tamper) -> None:
        await sealed(book, 4)
        tamper("UPDATE ledger_accounts SET balance_cents = balance_cents + 1 WHERE code = 'wallet'")
        assert "balance_is_sum_of_entries" in await checks(book, ProofScope(from_seal=2))

    async def test_there_is_no_proof_from_a_seal_that_is_not_there(self, book) -> None:
        with pytest.raises(NotFound, match="seal 9"):
            await prove_ledger_async(book.runtime.engine, ProofScope(from_seal=9))

    async def test_a_chain_that_was_rewritten_is_not_the_one_that_was_published(self, book, tamper: Tamper) -> None:
        head = (await prove_ledger_async(book.runtime.engine)).head
        assert head is not None
        assert SealHead.parse(str(head)) == head
        assert await checks(book, ProofScope(published=[head])) == set()
        tamper("UPDATE ledger_transactions SET description = 'else' WHERE key = 'before:1'")
        tamper(
            """
            UPDATE ledger_seals s SET digest = d.digest,
                chain = ledger_chain('', s.number, s.from_write, s.upto_write, s.transactions, d.digest)
            FROM ledger_seals o, ledger_digest(o.from_write, o.upto_write, o.format) AS d WHERE o.number = s.number AND s.number = 1
            """
        )
        assert await checks(book) == set()
        assert await checks(book, ProofScope(published=[head])) == {"seals_published"}
        tamper("DELETE FROM ledger_seals")
        assert await checks(book, ProofScope(published=[head])) == {"seals_published"}

    @pytest.mark.parametrize("written", ["", "1", "0:" + "a" * 64, "1:abc", "one:" + "a" * 64, "1:" + "g" * 64])
    def test_what_is_no_seal_is_refused(self, written: str) -> None:
        with pytest.raises(InvalidInput):
            SealHead.parse(written)


CLOSED_WRONGS = {
    "a changed balance": "UPDATE ledger_closing_balances SET balance_cents = balance_cents + 1 WHERE closing = 2",
    "a missing balance": "DELETE FROM ledger_closing_balances WHERE closing = 1",
    "changed debits": "UPDATE ledger_closings SET debit_cents = debit_cents + 1 WHERE number = 1",
    "a changed count": "UPDATE ledger_closings SET transactions = 7 WHERE number = 2",
    "a missing closing": "DELETE FROM ledger_closings WHERE number = 1",
    "an entry moved into it": "UPDATE ledger_transactions SET effective_at = effective_at - interval '1 day',"
    " carried_from = NULL WHERE key = 'two'",
}


@pytest.mark.usefixtures("closed")
class TestClosedPeriods:
    @pytest.fixture
    async def closed(self, book, partner_id: UUID) -> UUID:
        """Two closings with entries before each and after both, one of them carried forward."""
        await book.post(book.topup(partner_id, 100, key="one"))
        await close_period(book.runtime, book.WHEN + timedelta(minutes=1), "finance:a")
        await book.post(book.topup(partner_id, 50, key="late"))
        await close_period(book.runtime, book.WHEN + timedelta(hours=1), "finance:a")
        await book.post(book.charge(partner_id, 10, "two"))
        return partner_id

    async def test_what_was_closed_and_carried_is_sound_and_seals(self, book) -> None:
        assert await checks(book) == set()
        await sealed(book, 3)
        assert await checks(book) == set()

    @pytest.mark.parametrize("statement", CLOSED_WRONGS.values(), ids=CLOSED_WRONGS.keys())
    async def test_a_closing_is_held_to_its_entries(self, book, tamper: Tamper, statement: str) -> None:
        tamper(statement)
        assert "closings" in await checks(book)

    async def test_what_was_booked_into_a_closed_period_is_named(self, book, tamper: Tamper) -> None:
        tamper("UPDATE ledger_transactions SET booked_at = booked_at + interval '2 minutes' WHERE key = 'one'")
        (finding,) = (await prove_ledger_async(book.runtime.engine)).findings
        assert finding.check == "closed_periods"

    async def test_the_time_that_was_carried_is_sealed(self, book, tamper: Tamper) -> None:
        await sealed(book, 3)
        tamper("UPDATE ledger_transactions SET carried_from = carried_from - interval '1 us' WHERE key = 'late'")
        assert await checks(book) == {"seals_chain", "keys"}


class TestHistory:
    async def test_a_proof_is_due_once_a_day_and_kept(self, book, partner_id: UUID) -> None:
        await book.post(book.topup(partner_id, 100))
        assert await prove_due(book.runtime) == 1
        assert await prove_due(book.runtime) == 0
        book.runtime.clock.pass_time(seconds=PROVE_EVERY.total_seconds())
        assert await prove_due(book.runtime) == 1
        async with book.runtime.engine.connect() as connection:
            kept = await past_proofs(connection)
        assert [(proof.proved_by, proof.entries, proof.findings) for proof in kept] == [("schedule", 2, 0)] * 2

    async def test_callers_at_once_make_one_proof(self, book) -> None:
        assert sum(await asyncio.gather(*(prove_due(book.runtime) for _ in range(3)))) == 1

    async def test_a_broken_ledger_opens_a_case(self, book, partner_id: UUID, tamper: Tamper) -> None:
        await book.post(book.topup(partner_id, 100))
        tamper("UPDATE ledger_accounts SET held_cents = 5 WHERE code = 'wallet'")
        await prove_due(book.runtime)
        async with book.runtime.engine.connect() as connection:
            (case,) = [case for case in await list_open_cases(connection) if case.kind == BROKEN_CASE]
            (kept,) = await past_proofs(connection)
        assert case.evidence["findings"] == [kept.first_finding]
        assert "5 cents are marked held" in kept.first_finding

    @pytest.mark.parametrize("statement", ["UPDATE ledger_proofs SET findings = 0", "DELETE FROM ledger_proofs"])
    async def test_what_was_found_cannot_be_taken_back(self, book, owner_url: str, statement: str) -> None:
        await prove_due(book.runtime)
        async with book.runtime.engine.connect() as connection:
            with pytest.raises(DBAPIError, match="permission denied"):
                await connection.execute(text(statement))
        owner = create_engine(owner_url)
        with owner.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
            connection.execute(text(statement))
        owner.dispose()


class TestASealerThatDies:
    @pytest.mark.parametrize("committed", [0, 1, 2])
    async def test_the_chain_goes_on_where_it_was(self, book, partner_id: UUID, database_url: str, committed: int) -> None:
        """Killed after its statement and before its commit, with `committed` seals made before."""
        for n in range(4):
            await book.post(book.topup(partner_id, 100 + n, key=f"topup:{n}"))
        for _ in range(committed):
            await self.seal_one(book)
        engine = open_sync_engine(database_url)
        dying = engine.connect()
        while not dying.execute(text("SELECT ledger_seal(now(), 1)")).scalar_one():
            dying.rollback()
            await asyncio.sleep(0.01)
        pid = dying.execute(text("SELECT pg_backend_pid()")).scalar_one()
        async with book.runtime.engine.connect() as connection:
            assert (await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})).scalar_one()
        with pytest.raises(DBAPIError):
            dying.execute(text("SELECT 1"))
        dying.invalidate()
        dying.close()
        engine.dispose()
        await sealed(book, 4 - committed, most=1)
        proof = await prove_ledger_async(book.runtime.engine)
        assert list(proof.findings) == []
        assert proof.head is not None
        assert proof.head.number == 4

    @staticmethod
    async def seal_one(book) -> None:
        async with book.runtime.engine.connect() as connection:
            while not (await connection.execute(text("SELECT ledger_seal(now(), 1)"))).scalar_one():
                await connection.rollback()
                await asyncio.sleep(0.01)
            await connection.commit()
