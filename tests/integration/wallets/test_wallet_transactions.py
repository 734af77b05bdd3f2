"""The partner's view of its wallet: every movement once, in words, with what was charged and what was left."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from vault_core.database import in_transaction
from vault_core.errors import InvalidInput
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post, reversal_of
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.wallet_transactions import WalletTransaction, list_wallet_transactions, words_for

_CHARGE_LINE = text(
    """
    INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, tariff_band_id, charged_at,
                              transaction_id, system_fee_id)
    VALUES (:id, :partner, 'disbursement', :subject, :line, :cents,
            (SELECT b.id FROM tariffs t JOIN tariff_bands b ON b.tariff_id = t.id
             WHERE t.product = 'excise_fees' AND :line = 'excise' ORDER BY t.valid_from DESC LIMIT 1), now(), :transaction,
            (SELECT id FROM system_fees WHERE partner_id = :partner AND :line = 'system_fee'))
    """
)


def topup(partner_id: UUID, cents: int, at: datetime, key: str = "topup:1") -> Posting:
    legs = (Leg(AccountRef(None, "bank:settlement"), cents), Leg(AccountRef(partner_id, "wallet"), -cents))
    return Posting(partner_id, "topup", key, "FT1", at, legs, description="paid in by Achieng, 0712000001")


def charges(partner_id: UUID, at: datetime, key: str = "charges:1") -> Posting:
    legs = (
        Leg(AccountRef(partner_id, "wallet"), 57_50),
        Leg(AccountRef(None, "fees:system"), -50_00),
        Leg(AccountRef(None, "tax:excise"), -7_50),
    )
    return Posting(partner_id, "charges", key, "SKL9X8Y7Z6", at, legs, description="charges of loan 000000012")


_TERMS = text(
    """
    INSERT INTO system_fees (id, partner_id, service, flat_cents, valid_from, set_by, set_at)
    VALUES (gen_random_uuid(), :partner, 'disbursement', 5000, '2026-01-01', 'test', now())
    """
)


async def write(runtime: Runtime, *postings: Posting) -> list[UUID]:
    return await in_transaction(runtime.engine, lambda connection: post(connection, runtime, postings))


async def movements(runtime: Runtime, partner_id: UUID, **asked) -> list[WalletTransaction]:
    async with runtime.engine.connect() as connection:
        asked = {"end": runtime.clock.now() + timedelta(hours=1), **asked}
        return list(await list_wallet_transactions(connection, partner_id, **asked))


async def test_each_movement_shows_what_it_was_what_was_charged_and_what_was_left(
    runtime: Runtime, partner_id: UUID, clock
) -> None:
    await write(runtime, topup(partner_id, 1_000_00, clock.now()))
    clock.pass_time(minutes=1)
    (charged,) = await write(runtime, charges(partner_id, clock.now() - timedelta(seconds=20)))
    async with runtime.engine.begin() as connection:
        await connection.execute(_TERMS, {"partner": partner_id})
        for line, cents in (("mpesa_fee", 0), ("system_fee", 50_00), ("excise", 7_50)):
            values = {"id": uuid4(), "partner": partner_id, "subject": UUID(int=1), "line": line, "cents": cents}
            await connection.execute(_CHARGE_LINE, {**values, "transaction": charged})
    newest, oldest = await movements(runtime, partner_id)
    assert (oldest.words, oldest.amount, oldest.balance_after, oldest.fee_lines) == (
        "Top-up, bank reference FT1",
        Money(1_000_00),
        Money(1_000_00),
        (),
    )
    assert (newest.words, newest.amount, newest.balance_after) == (
        "Charges of loan 000000012, M-Pesa receipt SKL9X8Y7Z6",
        Money(-57_50),
        Money(942_50),
    )
    assert (newest.at, newest.booked_at) == (clock.now() - timedelta(seconds=20), clock.now())
    fee, excise = newest.fee_lines  # a line of nothing is no line
    assert (excise.words, excise.amount, fee.words, fee.amount, fee.tariff) == (
        "excise duty",
        Money(7_50),
        "system fee",
        Money(50_00),
        "terms of 2026-01-01",
    )
    assert excise.tariff is not None
    assert excise.tariff.startswith("kra excise_fees 20")


async def test_fee_lines_come_from_the_legs_where_no_charge_lines_stand_and_a_reversal_gives_them_back(
    runtime: Runtime, partner_id: UUID, clock
) -> None:
    (charged,) = await write(runtime, charges(partner_id, clock.now()))
    async with runtime.engine.connect() as connection:
        undo = await reversal_of(connection, charged, key="undo", effective_at=clock.now(), why="Achieng asked")
    await write(runtime, undo)
    newest, oldest = await movements(runtime, partner_id)
    assert [(line.line, line.amount.cents) for line in oldest.fee_lines] == [("system_fee", 50_00), ("excise", 7_50)]
    assert [(line.line, line.amount.cents) for line in newest.fee_lines] == [("system_fee", -50_00), ("excise", -7_50)]
    assert (newest.words, newest.amount, newest.balance_after) == (
        "Given back: Charges, M-Pesa receipt SKL9X8Y7Z6",
        Money(57_50),
        Money(0),
    )


async def test_what_people_typed_is_not_in_the_partners_view(runtime: Runtime, partner_id: UUID, clock) -> None:
    (paid,) = await write(runtime, topup(partner_id, 100, clock.now()))
    async with runtime.engine.connect() as connection:
        undo = await reversal_of(connection, paid, key="undo", effective_at=clock.now(), why="typed for Achieng 0712000001")
    await write(runtime, undo)
    shown = repr(await movements(runtime, partner_id))
    assert "Achieng" not in shown
    assert "0712000001" not in shown


async def test_a_page_takes_up_where_the_last_one_ended_and_a_span_holds_what_was_booked_in_it(
    runtime: Runtime, partner_id: UUID, clock
) -> None:
    start = clock.now()
    for number in range(7):
        await write(runtime, topup(partner_id, 100, start - timedelta(days=9), key=f"t{number}"))
        clock.pass_time(minutes=20)
    pages, below = [], None
    while page := await movements(runtime, partner_id, most=3, below=below):
        pages.append([one.version for one in page])
        below = page[-1].version
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    span = await movements(runtime, partner_id, start=start + timedelta(minutes=20), end=start + timedelta(minutes=60))
    assert [one.version for one in span] == [3, 2]
    with pytest.raises(InvalidInput, match="at least one"):
        await movements(runtime, partner_id, most=0)


async def test_a_partner_sees_its_own_wallet_only(runtime: Runtime, partner_id: UUID, clock) -> None:
    await write(runtime, topup(partner_id, 100, clock.now()))
    assert await movements(runtime, uuid4()) == []


async def test_the_view_has_every_wallet_entry_once(runtime: Runtime, partner_id: UUID, clock) -> None:
    await write(runtime, topup(partner_id, 500_00, clock.now()), charges(partner_id, clock.now()))
    twice = charges(partner_id, clock.now(), key="two legs on one wallet")
    halves = (Leg(AccountRef(partner_id, "wallet"), 50_00), Leg(AccountRef(partner_id, "wallet"), 7_50), *twice.legs[1:])
    await write(runtime, replace(twice, legs=halves))
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM wallet_transactions ORDER BY account_version"))).all()
    assert [row.account_version for row in rows] == [1, 2, 3, 4]
    assert [row.balance_after_cents for row in rows] == [500_00, 442_50, 392_50, 385_00]
    assert sum(row.amount_cents for row in rows) == rows[-1].balance_after_cents


@pytest.mark.parametrize(
    ("kind", "description", "words"),
    [
        ("sms", "loan_disbursed", "SMS: loan disbursed"),
        ("sms", "", "SMS"),
        ("correction", "", "Correction, reference R1"),
        ("charges", "", "Charges, M-Pesa receipt R1"),
        ("charges", "charges of loan LN-0012", "Charges of loan LN-0012, M-Pesa receipt R1"),
        ("charges", "charges of payment R1", "Charges of payment R1"),
        ("something_new", "", "Something new, reference R1"),
        ("reversal", "", "Reversal, reference R1"),
    ],
)
def test_a_movement_is_told_in_words(kind: str, description: str, words: str) -> None:
    assert words_for(kind, "R1", description) == words
