"""The Mifos X client held against the sandbox and, when VAULT_TEST_MIFOS_URL is set, against a real server: same answers."""

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from vault_core.clients.mifos import CoreWrite, MifosCapabilities
from vault_core.clients.mifos_errors import is_expected_day_only, key_is_burnt
from vault_core.clients.mifos_values import AccountPage, AccountState
from vault_core.disbursements.hook_hints import LoanHint, read_hook
from vault_core.disbursements.tranches import Part, WrongState, part_of
from vault_core.errors import LoginRefused, NotFound, RemoteRefusal
from vault_core.money import Money
from vault_core.outcome import Accepted, Refusal, Refused, Unknown

CAPABLE = MifosCapabilities(status_filter=True, idempotency=True, loan_external_ids=True, savings_external_ids=False)


async def payment_type(server) -> int:
    return next(row.id for row in await server.client.payment_types() if row.name == "M-Pesa")


async def write(server, amount: Money, **changes) -> CoreWrite:
    fields = {
        "amount": amount,
        "on": server.today,
        "payment_type_id": await payment_type(server),
        "receipt": f"S{uuid4().hex[:9].upper()}",
        "account_number": "254708374149",
        "external_id": f"pv-{uuid4()}",
        "idempotency_key": str(uuid4()),
        "note": "Payment Vault contract test",
    }
    return CoreWrite(**{**fields, **changes})


async def all_approved(server) -> dict[int, object]:
    loans, offset = {}, 0
    while True:
        page = await server.client.approved_loans(CAPABLE, offset=offset, limit=50)
        loans |= {loan.id: loan for loan in page.loans}
        offset += 50
        if offset >= page.total:
            return loans


async def disbursed_loan(server, shillings: int = 6000):
    loan = await server.approved_loan(shillings)
    posted = await server.client.disburse(loan.id, await write(server, Money.shillings(shillings)))
    assert isinstance(posted, Accepted), posted
    return loan


async def test_a_login_is_proven_and_a_wrong_password_or_tenant_is_refused(mifos):
    await mifos.client.log_in()
    with pytest.raises(LoginRefused, match="password"):
        await mifos.as_user(password="wrong").log_in()
    with pytest.raises(LoginRefused, match="tenant"):
        await mifos.as_user(tenant="nobody").log_in()


async def test_the_probe_finds_what_the_server_can_do_with_and_without_loans(mifos):
    before = await mifos.client.probe()
    await mifos.approved_loan(1000)
    after = await mifos.client.probe()
    assert before == after
    assert (after.status_filter, after.idempotency, after.loan_external_ids, after.savings_external_ids) == (
        True,
        True,
        True,
        False,
    )
    assert after.version


async def test_a_user_who_may_not_post_is_found_by_the_probe(mifos):
    clerk = await mifos.restricted()
    with pytest.raises(RemoteRefusal, match="may not post") as refused:
        await clerk.probe()
    assert refused.value.code == "error.msg.not.authorized"


async def test_products_and_payment_types_are_listed_and_a_payment_type_can_be_made(mifos):
    products = await mifos.client.loan_products()
    assert {product.currency for product in products} == {"KES"}
    assert all(product.active for product in products)
    made = await mifos.client.create_payment_type(f"M-Pesa {uuid4().hex[:8]}")
    kinds = {row.id: row for row in await mifos.client.payment_types()}
    assert kinds[made].is_cash is False


async def test_an_approved_loan_is_listed_with_what_to_pay_and_leaves_the_list_when_disbursed(mifos):
    fresh = await mifos.approved_loan(6000, fee=True)
    listed = (await all_approved(mifos))[fresh.id]
    assert (listed.status_id, listed.currency, listed.group, listed.multi_disburse) == (200, "KES", False, False)
    assert (listed.approved_principal, listed.net_disbursal) == (Money.shillings(6000), Money.shillings(5820))
    assert (listed.client_id, listed.external_id, listed.approved_on) == (fresh.client_id, fresh.external_id, fresh.approved_on)
    assert listed.total_outstanding is None
    read = await mifos.client.loan(fresh.id)
    assert (read.account_no, read.net_disbursal, read.transactions) == (listed.account_no, listed.net_disbursal, [])
    await mifos.client.disburse(fresh.id, await write(mifos, Money.shillings(6000)))
    assert fresh.id not in await all_approved(mifos)


