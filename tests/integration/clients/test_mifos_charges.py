"""Charges that come and go before a loan is paid, against the sandbox and, when VAULT_TEST_MIFOS_URL is set, a real server."""

from tests.integration.clients.conftest import FORMAT
from vault_core.disbursements.tranches import Part, part_of
from vault_core.money import Money


async def payout(server, loan_id: int) -> Money:
    part = part_of(await server.client.loan(loan_id), 1)
    assert isinstance(part, Part), part
    return part.payout


async def test_a_charge_goes_only_with_the_approval_and_one_that_is_added_after_it_is_not_paid_out(mifos):
    loan = await mifos.approved_loan(6000, fee=True)
    (first,) = await mifos.charges_of(loan.id)
    refused = await mifos.delete_charge(loan.id, first)
    assert (refused.status_code, "not.in.submitted.and.pending.approval.stage" in refused.text) == (403, True)
    assert await payout(mifos, loan.id) == Money.shillings(5820)
    await mifos.add_charge(loan.id, 2)
    assert await payout(mifos, loan.id) == Money.shillings(5700)
    await mifos.call("POST", f"/loans/{loan.id}?command=undoapproval", {})
    assert (await mifos.delete_charge(loan.id, first)).status_code == 200
    again = {"approvedOnDate": str(loan.approved_on), "expectedDisbursementDate": str(loan.approved_on), **FORMAT}
    await mifos.call("POST", f"/loans/{loan.id}?command=approve", again)
    assert await payout(mifos, loan.id) == Money.shillings(5880)
