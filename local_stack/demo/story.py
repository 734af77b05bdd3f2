"""What the day held: counted from the product's own records after it or noted by people as it came, and told in words."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from local_stack.demo.diary import WORDS, Diary

_CASES = text("SELECT kind, count(*) AS n FROM cases GROUP BY kind")
_ACTS = text("SELECT act, count(*) AS n FROM audit_log GROUP BY act")
_OTHERS = text(
    """
    SELECT
        (SELECT count(DISTINCT a.disbursement_id) FROM status_queries q
         JOIN disbursement_attempts a ON a.result_event_id = q.answer_event_id WHERE a.state = 'paid') AS found_by_question,
        (SELECT count(*) FROM disbursements d WHERE d.receipt IS NOT NULL AND EXISTS (
            SELECT FROM disbursement_attempts a WHERE a.disbursement_id = d.id AND a.state = 'failed')) AS paid_after_a_failure,
        (SELECT count(DISTINCT attempt_id) FROM status_queries WHERE result_code = '2033') AS known_to_nobody,
        (SELECT count(*) FROM disbursements d JOIN partners p ON p.id = d.partner_id
         WHERE d.state = 'disbursed' AND p.mifos_capabilities ->> 'idempotency' = 'false') AS posted_without_keys,
        (SELECT count(*) FROM disbursements WHERE tranche > 1 AND state = 'disbursed') AS later_tranches,
        (SELECT count(*) FROM disbursements WHERE payout_cents < principal_cents AND state = 'disbursed') AS paid_net,
        (SELECT count(*) FROM send_paces WHERE slowed_at IS NOT NULL) AS slowed_lenders,
        (SELECT count(*) FROM core_postings WHERE not_before IS NOT NULL AND state <> 'posted') AS for_working_day,
        (SELECT count(*) FROM account_aliases) AS references_remembered,
        (SELECT count(*) FROM collections WHERE state = 'reversed') AS payments_given_back,
        (SELECT count(*) FROM collections c WHERE c.source = 'pull' AND NOT EXISTS (
            SELECT FROM collection_tellings t WHERE t.collection_id = c.id AND t.source <> 'pull')) AS payments_pulled,
        (SELECT count(*) FROM messages WHERE template IN ('payment_received', 'payment_shared') AND business_key LIKE 'receipt:%'
         AND state IN ('accepted', 'delivered')) AS receipts_texted,
        (SELECT count(*) FROM core_payments) AS paid_at_counter,
        (SELECT count(*) FROM stk_requests WHERE state = 'paid') AS prompts_paid,
        (SELECT count(*) FROM stk_requests WHERE state = 'declined') AS prompts_declined,
        (SELECT count(*) FROM stk_requests WHERE state = 'expired') AS prompts_expired
    """
)


@dataclass(frozen=True, slots=True)
class Happening:
    """One kind of thing that happened: its name for programs, in words, and how often."""

    name: str
    words: str
    times: int


_CASES_IN_WORDS = {
    "float_short": "lender without float: its queue held, float bought, went on",
    "float_gap": "lender whose float fell by more than our payouts (case)",
    "partner_halted": "lender stopped at the second sign of a credential fault (case)",
    "payout_unresolved": "payout that M-Pesa said nothing of (case)",
    "payout_failed": "payout refused for good (case)",
    "paid_amount_differs": "payout of another amount than was instructed (case)",
    "result_not_understood": "result that could not be understood (case)",
    "contradicting_result": "payout said to be paid, then to have failed (case)",
    "result_without_payout": "result for a payout that nobody here sent (case)",
    "tariff_difference": "fee of M-Pesa that is not the price list's (case)",
    "disbursement_unposted": "payout that Mifos X refused to book, booked there by hand and seen (case)",
    "disbursal_undone": "disbursal undone in Mifos X: not paid again, a person told (case)",
    "balance_gap": "balance that no payment we know of explains (case)",
    "posted_payment_undone": "payment undone in Mifos X by its people (case)",
    "sms_unknown": "text that may or may not have been sent (case)",
    "unmatched_payment": "payment without an account, in suspense (case)",
}
_ACTS_IN_WORDS = {
    "payouts.halted": "halt of all sending",
    "payouts.go_on": "halt lifted",
    "partner.resumed": "lender resumed by a person",
    "wallet.adjustment_approved": "top-up above one person's limit, seen by a second one",
    "disbursement.held": "loan held back by a person",
    "disbursement.released": "loan released by a person",
    "disbursement.retried": "loan retried by a person",
    "disbursement.cancelled": "loan cancelled by a person",
    "disbursement.resolved": "payout settled by evidence, by two persons",
    "case.closed": "case closed by a person",
    "collection.assign_approved": "payment assigned to an account by two persons",
    "collection.reverse_approved": "payment that two persons had given back",
}
_OTHERS_IN_WORDS = {
    "found_by_question": "payout whose lost result M-Pesa's answer to a question replaced",
    "paid_after_a_failure": "loan paid by a later instruction after a definite failure",
    "known_to_nobody": "payout that M-Pesa knew nothing of when it was asked (2033): sent again, once that proved something",
    "posted_without_keys": "loan posted to a Mifos X without idempotency keys, two of them after an answer that did not come",
    "later_tranches": "later tranche paid and posted",
    "paid_net": "loan of which less than the principal was paid and all of it posted (charges, a top-up)",
    "slowed_lenders": "lender sent to more slowly after M-Pesa's spike arrest",
    "for_working_day": "paid loan that waits for its lender's next working day (holiday)",
    "references_remembered": "reference of a payer that a person named an account for, found by itself since",
    "payments_given_back": "payment that M-Pesa gave back to its payer",
    "payments_pulled": "payment whose confirmation never came, found by a pull",
    "receipts_texted": "text to a payer with amount, account, new balance and receipt",
    "paid_at_counter": "payment made inside Mifos X, recorded",
    "prompts_paid": "prompt to pay that was paid",
    "prompts_declined": "prompt to pay that was declined",
    "prompts_expired": "prompt to pay that was never heard of",
}


async def read_story(connection: AsyncConnection, diary: Diary) -> list[Happening]:
    """Every kind of happening that the day is made of, with its count, which is 0 for one that did not come.

    What people noted in the `diary` they saw in the product's records, too.
    """
    cases = {row.kind: row.n for row in await connection.execute(_CASES)}
    acts = {row.act: row.n for row in await connection.execute(_ACTS)}
    others = dict((await connection.execute(_OTHERS)).mappings().one())
    return [
        *_told(_CASES_IN_WORDS, cases, "case_{}"),
        *_told(_ACTS_IN_WORDS, acts, "{}"),
        *_told(_OTHERS_IN_WORDS, others, "{}"),
        *_told(WORDS, diary.notes, "{}"),
    ]


def _told(words: Mapping[str, str], counts: Mapping[str, int], name: str) -> list[Happening]:
    return [Happening(name.format(key).replace(".", "_"), said, counts.get(key, 0)) for key, said in words.items()]