async def test_pages_of_approved_loans_follow_each_other(mifos):
    fresh = [(await mifos.approved_loan(1000)).id for _ in range(3)]
    total = (await mifos.client.approved_loans(CAPABLE, offset=0, limit=1)).total
    last = [await mifos.client.approved_loans(CAPABLE, offset=total - 3 + place, limit=1) for place in range(3)]
    assert [page.loans[0].id for page in last] == fresh
    past = await mifos.client.approved_loans(CAPABLE, offset=total + 10, limit=10)
    assert past.loans == []


async def test_a_disbursement_is_posted_once_and_found_by_its_external_id(mifos):
    loan = await mifos.approved_loan(6000)
    disbursement = await write(mifos, Money.shillings(6000))
    posted = await mifos.client.disburse(loan.id, disbursement)
    assert isinstance(posted, Accepted)
    assert posted.value.from_cache is False
    again = await mifos.client.disburse(loan.id, disbursement)
    assert (again.value.transaction_id, again.value.from_cache) == (posted.value.transaction_id, True)
    found = await mifos.client.loan_transaction_by_external_id(loan.id, disbursement.external_id)
    assert (found.id, found.kind, found.amount) == (posted.value.transaction_id, "disbursement", Money.shillings(6000))
    assert (found.receipt, found.on, found.reversed) == (disbursement.receipt, mifos.today, False)
    read = await mifos.client.loan(loan.id)
    assert (read.status_id, [t.id for t in read.transactions if t.kind == "disbursement"]) == (300, [found.id])
    assert read.total_outstanding > Money.shillings(6000)


async def test_a_second_disbursement_is_unknown_until_it_is_read_back(mifos):
    loan = await disbursed_loan(mifos)
    second = await mifos.client.disburse(loan.id, await write(mifos, Money.shillings(6000)))
    assert isinstance(second, Unknown)
    assert "read back" in second.cause


async def test_a_key_used_for_another_loan_is_not_taken_for_a_posting(mifos):
    first, second = await mifos.approved_loan(2000), await mifos.approved_loan(2000)
    shared = await write(mifos, Money.shillings(2000))
    assert isinstance(await mifos.client.disburse(first.id, shared), Accepted)
    outcome = await mifos.client.disburse(second.id, shared)
    assert isinstance(outcome, Unknown)
    assert "key was used before" in outcome.cause
    assert (await mifos.client.loan(second.id)).status_id == 200


async def test_an_external_id_of_another_loan_is_unknown_and_moves_nothing(mifos):
    first, second = await mifos.approved_loan(2000), await mifos.approved_loan(2000)
    done = await write(mifos, Money.shillings(2000))
    await mifos.client.disburse(first.id, done)
    outcome = await mifos.client.disburse(second.id, await write(mifos, Money.shillings(2000), external_id=done.external_id))
    assert isinstance(outcome, Unknown)
    assert (await mifos.client.loan(second.id)).status_id == 200


async def test_an_undone_disbursement_shows_as_reversed_and_burns_its_external_id(mifos):
    loan = await mifos.approved_loan(2000)
    done = await write(mifos, Money.shillings(2000))
    await mifos.client.disburse(loan.id, done)
    await mifos.undo_disbursal(loan.id)
    found = await mifos.client.loan_transaction_by_external_id(loan.id, done.external_id)
    assert found.reversed is True
    assert (await mifos.client.loan(loan.id)).status_id == 200
    again = await mifos.client.disburse(loan.id, await write(mifos, Money.shillings(2000), external_id=done.external_id))
    assert isinstance(again, Unknown)
    assert isinstance(await mifos.client.disburse(loan.id, await write(mifos, Money.shillings(2000))), Accepted)


