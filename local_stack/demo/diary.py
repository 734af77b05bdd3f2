"""What people of the demo's day saw come out as it should, noted by them as it did."""

from collections import Counter
from dataclasses import dataclass, field

# Ways of a payout and of a customer's payment, each of which somebody follows to its end.
WORDS = {
    "payee_blocked": "loan held because nobody knew what had become of another payout to its client",
    "payee_freed": "such a loan paid once that payout was settled",
    "difference_made_good": "payout of more than was instructed (case), the difference sent back and seen by two persons",
    "bare_result": "result without receipt and amount (case), found paid by a question",
    "forgotten": "payout that M-Pesa took and then knew nothing of (2033), paid under a new id",
    "checked": "posting that waited for a checker in Mifos X, seen once he had approved it",
    "told_hashed": "payment told with the payer's number hashed (version 1)",
    "told_in_clear": "payment told with the payer's number in clear (as of old)",
    "told_in_numbers": "payment told in numbers instead of texts",
    "found_by_prefix": "payment that found its account by a prefix that names the kind",
    "found_by_client_number": "payment that found its account by its client's number",
    "found_by_phone": "payment that found its account by its client's phone number",
    "ambiguous": "payment whose reference fits two accounts: candidates shown, one of them named by a person",
    "to_closed": "payment to a closed loan, in suspense",
    "to_overpaid": "payment to an overpaid loan, in suspense",
    "to_unpaid_loan": "payment to a loan that is not paid out, in suspense",
    "to_other_currency": "payment to an account in another currency, in suspense",
    "too_much_shared": "payment of more than was owed, the rest put to savings (policy to_savings)",
    "too_much_posted": "payment of more than was owed, all of it on the loan (policy post_all)",
    "too_much_held": "payment of more than was owed, held (policy hold) until a person had the loan take it",
    "refused_phone": "payment refused for the payer's number (C2B00011)",
    "refused_account": "payment refused for its account (C2B00012)",
    "refused_amount": "payment refused for its amount (C2B00013)",
    "refused_customer": "payment refused for an account that is blocked (C2B00014)",
    "refused_short_code": "payment refused for its short code (C2B00015)",
    "refused_unknown": "payment refused because nothing could be told of its account (C2B00016)",
    "taken_unknown": "payment taken although nothing could be told of its account",
    "asked_by_command": "prompt by `vault collect`, paid, and told by callback and confirmation: booked once",
    "asked_by_api": "prompt by the partners' API, declined",
    "paid_without_callback": "prompt whose callback was lost, found paid by a question and its confirmation",
    "paid_in_spite_of_answer": "prompt of which M-Pesa's answer said failed, paid all the same",
    "declined_without_callback": "prompt whose callback was lost, found declined by a question",
    "moved": "payment undone in Mifos X and posted to the right account",
    "taken_out": "payment undone in Mifos X and kept in suspense, then assigned",
    "undone_by_officer": "payment that an officer undid in Mifos X (case), then moved",
    "rejected": "proposal about a payment that a second person rejected",
    "given_back": "payment given back by M-Pesa, as its result said",
    "given_back_unheard": "payment given back by M-Pesa, whose result was lost, as its answer to a question said",
    "given_back_late": "payment given back by M-Pesa, whose result was late",
    "cash_repaid": "repayment at the counter, recorded from Mifos X's hook, its client texted",
    "cash_deposited": "deposit at the counter, recorded from Mifos X's hook",
    "cash_taken_back": "deposit at the counter that was taken back, seen by Mifos X's hook",
    "gap_pulled": "payment never confirmed, missed by the balance that the next one told, pulled at once",
    "imported": "payment never confirmed, found in the statement that a person downloaded",
}


@dataclass(frozen=True, slots=True)
class Diary:
    """The notes of one day."""

    notes: Counter[str] = field(default_factory=Counter)

    def note(self, name: str) -> None:
        """One more of these, which have words above."""
        if name not in WORDS:
            raise KeyError(name)
        self.notes[name] += 1
