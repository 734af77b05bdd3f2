"""A ledger with partners to post against."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from vault_core.database import in_transaction, open_sync_engine
from vault_core.finding import Finding
from vault_core.ledger.balances import Balance, balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import Capture, HoldRequest, Short, capture_holds, place_holds, release_holds
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.ledger.verification import ledger_size, verify_ledger
from vault_core.money import Money
from vault_core.runtime import Runtime

_ADD_PARTNER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
        c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    VALUES (:id, :name, :name, 'u', 't', 'm', 'u', 'i', :b2c, :c2b, 'u', 's', 's', :now, :now)
    """
)


class Book:
    """Short words for what the ledger's tests do, each in a transaction of its own."""

    WHEN = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
    BANK = AccountRef(None, "bank:settlement")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def partner(self, name: str) -> UUID:
        partner_id = uuid4()
        async with self.runtime.engine.begin() as connection:
            values = {"id": partner_id, "name": name, "b2c": f"b{name}", "c2b": f"c{name}", "now": self.runtime.clock.now()}
            await connection.execute(_ADD_PARTNER, values)
        return partner_id

    def topup(self, partner_id: UUID, cents: int, key: str = "topup:1") -> Posting:
        legs = (Leg(self.BANK, cents), Leg(AccountRef(partner_id, "wallet"), -cents))
        return Posting(partner_id=partner_id, kind="topup", key=key, reference=key, effective_at=self.WHEN, legs=legs)

    def charge(self, partner_id: UUID, cents: int, key: str) -> Posting:
        legs = (Leg(AccountRef(partner_id, "wallet"), cents), Leg(AccountRef(None, "fees:system"), -cents))
        return Posting(partner_id=partner_id, kind="charges", key=key, reference=key, effective_at=self.WHEN, legs=legs)

    async def post(self, *postings: Posting) -> list[UUID]:
        return await in_transaction(self.runtime.engine, lambda connection: post(connection, self.runtime, postings))

    async def hold(self, partner_id: UUID, *amounts: tuple[str, int]) -> list[UUID | Short]:
        wallet = AccountRef(partner_id, "wallet")
        requests = [HoldRequest(wallet, partner_id, key, Money(cents)) for key, cents in amounts]
        answers = await in_transaction(self.runtime.engine, lambda connection: place_holds(connection, self.runtime, requests))
        return [answers[key] for key, _ in amounts]

    async def capture(self, *captures: tuple[UUID, Posting]) -> list[UUID]:
        wanted = [Capture(hold_id, posting) for hold_id, posting in captures]
        return await in_transaction(self.runtime.engine, lambda connection: capture_holds(connection, self.runtime, wanted))

    async def release(self, hold_ids: Sequence[UUID]) -> int:
        return await in_transaction(self.runtime.engine, lambda connection: release_holds(connection, self.runtime, hold_ids))

    async def wallet(self, partner_id: UUID) -> Balance:
        async with self.runtime.engine.connect() as connection:
            return await balance(connection, AccountRef(partner_id, "wallet"))


@pytest.fixture
def book(runtime: Runtime) -> Book:
    return Book(runtime)


@pytest.fixture
async def partner_id(book: Book) -> UUID:
    return await book.partner("alpha")


@pytest.fixture
async def posting_partner(book: Book) -> UUID:
    """A partner, for a test that is not in an event loop itself."""
    return await book.partner("alpha")


@pytest.fixture
def verified(database_url: str) -> Callable[[], tuple[int, list[Finding]]]:
    """How many transactions the ledger has and what is wrong with it, asked on a connection of its own."""

    def look() -> tuple[int, list[Finding]]:
        engine = open_sync_engine(database_url)
        try:
            with engine.connect() as connection:
                size = ledger_size(connection)
            return size.transactions, verify_ledger(engine)
        finally:
            engine.dispose()

    return look


@pytest.fixture
def book_of() -> type[Book]:
    """The class itself, for a test that makes its own runtime."""
    return Book


@pytest.fixture
def until_someone_waits(runtime: Runtime) -> Callable[[], Awaitable[None]]:
    """Returns once a connection waits for a lock."""
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    async def wait() -> None:
        for _ in range(1_000):
            async with runtime.engine.connect() as connection:
                if (await connection.execute(query)).scalar_one():
                    return
            await asyncio.sleep(0.005)
        pytest.fail("nobody came to wait for a lock")

    return wait