@pytest.mark.parametrize(
    ("change", "code", "refusal"),
    [
        ({"days": -5}, "error.msg.loan.disbursal.cannot.be.before.approval.date", Refusal.TERMINAL),
        ({"days": 1}, "error.msg.loan.disbursal.cannot.be.a.future.date", Refusal.RETRY_LATER),
        ({"shillings": 9000}, "error.msg.loan.disburse.amount.must.be.less.than.approved.amount", Refusal.TERMINAL),
        ({"payment_type_id": 999_999}, "error.msg.payment.type.invalid", Refusal.HALT),
    ],
)
async def test_a_disbursement_that_breaks_a_rule_is_refused_and_the_refusal_stays_with_its_key(mifos, change, code, refusal):
    loan = await mifos.approved_loan(2000)
    fields = {"on": mifos.today + timedelta(days=change.get("days", 0))}
    if "payment_type_id" in change:
        fields["payment_type_id"] = change["payment_type_id"]
    bad = await write(mifos, Money.shillings(change.get("shillings", 2000)), **fields)
    outcome = await mifos.client.disburse(loan.id, bad)
    assert isinstance(outcome, Refused), outcome
    assert (outcome.code, outcome.refusal, key_is_burnt(outcome)) == (code, refusal, True)
    assert await mifos.client.disburse(loan.id, bad) == outcome
    assert (await mifos.client.loan(loan.id)).status_id == 200
    right = await write(mifos, Money.shillings(2000), external_id=bad.external_id)
    assert isinstance(await mifos.client.disburse(loan.id, right), Accepted)


async def test_a_repayment_is_posted_to_the_cent_once_and_found_by_its_external_id(mifos):
    loan = await disbursed_loan(mifos)
    before = (await mifos.client.loan(loan.id)).total_outstanding
    repayment = await write(mifos, Money(1250))
    posted = await mifos.client.repay(loan.id, repayment)
    assert isinstance(posted, Accepted)
    again = await mifos.client.repay(loan.id, repayment)
    assert (again.value.transaction_id, again.value.from_cache) == (posted.value.transaction_id, True)
    found = await mifos.client.loan_transaction_by_external_id(loan.id, repayment.external_id)
    assert (found.id, found.kind, found.amount) == (posted.value.transaction_id, "repayment", Money(1250))
    assert (found.receipt, found.reversed) == (repayment.receipt, False)
    read = await mifos.client.loan(loan.id)
    assert read.total_outstanding == before - Money(1250)
    assert [t.receipt for t in read.transactions if t.kind == "repayment"] == [repayment.receipt]


async def test_a_repayment_under_a_used_external_id_is_unknown_and_a_reversed_one_still_shows(mifos):
    loan = await disbursed_loan(mifos)
    repayment = await write(mifos, Money.shillings(100))
    posted = await mifos.client.repay(loan.id, repayment)
    twice = await mifos.client.repay(loan.id, await write(mifos, Money.shillings(100), external_id=repayment.external_id))
    assert isinstance(twice, Unknown)
    await mifos.reverse_repayment(loan.id, posted.value.transaction_id)
    found = await mifos.client.loan_transaction_by_external_id(loan.id, repayment.external_id)
    assert (found.id, found.reversed) == (posted.value.transaction_id, True)
    replay = await mifos.client.repay(loan.id, repayment)
    assert replay.value.from_cache is True


async def test_more_than_is_owed_is_taken_and_overpays_the_loan(mifos):
    loan = await disbursed_loan(mifos, 2000)
    assert isinstance(await mifos.client.repay(loan.id, await write(mifos, Money.shillings(5000))), Accepted)
    assert (await mifos.client.loan(loan.id)).status_id == 700


@pytest.mark.parametrize(
    ("days", "code", "refusal"),
    [
        (1, "error.msg.loan.transaction.cannot.be.a.future.date", Refusal.RETRY_LATER),
        (-5, "error.msg.loan.transaction.cannot.be.before.disbursement.date", Refusal.TERMINAL),
    ],
)
async def test_a_repayment_on_an_impossible_day_is_refused(mifos, days, code, refusal):
    loan = await disbursed_loan(mifos, 2000)
    outcome = await mifos.client.repay(loan.id, await write(mifos, Money.shillings(100), on=mifos.today + timedelta(days=days)))
    assert (outcome.code, outcome.refusal) == (code, refusal)


async def test_a_loan_that_is_not_disbursed_takes_no_repayment(mifos):
    loan = await mifos.approved_loan(2000)
    outcome = await mifos.client.repay(loan.id, await write(mifos, Money.shillings(100)))
    assert (outcome.code, outcome.refusal) == ("error.msg.loan.must.be.active.fully.paid.or.overpaid", Refusal.TERMINAL)


