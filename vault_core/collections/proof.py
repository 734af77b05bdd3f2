"""The proof that every cent in suspense has an open case, and every cent not yet posted a payment that is on its way.

Suspense, the open cases and the payments that say that they are in suspense are three books of one sum, at every step: while a
payment is assigned and posted, while M-Pesa is asked to give it back, and while a person looks.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault_core.collections.suspense import UNMATCHED_CASE
from vault_core.finding import Finding
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class CollectionsProof:
    """A partner's balances beside what explains them. It holds when all of a sort are equal.

    `cases_match`: each payment in suspense has one open case of its own amount, and no case is open for another.
    """

    partner: str
    suspense: Money
    open_cases: Money  # of kind unmatched_payment
    in_suspense: Money  # payments that are in suspense, whatever is being done about them
    cases_match: bool
    unposted: Money
    on_their_way: Money  # payments being matched or posted, or waiting for a person to find out whether they are

    @property
    def holds(self) -> bool:
        """Whether every cent is explained."""
        return self.suspense == self.open_cases == self.in_suspense and self.cases_match and self.unposted == self.on_their_way


_PROOF = text(
    """
    SELECT partners.name,
           coalesce((SELECT -balance_cents FROM ledger_accounts
                     WHERE partner_id = partners.id AND code = 'suspense'), 0) AS suspense,
           coalesce((SELECT sum(amount_cents) FROM cases
                     WHERE partner_id = partners.id AND kind = :kind AND closed_at IS NULL), 0) AS open_cases,
           coalesce((SELECT sum(amount_cents) FROM collections
                     WHERE partner_id = partners.id AND in_suspense), 0) AS in_suspense,
           NOT EXISTS (SELECT FROM (SELECT short_code || ' ' || receipt AS subject, amount_cents FROM collections
                                    WHERE partner_id = partners.id AND in_suspense) c
                       FULL JOIN (SELECT subject, amount_cents FROM cases
                                  WHERE partner_id = partners.id AND kind = :kind AND closed_at IS NULL) k USING (subject)
                       WHERE c.amount_cents IS DISTINCT FROM k.amount_cents) AS cases_match,
           coalesce((SELECT -balance_cents FROM ledger_accounts
                     WHERE partner_id = partners.id AND code = 'collected_unposted'), 0) AS unposted,
           coalesce((SELECT sum(amount_cents) FROM collections
                     WHERE partner_id = partners.id AND NOT in_suspense
                           AND state IN ('matching', 'posting', 'needs_review')), 0) AS on_their_way
    FROM partners ORDER BY name
    """
)


# A payment that was given back has one reversal that is done and booked to the cent, and no other has one.
_REVERSALS = text(
    """
    SELECT c.short_code || ' ' || c.receipt AS subject,
           'is ' || c.state || ' with ' || count(r.id) || ' reversals under way or done, ' || count(l.amount) || ' booked' AS what
    FROM collections c
    LEFT JOIN reversal_requests r ON r.collection_id = c.id AND r.state <> 'failed'
    LEFT JOIN LATERAL (
        SELECT sum(-e.amount_cents) AS amount FROM ledger_keys k JOIN ledger_entries e ON e.transaction_id = k.transaction_id
        JOIN ledger_accounts a ON a.id = e.account_id AND a.code = 'c2b_float'
        WHERE k.scope = r.partner_id AND k.key = 'reversed:' || r.id) l ON true
    WHERE c.state IN ('reversing', 'reversed') OR r.id IS NOT NULL
    GROUP BY c.id
    HAVING NOT CASE c.state WHEN 'reversed' THEN count(r.id) = 1 AND bool_and(r.state = 'done')
                                                 AND coalesce(sum(l.amount), 0) = c.amount_cents
                            WHEN 'reversing' THEN count(r.id) = 1 AND bool_and(r.state <> 'done') AND count(l.amount) = 0
                            ELSE false END
    """
)

# What is not over is with a worker that will come, or with a person who was told.
_STUCK = text(
    """
    SELECT c.short_code || ' ' || c.receipt AS subject, 'is ' || c.state || ', and ' || why.words AS what
    FROM collections c
    LEFT JOIN outbox o ON o.kind = 'collection.post' AND o.subject = c.id::text
    LEFT JOIN LATERAL (SELECT next_at FROM reversal_requests r WHERE r.collection_id = c.id AND r.state <> 'failed') r ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.state IN ('matching', 'posting') AND coalesce(o.state, 'done') = 'done' THEN 'no call is due about it'
                    WHEN c.state = 'needs_review' AND NOT told.case_open THEN 'no case tells a person'
                    WHEN c.state = 'reversing' AND r.next_at IS NULL AND NOT told.case_open THEN 'nobody asks about it'
               END AS words
        FROM (SELECT EXISTS (SELECT FROM cases k WHERE k.closed_at IS NULL AND k.subject = c.short_code || ' ' || c.receipt
                             AND k.kind = CASE c.state WHEN 'reversing' THEN 'reversal_unknown' ELSE 'collection_not_posted' END)
                     AS case_open) told) why
    WHERE c.state NOT IN ('posted', 'reversed') AND why.words IS NOT NULL
    """
)


async def prove_collections(connection: AsyncConnection) -> list[CollectionsProof]:
    """The proof of each partner, by name, in one statement and so of one moment."""
    rows = await connection.execute(_PROOF, {"kind": UNMATCHED_CASE})
    return [
        CollectionsProof(
            partner=row.name,
            suspense=Money(int(row.suspense)),
            open_cases=Money(int(row.open_cases)),
            in_suspense=Money(int(row.in_suspense)),
            cases_match=row.cases_match,
            unposted=Money(int(row.unposted)),
            on_their_way=Money(int(row.on_their_way)),
        )
        for row in rows
    ]


async def collections_findings(engine: AsyncEngine) -> list[Finding]:
    """What does not add up; empty when the proof holds. For `vault verify`."""
    async with engine.connect() as connection:
        proofs = await prove_collections(connection)
    findings: list[Finding] = []
    for proof in proofs:
        where = f"partner {proof.partner}"
        if proof.suspense != proof.open_cases:
            what = f"{proof.suspense} in suspense, but {proof.open_cases} in open {UNMATCHED_CASE} cases"
            findings.append(Finding("suspense_has_cases", where, what))
        elif not proof.cases_match:
            what = f"a payment in suspense without an open {UNMATCHED_CASE} case of its amount, or such a case without one"
            findings.append(Finding("suspense_has_cases", where, what))
        if proof.suspense != proof.in_suspense:
            what = f"{proof.suspense} in suspense, but payments of {proof.in_suspense} say that they are there"
            findings.append(Finding("suspense_has_payments", where, what))
        if proof.unposted != proof.on_their_way:
            what = f"{proof.unposted} in collected_unposted, but {proof.on_their_way} in payments on their way"
            findings.append(Finding("unposted_is_on_its_way", where, what))
    async with engine.connect() as connection:
        reversals = (await connection.execute(_REVERSALS)).all()
        stuck = (await connection.execute(_STUCK)).all()
    findings += [Finding("reversals_are_booked", f"payment {row.subject}", row.what) for row in reversals]
    findings += [Finding("payments_go_on", f"payment {row.subject}", row.what) for row in stuck]
    return findings
