"""The proof that every cent in suspense has an open case, and every cent not yet posted a payment that is on its way."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from vault_core.collections.suspense import UNMATCHED_CASE
from vault_core.finding import Finding
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class CollectionsProof:
    """A partner's balances beside what explains them. It holds when each pair is equal."""

    partner: str
    suspense: Money
    open_cases: Money  # of kind unmatched_payment
    unposted: Money
    on_their_way: Money  # payments being matched or posted, or waiting for a person to find out whether they are

    @property
    def holds(self) -> bool:
        """Whether every cent is explained."""
        return self.suspense == self.open_cases and self.unposted == self.on_their_way


_PROOF = text(
    """
    SELECT partners.name,
           coalesce((SELECT -balance_cents FROM ledger_accounts
                     WHERE partner_id = partners.id AND code = 'suspense'), 0) AS suspense,
           coalesce((SELECT sum(amount_cents) FROM cases
                     WHERE partner_id = partners.id AND kind = :kind AND closed_at IS NULL), 0) AS open_cases,
           coalesce((SELECT -balance_cents FROM ledger_accounts
                     WHERE partner_id = partners.id AND code = 'collected_unposted'), 0) AS unposted,
           coalesce((SELECT sum(amount_cents) FROM collections
                     WHERE partner_id = partners.id AND state IN ('matching', 'posting', 'needs_review')), 0) AS on_their_way
    FROM partners ORDER BY name
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
        if proof.unposted != proof.on_their_way:
            what = f"{proof.unposted} in collected_unposted, but {proof.on_their_way} in payments on their way"
            findings.append(Finding("unposted_is_on_its_way", where, what))
    return findings