async def test_a_deposit_is_posted_once_and_found_by_its_receipt(mifos):
    savings_id, _ = await mifos.active_savings()
    deposit = await write(mifos, Money(120050), external_id=None)
    posted = await mifos.client.deposit(savings_id, deposit)
    assert isinstance(posted, Accepted), posted
    again = await mifos.client.deposit(savings_id, deposit)
    assert (again.value.transaction_id, again.value.from_cache) == (posted.value.transaction_id, True)
    account = await mifos.client.savings_account(savings_id)
    assert (account.balance, account.active) == (Money(120050), True)
    found = [(t.id, t.kind, t.amount, t.receipt, t.on, t.reversed) for t in account.transactions]
    assert found == [(posted.value.transaction_id, "deposit", Money(120050), deposit.receipt, mifos.today, False)]


async def test_a_deposit_is_refused_without_payment_type_with_an_external_id_and_on_a_future_day(mifos):
    savings_id, _ = await mifos.active_savings()
    blank = await mifos.client.deposit(savings_id, await write(mifos, Money(100), external_id=None, payment_type_id=None))
    assert (blank.code, blank.refusal) == (
        "validation.msg.savingsaccount.transaction.paymentTypeId.cannot.be.blank",
        Refusal.TERMINAL,
    )
    marked = await mifos.client.deposit(savings_id, await write(mifos, Money(100)))
    assert (marked.code, marked.refusal) == ("error.msg.parameter.unsupported", Refusal.TERMINAL)
    future = await mifos.client.deposit(
        savings_id, await write(mifos, Money(100), external_id=None, on=mifos.today + timedelta(days=1))
    )
    assert (future.code, future.refusal) == ("error.msg.savingsaccount.transaction.in.the.future", Refusal.RETRY_LATER)
    assert (await mifos.client.savings_account(savings_id)).balance == Money(0)


async def test_accounts_are_found_by_number_and_by_external_id_and_never_by_a_part(mifos):
    loan = await disbursed_loan(mifos, 2000)
    savings_id, savings_external_id = await mifos.active_savings()
    loan_number = (await mifos.client.loan(loan.id)).account_no
    savings_number = (await mifos.client.savings_account(savings_id)).account_no
    by_number = {(found.kind, found.id): found for found in await mifos.client.find_accounts(f" {loan_number} ")}
    assert by_number["loan", loan.id].active is True
    assert by_number["loan", loan.id].client_id == loan.client_id
    assert by_number["loan", loan.id].client_name == "Wanjiku Kamau"
    assert [(found.kind, found.id) for found in await mifos.client.find_accounts(loan.external_id)] == [("loan", loan.id)]
    savings = {(found.kind, found.id): found for found in await mifos.client.find_accounts(savings_number)}
    assert savings["savings", savings_id].active is True
    assert [(found.kind, found.id) for found in await mifos.client.find_accounts(savings_external_id)] == [
        ("savings", savings_id)
    ]
    assert await mifos.client.find_accounts(loan.external_id[:-1]) == []
    assert await mifos.client.find_accounts("%") == []


async def test_all_accounts_are_listed_in_the_order_of_their_ids_from_both_ends(mifos):
    loans = [await disbursed_loan(mifos, 2000), await mifos.approved_loan(1000)]
    savings_id, _ = await mifos.active_savings()
    newest = await mifos.client.account_page("loan", offset=0, limit=2, newest_first=True)
    assert [one.id for one in newest.accounts] == [loans[1].id, loans[0].id]
    assert [one.state for one in newest.accounts] == [AccountState.APPROVED, AccountState.ACTIVE]
    last = await mifos.client.account_page("loan", offset=newest.total - 2, limit=10)
    assert (last.ids, last.total) == (tuple(reversed(newest.ids)), newest.total)
    assert last.accounts[0].external_id == loans[0].external_id
    [savings] = (await mifos.client.account_page("savings", offset=0, limit=1, newest_first=True)).accounts
    assert (savings.id, savings.active, savings.currency) == (savings_id, True, "KES")
    assert savings == await mifos.client.account("savings", savings_id)
    assert await mifos.client.account_page("savings", offset=10**6, limit=5) == AccountPage(
        (await mifos.client.account_page("savings", offset=0, limit=1)).total, (), ()
    )


