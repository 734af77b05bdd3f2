"""Looking in Mifos X for a posting that may have been made: by our external id, then by the M-Pesa receipt."""

from collections.abc import Sequence
from dataclasses import dataclass

from vault_core.clients.mifos import ApprovedLoan, LoanTransaction, MifosCapabilities, MifosClient
from vault_core.money import ZERO, Money
from vault_core.postings.posting_rows import CorePosting

_APPROVED, _ACTIVE = 200, 300


@dataclass(frozen=True, slots=True)
class Found:
    """It is posted."""

    transaction: LoanTransaction


@dataclass(frozen=True, slots=True)
class Absent:
    """It is not posted."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """Only a person can tell what to do: it was undone, has another amount, or the loan was disbursed by somebody else.

    `undone`: the transactions of it that were undone, when that is all that stands in the way.
    """

    cause: str
    undone: tuple[int, ...] = ()


ReadBack = Found | Absent | Unsure


async def read_back(client: MifosClient, capabilities: MifosCapabilities, posting: CorePosting) -> ReadBack:
    """What Mifos X has of the posting. Raises what reads raise (VaultError): then nothing is known."""
    if posting.kind == "deposit":
        account = await client.savings_account(posting.account_id)
        return judge_transactions(posting, account.transactions)
    loan = await client.loan(posting.account_id)
    seen = judge_transactions(posting, loan.transactions)
    if isinstance(seen, Absent) and capabilities.external_id_paths and not posting.top_up:
        # An undone transaction leaves the loan's list but keeps its external id (reference/fineract.md section 11).
        hidden = await client.loan_transaction_by_external_id(posting.account_id, posting.external_id)
        seen = seen if hidden is None else judge_transactions(posting, [hidden])
    if isinstance(seen, Absent) and posting.kind == "disburse":
        return _next_is_ours(loan, posting)
    return seen


def _next_is_ours(loan: ApprovedLoan, posting: CorePosting) -> Absent | Unsure:
    """Whether the loan stands where the posting would be its next disbursal. The server itself does not count tranches."""
    before = (posting.tranche or 1) - 1
    if loan.status_id != (_ACTIVE if before else _APPROVED):
        return Unsure(f"the loan is in status {loan.status_id} without our receipt: somebody else changed it")
    if loan.disbursals != before:
        return Unsure(f"{loan.disbursals} disbursals stand on the loan, {before} were due before ours: somebody made one by hand")
    if not loan.multi_disburse and loan.approved_principal != posting.amount:
        # The server takes less than was approved without a word (reference/fineract.md section 11).
        return Unsure(
            f"the loan is approved for {loan.approved_principal} by now and {posting.amount} is to be posted: it was approved "
            "anew after it was paid"
        )
    return Absent()


def judge_transactions(posting: CorePosting, transactions: Sequence[LoanTransaction]) -> ReadBack:
    """What the account's transactions say of the posting: ours carries our external id, or our receipt and kind of movement.

    What was undone before a person had it posted again does not count any more; nor does what somebody else entered and undid
    before we ever called.
    """
    ours = [
        each
        for each in transactions
        if each.id not in posting.undone and _is_ours(posting, each) and not _is_anothers_past(posting, each)
    ]
    live = [transaction for transaction in ours if not transaction.reversed]
    if len(live) > 1:
        return Unsure(f"it is posted {len(live)} times: transactions {', '.join(str(found.id) for found in live)}")
    if live and (posted := _posted(posting, live[0], transactions)) != posting.amount:
        return Unsure(f"transaction {live[0].id} posts {posted} instead of {posting.amount}")
    if live:
        return Found(live[0])
    if ours:
        return Unsure(f"transaction {ours[0].id} was undone in Mifos X", tuple(each.id for each in ours))
    return Absent()


def _posted(posting: CorePosting, ours: LoanTransaction, transactions: Sequence[LoanTransaction]) -> Money:
    """What `ours` posts to the loan: of a top-up, what went to the older loan stands beside it in another transaction."""
    if not posting.top_up:
        return ours.amount
    return sum((each.amount for each in transactions if each.kind == ours.kind and not each.reversed), ZERO)


def _is_anothers_past(posting: CorePosting, transaction: LoanTransaction) -> bool:
    uncalled = posting.kind != "disburse" and not posting.tries
    return uncalled and transaction.reversed and transaction.external_id != posting.external_id


def _is_ours(posting: CorePosting, transaction: LoanTransaction) -> bool:
    if transaction.external_id == posting.external_id:
        return True
    kind = "disbursement" if posting.kind == "disburse" else posting.kind
    return transaction.receipt == posting.receipt and transaction.kind == kind
