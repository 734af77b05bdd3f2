"""Wallets put right by two people, on the real ledger and under the application's own rights."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from vault_core.errors import Conflict, InsufficientFunds, InvalidInput, NotFound
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import expire_holds
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_decisions import approve_adjustment, lapse_adjustments, reject_adjustment
from vault_core.wallets.adjustment_proposals import propose_correction, propose_reversal
from vault_core.wallets.adjustments import Adjustment, list_adjustments, load_adjustment
from vault_core.wallets.proof import adjustment_findings
from vault_core.wallets.topup import record_topup
from vault_core.wallets.wallet import Wallet, load_wallet

JANE, OTIENO = "ops:jane", "ops:otieno"


@pytest.fixture
async def topup_id(runtime: Runtime, partner_id: UUID) -> UUID:
    """A top-up of a thousand shillings."""
    return (await record_topup(runtime, partner_id, Money.shillings(1_000), "FT1", JANE, "bank line")).transaction_id


async def propose(runtime: Runtime, partner_id: UUID, shillings: int, reference: str = "TICKET-7") -> Adjustment:
    return await propose_correction(
        runtime, partner_id, Money.shillings(shillings), reference, reason="charged twice", actor=JANE
    )


async def wallet(runtime: Runtime, partner_id: UUID) -> Wallet:
    async with runtime.engine.connect() as connection:
        return await load_wallet(connection, partner_id)


async def house(runtime: Runtime) -> Money:
    async with runtime.engine.connect() as connection:
        return (await balance(connection, AccountRef(None, "adjustments"))).posted


async def acts(runtime: Runtime) -> Sequence:
    query = "SELECT actor, act, subject, before, after, reason FROM audit_log WHERE act LIKE 'wallet.adj%' ORDER BY at, id"
    async with runtime.engine.connect() as connection:
        return (await connection.execute(text(query))).all()


async def charges(runtime: Runtime, partner_id: UUID, kind: str = "charges") -> UUID:
    legs = (
        Leg(AccountRef(partner_id, "wallet"), 60_00),
        Leg(AccountRef(None, "fees:system"), -50_00),
        Leg(AccountRef(None, "tax:excise"), -10_00),
    )
    async with runtime.engine.begin() as connection:
        (made,) = await post(connection, runtime, [Posting(partner_id, kind, kind, "SKE1", runtime.clock.now(), legs)])
    return made


@pytest.mark.usefixtures("topup_id")
async def test_what_one_person_proposes_and_another_approves_is_posted_and_audited(
    runtime: Runtime, partner_id: UUID, clock
) -> None:
    proposed = await propose(runtime, partner_id, 250)
    clock.pass_time(hours=1)
    assert (await wallet(runtime, partner_id)).posted == Money.shillings(1_000)
    done = await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    assert (done.state, done.proposed_by, done.decided_by) == ("approved", JANE, OTIENO)
    assert (await wallet(runtime, partner_id)).available == Money.shillings(1_250)
    assert await house(runtime) == Money.shillings(250)  # the house's cost
    first, second = await acts(runtime)
    assert (first.actor, first.act, first.subject, first.reason) == (
        JANE,
        "wallet.adjustment_proposed",
        "wallet alpha",
        "charged twice",
    )
    assert (second.actor, second.act, second.reason) == (OTIENO, "wallet.adjustment_approved", "charged twice")
    assert (second.before["posted_cents"], second.after["posted_cents"]) == (1_000_00, 1_250_00)
    assert {first.after["reference"], second.after["reference"]} == {"TICKET-7"}
    assert (second.after["proposed_by"], second.after["transaction"]) == (JANE, str(done.transaction_id))


@pytest.mark.usefixtures("topup_id")
async def test_money_to_be_taken_is_held_until_it_is_taken(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id, -400)
    waiting = await wallet(runtime, partner_id)
    assert (waiting.posted, waiting.available) == (Money.shillings(1_000), Money.shillings(600))
    await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    after = await wallet(runtime, partner_id)
    assert (after.posted, after.held, after.available) == (Money.shillings(600), Money(0), Money.shillings(600))
    assert await house(runtime) == -Money.shillings(400)


@pytest.mark.usefixtures("topup_id")
async def test_money_that_is_not_there_cannot_be_taken(runtime: Runtime, partner_id: UUID) -> None:
    with pytest.raises(InsufficientFunds, match=r"has KES 1,000\.00 available, and KES 1,000\.01 would be taken"):
        await propose_correction(runtime, partner_id, Money(-1_000_01), "R", reason="r", actor=JANE)
    assert await acts(runtime) == []


async def test_the_same_person_cannot_approve_and_nothing_is_posted(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id, 250)
    with pytest.raises(Conflict, match="ops:jane proposed it: another login must approve it"):
        await approve_adjustment(runtime, proposed.id, actor=JANE)
    assert (await wallet(runtime, partner_id)).posted == Money(0)
    async with runtime.engine.connect() as connection:
        assert (await load_adjustment(connection, proposed.id)).state == "proposed"


@pytest.mark.usefixtures("topup_id")
async def test_who_proposed_it_may_withdraw_it_and_what_was_held_is_free(runtime: Runtime, partner_id: UUID, clock) -> None:
    proposed = await propose(runtime, partner_id, -400)
    clock.pass_time(hours=1)
    rejected = await reject_adjustment(runtime, proposed.id, reason="typed wrong", actor=JANE)
    assert (rejected.state, rejected.decided_by, rejected.decision_note) == ("rejected", JANE, "typed wrong")
    assert (await wallet(runtime, partner_id)).available == Money.shillings(1_000)
    assert [(act.act, act.reason) for act in await acts(runtime)][1] == ("wallet.adjustment_rejected", "typed wrong")
    assert (await propose(runtime, partner_id, -300)).reference == "TICKET-7"  # its reference is free again


async def test_a_rejection_says_why(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id, 1)
    with pytest.raises(InvalidInput, match="reason"):
        await reject_adjustment(runtime, proposed.id, reason=" ", actor=OTIENO)


async def test_a_reference_is_used_once_a_partner_also_by_two_at_once(runtime: Runtime, partner_id: UUID) -> None:
    tries = await asyncio.gather(*(propose(runtime, partner_id, 250) for _ in range(4)), return_exceptions=True)
    (made,) = [one for one in tries if isinstance(one, Adjustment)]
    refused = [one for one in tries if isinstance(one, Conflict)]
    assert len(refused) == 3
    assert f"ops:jane proposed adjustment {made.id}" in str(refused[0])
    await approve_adjustment(runtime, made.id, actor=OTIENO)
    with pytest.raises(Conflict, match="TICKET-7 is in use"):
        await propose(runtime, partner_id, 250)


@pytest.mark.parametrize("shillings", [250, -400])
@pytest.mark.usefixtures("topup_id")
async def test_of_many_who_decide_at_once_one_does(runtime: Runtime, partner_id: UUID, shillings: int) -> None:
    proposed = await propose(runtime, partner_id, shillings)
    decisions = [approve_adjustment(runtime, proposed.id, actor=f"ops:p{n}") for n in range(3)]
    decisions += [reject_adjustment(runtime, proposed.id, reason="no", actor=f"ops:r{n}") for n in range(3)]
    answers = await asyncio.gather(*decisions, return_exceptions=True)
    (decided,) = [answer for answer in answers if isinstance(answer, Adjustment)]
    assert all(isinstance(answer, Adjustment | Conflict) for answer in answers)
    after = await wallet(runtime, partner_id)
    assert after.held == Money(0)
    assert after.posted == Money.shillings(1_000 + (shillings if decided.state == "approved" else 0))
    assert len(await acts(runtime)) == 2


async def test_a_decided_one_is_not_decided_again(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id, 250)
    await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    with pytest.raises(Conflict, match="it was approved by ops:otieno"):
        await approve_adjustment(runtime, proposed.id, actor="ops:njeri")
    with pytest.raises(Conflict, match="it was approved by ops:otieno"):
        await reject_adjustment(runtime, proposed.id, reason="late", actor="ops:njeri")
    assert (await wallet(runtime, partner_id)).posted == Money.shillings(250)


async def test_an_unknown_adjustment_or_partner_is_said_to_be_so(runtime: Runtime) -> None:
    with pytest.raises(NotFound, match="no adjustment"):
        await approve_adjustment(runtime, uuid4(), actor=OTIENO)
    with pytest.raises(NotFound, match="no partner"):
        await propose(runtime, uuid4(), 250)


@pytest.mark.usefixtures("topup_id")
async def test_charges_are_undone_account_by_account(runtime: Runtime, partner_id: UUID) -> None:
    original = await charges(runtime, partner_id)
    proposed = await propose_reversal(runtime, original, reason="loan was never paid", actor=JANE)
    assert (proposed.kind, proposed.amount, proposed.original) == ("reversal", Money(60_00), original)
    done = await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    assert (await wallet(runtime, partner_id)).posted == Money.shillings(1_000)
    assert await house(runtime) == Money(0)  # the fee and the excise give it back, not the house
    async with runtime.engine.connect() as connection:
        assert (await balance(connection, AccountRef(None, "tax:excise"))).posted == Money(0)
        query = text("SELECT original FROM ledger_reversals WHERE reversal = :id")
        assert (await connection.execute(query, {"id": done.transaction_id})).scalar_one() == original


async def test_a_topup_is_undone_only_while_its_money_is_there(runtime: Runtime, partner_id: UUID, topup_id: UUID) -> None:
    spent = await charges(runtime, partner_id)
    with pytest.raises(InsufficientFunds, match=r"KES 940\.00 available"):
        await propose_reversal(runtime, topup_id, reason="the cheque bounced", actor=JANE)
    undone = await propose_reversal(runtime, spent, reason="r", actor=JANE)
    await approve_adjustment(runtime, undone.id, actor=OTIENO)
    proposed = await propose_reversal(runtime, topup_id, reason="the cheque bounced", actor=JANE)
    assert (await wallet(runtime, partner_id)).available == Money(0)
    await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    assert (await wallet(runtime, partner_id)).posted == Money(0)
    with pytest.raises(Conflict, match="was recorded and undone by"):  # not "recorded before": the money is not there
        await record_topup(runtime, partner_id, Money.shillings(1_000), "FT1", JANE, "it came after all")


@pytest.mark.usefixtures("topup_id")
async def test_a_transaction_is_undone_once(runtime: Runtime, partner_id: UUID) -> None:
    original = await charges(runtime, partner_id)
    tries = await asyncio.gather(
        *(propose_reversal(runtime, original, reason="r", actor=JANE) for _ in range(3)), return_exceptions=True
    )
    (proposed,) = [one for one in tries if isinstance(one, Adjustment)]
    assert sum(isinstance(one, Conflict) for one in tries) == 2
    done = await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    with pytest.raises(Conflict, match=f"reversed already, by {done.transaction_id}"):
        await propose_reversal(runtime, original, reason="r", actor=JANE)
    assert done.transaction_id is not None
    with pytest.raises(Conflict, match="it is a reversal itself"):
        await propose_reversal(runtime, done.transaction_id, reason="r", actor=JANE)


async def test_what_mpesa_or_mifos_did_is_not_undone_here(runtime: Runtime, partner_id: UUID) -> None:
    original = await charges(runtime, partner_id, kind="disbursement_paid")
    with pytest.raises(Conflict, match="disbursement_paid tells what M-Pesa or Mifos X did"):
        await propose_reversal(runtime, original, reason="r", actor=JANE)
    with pytest.raises(NotFound, match="no ledger transaction"):
        await propose_reversal(runtime, uuid4(), reason="r", actor=JANE)


async def test_those_that_wait_are_listed_first(runtime: Runtime, partner_id: UUID, clock) -> None:
    waiting = await propose(runtime, partner_id, 1, "A")
    for reference in ("B", "C"):
        clock.pass_time(minutes=1)
        await approve_adjustment(runtime, (await propose(runtime, partner_id, 1, reference)).id, actor=OTIENO)
    async with runtime.engine.connect() as connection:
        assert [one.reference for one in await list_adjustments(connection)] == ["A", "C", "B"]
        assert [one.id for one in await list_adjustments(connection, partner_id, open_only=True)] == [waiting.id]
        assert await list_adjustments(connection, uuid4()) == []


# What the table itself refuses, whatever the code above it would do.


async def refused(runtime: Runtime, statement: str, **values: object) -> str:
    with pytest.raises(DBAPIError) as caught:
        async with runtime.engine.begin() as connection:
            await connection.execute(text(statement), values)
    return str(caught.value.orig)


async def test_the_database_refuses_the_proposers_own_approval(runtime: Runtime, partner_id: UUID) -> None:
    proposed = await propose(runtime, partner_id, 250)
    key, legs = (
        proposed.key,
        (Leg(AccountRef(None, "adjustments"), 250_00), Leg(AccountRef(partner_id, "wallet"), -250_00)),
    )
    async with runtime.engine.begin() as connection:  # posted past our code: still no approval
        (posted,) = await post(connection, runtime, [Posting(partner_id, "correction", key, "R", runtime.clock.now(), legs)])
    approve = """UPDATE wallet_adjustments SET state = 'approved', decided_by = :by, decided_at = now() + interval '1 hour',
                 transaction_id = :transaction WHERE id = :id"""
    why = await refused(runtime, approve, by=JANE, transaction=posted, id=proposed.id)
    assert "wallet_adjustments_second_person" in why
    assert "is not posted as it was proposed" in await refused(runtime, approve, by=OTIENO, transaction=uuid4(), id=proposed.id)
    async with runtime.engine.begin() as connection:
        await connection.execute(text(approve), {"by": OTIENO, "transaction": posted, "id": proposed.id})
    assert "is approved already" in await refused(runtime, "UPDATE wallet_adjustments SET decision_note = 'x'")


@pytest.mark.parametrize("column", ["amount_cents", "reference", "reason", "proposed_by", "partner_id", "hold_id", "lapses_at"])
async def test_what_was_proposed_stands_as_it_was_proposed(runtime: Runtime, partner_id: UUID, column: str) -> None:
    await propose(runtime, partner_id, 250)
    assert "permission denied" in await refused(runtime, f"UPDATE wallet_adjustments SET {column} = {column}")  # noqa: S608


@pytest.mark.parametrize("statement", ["DELETE FROM wallet_adjustments", "TRUNCATE wallet_adjustments"])
async def test_nothing_proposed_disappears(runtime: Runtime, partner_id: UUID, statement: str) -> None:
    await propose(runtime, partner_id, 250)
    assert "permission denied" in await refused(runtime, statement)


async def test_nothing_is_born_approved(runtime: Runtime, partner_id: UUID) -> None:
    insert = """INSERT INTO wallet_adjustments (id, partner_id, kind, amount_cents, reference, reason, proposed_by, proposed_at,
                lapses_at, state, decided_by, decided_at, transaction_id)
                VALUES (:id, :partner, 'correction', 1, 'R', 'r', 'a', now(), now() + interval '1 day', 'approved', 'b', now(), :id)"""
    assert "permission denied" in await refused(runtime, insert, id=uuid4(), partner=partner_id)


# With time.


@pytest.mark.usefixtures("topup_id")
async def test_what_nobody_decides_on_lapses_and_what_it_held_is_free(runtime: Runtime, partner_id: UUID, clock) -> None:
    proposed = await propose(runtime, partner_id, -400)
    clock.pass_time(days=7, microseconds=-1)
    assert await lapse_adjustments(runtime) == 0
    clock.pass_time(microseconds=1)
    with pytest.raises(Conflict, match="it lapsed on"):  # before the clock's job has said so, too
        await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    assert sum(await asyncio.gather(*(lapse_adjustments(runtime) for _ in range(3)))) == 1
    assert await expire_holds(runtime) == 1
    after = await wallet(runtime, partner_id)
    assert (after.posted, after.available) == (Money.shillings(1_000), Money.shillings(1_000))
    async with runtime.engine.connect() as connection:
        lapsed = await load_adjustment(connection, proposed.id)
    assert (lapsed.state, lapsed.decided_by, lapsed.decided_at) == ("lapsed", None, clock.moment)
    assert [(act.actor, act.act) for act in await acts(runtime)][1] == ("system:wallets", "wallet.adjustment_lapsed")
    assert (await propose(runtime, partner_id, -400)).id != proposed.id


@pytest.mark.usefixtures("topup_id")
async def test_one_that_is_approved_in_time_does_not_lapse(runtime: Runtime, partner_id: UUID, clock) -> None:
    proposed = await propose(runtime, partner_id, -400)
    clock.pass_time(days=6, hours=23)
    await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    clock.pass_time(days=1)
    assert await lapse_adjustments(runtime) == 0
    assert (await wallet(runtime, partner_id)).posted == Money.shillings(600)
    assert timedelta(days=7) == proposed.lapses_at - proposed.proposed_at


@pytest.mark.usefixtures("topup_id")
async def test_a_hold_that_expired_before_its_proposal_was_ended_takes_nothing(runtime: Runtime, partner_id: UUID, clock) -> None:
    proposed = await propose(runtime, partner_id, -400)
    clock.pass_time(days=7)
    assert await expire_holds(runtime) == 1
    clock.pass_time(days=-1)  # this process's clock is behind the one that ended the hold
    with pytest.raises(Conflict, match="expired"):
        await approve_adjustment(runtime, proposed.id, actor=OTIENO)
    assert (await wallet(runtime, partner_id)).posted == Money.shillings(1_000)
    async with runtime.engine.connect() as connection:
        assert (await load_adjustment(connection, proposed.id)).state == "proposed"


# The proof.


@pytest.mark.usefixtures("topup_id")
async def test_the_proof_holds_over_what_two_people_agreed_on(runtime: Runtime, partner_id: UUID) -> None:
    corrections = [
        await approve_adjustment(runtime, (await propose(runtime, partner_id, shillings, reference)).id, actor=OTIENO)
        for shillings, reference in ((250, "A"), (-400, "B"))
    ]
    await reject_adjustment(runtime, (await propose(runtime, partner_id, 9, "C")).id, reason="no", actor=OTIENO)
    for original in (await charges(runtime, partner_id), corrections[0].transaction_id):
        assert original is not None
        undone = await propose_reversal(runtime, original, reason="r", actor=JANE)
        await approve_adjustment(runtime, undone.id, actor=OTIENO)
    assert await adjustment_findings(runtime.engine) == []


async def test_the_proof_finds_what_was_posted_past_the_second_person(runtime: Runtime, partner_id: UUID) -> None:
    legs = (Leg(AccountRef(None, "adjustments"), 5_00), Leg(AccountRef(partner_id, "wallet"), -5_00))
    async with runtime.engine.begin() as connection:
        (posted,) = await post(connection, runtime, [Posting(partner_id, "correction", "k", "R", runtime.clock.now(), legs)])
    (finding,) = await adjustment_findings(runtime.engine)
    assert (finding.check, finding.where) == ("adjustment_was_approved", f"transaction {posted}")


async def test_an_approval_of_another_amount_is_refused_and_past_the_guard_found(
    runtime: Runtime, partner_id: UUID, owner_url: str
) -> None:
    proposed = await propose(runtime, partner_id, 250)
    legs = (Leg(AccountRef(None, "adjustments"), 900_00), Leg(AccountRef(partner_id, "wallet"), -900_00))
    async with runtime.engine.begin() as connection:
        posting = Posting(partner_id, "correction", proposed.key, "R", runtime.clock.now(), legs)
        (posted,) = await post(connection, runtime, [posting])
    approve = """UPDATE wallet_adjustments SET state = 'approved', decided_by = 'ops:x', decided_at = proposed_at,
                 transaction_id = CAST(:posted AS uuid)"""
    assert "is not posted as it was proposed" in await refused(runtime, approve, posted=posted)
    owner = create_async_engine(owner_url)
    async with owner.begin() as connection:
        await connection.execute(text("ALTER TABLE wallet_adjustments DISABLE TRIGGER decided_once"))
        await connection.execute(text(approve), {"posted": posted})
    await owner.dispose()
    (finding,) = await adjustment_findings(runtime.engine)
    assert finding.what == "KES 250.00 was approved, KES 900.00 posted"