async def test_clients_are_listed_and_have_their_open_accounts(mifos):
    loan = await disbursed_loan(mifos, 2000)
    total = (await mifos.client.client_page(offset=0, limit=1)).total
    page = await mifos.client.client_page(offset=max(0, total - 5), limit=5)
    assert list(page.ids) == sorted(page.ids)
    listed = {one.id: one for one in page.clients}[loan.client_id]
    assert listed == await mifos.client.listed_client(loan.client_id)
    assert listed.mobile_no == loan.mobile_no
    assert await mifos.client.open_accounts(loan.client_id) == [("loan", loan.id)]


async def test_a_client_is_read_with_the_mobile_number(mifos):
    loan = await mifos.approved_loan(1000)
    person = await mifos.client.client(loan.client_id)
    assert (person.display_name, person.mobile_no) == ("Wanjiku Kamau", loan.mobile_no)


async def test_what_does_not_exist_is_not_found_by_reads_and_refused_by_writes(mifos):
    loan = await mifos.approved_loan(1000)
    missing = 88_888_888
    for read in (mifos.client.loan, mifos.client.client, mifos.client.savings_account):
        with pytest.raises(NotFound):
            await read(missing)
    assert await mifos.client.loan_transaction_by_external_id(loan.id, f"pv-{uuid4()}") is None
    disbursed = await mifos.client.disburse(missing, await write(mifos, Money(100)))
    assert (disbursed.code, disbursed.refusal) == ("error.msg.loan.id.invalid", Refusal.TERMINAL)
    repaid = await mifos.client.repay(missing, await write(mifos, Money(100)))
    assert (repaid.code, repaid.refusal) == ("error.msg.loan.id.invalid", Refusal.TERMINAL)
    deposited = await mifos.client.deposit(missing, await write(mifos, Money(100), external_id=None))
    assert isinstance(deposited, Refused)
    assert deposited.refusal is Refusal.TERMINAL


async def test_a_user_without_the_permission_is_halted_and_the_key_stays_good(mifos):
    loan = await mifos.approved_loan(2000)
    clerk = await mifos.restricted()
    disbursement = await write(mifos, Money.shillings(2000))
    outcome = await clerk.disburse(loan.id, disbursement)
    assert (outcome.code, outcome.refusal, key_is_burnt(outcome)) == ("error.msg.not.authorized", Refusal.HALT, False)
    assert isinstance(await mifos.client.disburse(loan.id, disbursement), Accepted)
    with pytest.raises(RemoteRefusal) as refused:
        await clerk.hooks()
    assert refused.value.code == "error.msg.not.authorized"


async def test_a_tenant_without_a_business_date_has_none(mifos):
    assert await mifos.client.business_date() is None


@asynccontextmanager
async def a_receiver():
    """A server that answers 200 to whatever comes and keeps it: first line, headers, body."""
    calls: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        calls.append(head + (await reader.readexactly(int(length[1])) if length else b""))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", calls


async def test_a_web_hook_is_made_pinged_and_listed(mifos):
    async with a_receiver() as (base, calls):
        url = f"{base}/i/{uuid4().hex}/"
        made = await mifos.client.create_hook(url)
        try:
            hook = next(hook for hook in await mifos.client.hooks() if hook.id == made)
            assert (hook.url, hook.active) == (url, True)
            undoings = {("LOAN", "APPROVALUNDO"), ("LOAN", "DISBURSALUNDO"), ("LOAN", "DISBURSALLASTUNDO")}
            assert {("LOAN", "APPROVE"), *undoings} <= set(hook.events)
            assert calls
            assert calls[0].startswith(b"GET /i/")
        finally:
            await mifos.delete_hook(made)


async def test_an_undone_disbursal_and_an_undone_last_tranche_raise_hooks_that_name_the_loan(mifos):
    async with a_receiver() as (base, calls):
        made = await mifos.client.create_hook(f"{base}/i/{uuid4().hex}/")
        try:
            loan = await disbursed_loan(mifos)
            in_parts = await mifos.tranche_loan((6_000, mifos.today), (4_000, mifos.today + timedelta(days=20)))
            for shillings in (6_000, 4_000):
                posted = await mifos.client.disburse(in_parts.id, await write(mifos, Money.shillings(shillings)))
                assert isinstance(posted, Accepted)
            await mifos.undo_disbursal(loan.id)
            await mifos.call("POST", f"/loans/{in_parts.id}?command=undolastdisbursal", {})
            async with asyncio.timeout(20):
                while len(undoings(calls)) < 2:  # noqa: ASYNC110 - another process is waited for
                    await asyncio.sleep(0.05)
            assert undoings(calls) == {loan.id, in_parts.id}
            assert (await mifos.client.loan(in_parts.id)).disbursals == 1
        finally:
            await mifos.delete_hook(made)


def undoings(calls: list[bytes]) -> set[int]:
    """The loans that the posted hooks say something was undone of."""
    parts = [call.partition(b"\r\n\r\n") for call in calls if call.startswith(b"POST")]
    heads = [(dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), body) for head, _, body in parts]
    hints = [read_hook(headers, body) for headers, body in heads]
    return {hint.loan_id for hint in hints if isinstance(hint, LoanHint) and hint.undone}


async def test_a_product_that_takes_the_expected_day_only_refuses_every_other_and_takes_that(mifos):
    loan = await mifos.approved_loan(6_000, punctual=True)
    refused = await mifos.client.disburse(loan.id, await write(mifos, Money.shillings(6_000)))
    assert isinstance(refused, Refused)
    assert (refused.refusal, is_expected_day_only(refused), key_is_burnt(refused)) == (Refusal.RETRY_LATER, True, True)
    expected = (await mifos.client.loan(loan.id)).expected_on
    assert expected == loan.approved_on
    assert isinstance(await mifos.client.disburse(loan.id, await write(mifos, Money.shillings(6_000), on=expected)), Accepted)


async def test_a_top_up_does_not_tell_what_reaches_the_client_before_it_is_disbursed(mifos):
    older = await mifos.approved_loan(6_000)
    yesterday = await write(mifos, Money.shillings(6_000), on=older.approved_on)
    assert isinstance(await mifos.client.disburse(older.id, yesterday), Accepted)
    topped_up = await mifos.approved_loan(15_000, topping_up=older)
    for seen in (await mifos.client.loan(topped_up.id), (await all_approved(mifos))[topped_up.id]):
        assert (seen.top_up, seen.approved_principal, seen.net_disbursal) == (
            True,
            Money.shillings(15_000),
            Money.shillings(15_000),
        )
    assert not (await mifos.client.loan(older.id)).top_up


async def test_the_tranches_of_a_loan_are_read_in_their_order_and_counted_as_they_are_disbursed(mifos):
    later = mifos.today + timedelta(days=20)
    fresh = await mifos.tranche_loan((6_000, mifos.today), (4_000, later))
    planned = await mifos.client.loan(fresh.id)
    assert (planned.multi_disburse, planned.disbursals) == (True, 0)
    assert [(part.principal, part.expected_on, part.disbursed_on) for part in planned.tranches] == [
        (Money.shillings(6_000), mifos.today, None),
        (Money.shillings(4_000), later, None),
    ]
    assert part_of(planned, 1) == Part(1, 2, Money.shillings(6_000), Money.shillings(6_000), mifos.today)
    assert isinstance(await mifos.client.disburse(fresh.id, await write(mifos, Money.shillings(6_000))), Accepted)
    first_out = await mifos.client.loan(fresh.id)
    assert (first_out.status_id, first_out.disbursals, first_out.tranches[0].disbursed_on) == (300, 1, mifos.today)
    assert part_of(first_out, 2) == Part(2, 2, Money.shillings(4_000), Money.shillings(4_000), later)
    assert fresh.id not in await all_approved(mifos)


async def test_nothing_in_the_server_keeps_a_tranche_from_being_disbursed_twice_so_we_count(mifos):
    fresh = await mifos.tranche_loan((6_000, mifos.today), (4_000, mifos.today + timedelta(days=20)))
    for shillings in (6_000, 4_000, 1_000):
        assert isinstance(await mifos.client.disburse(fresh.id, await write(mifos, Money.shillings(shillings))), Accepted)
    damaged = await mifos.client.loan(fresh.id)
    assert damaged.disbursals == 3
    assert isinstance(part_of(damaged, 2), WrongState)
