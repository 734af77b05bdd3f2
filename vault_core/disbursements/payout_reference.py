"""Finding a disbursement by whatever a person has in hand: its id, its receipt, an id of M-Pesa's, the loan."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import InvalidInput, NotFound

_MOST = 20

# The sharpest first: an id or a receipt names one; a loan may have tranches, and its number may exist at several partners.
_FIND = text(
    """
    SELECT d.id, p.name AS partner, d.loan_account_no, d.tranche, d.state
    FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE (CAST(:partner AS text) IS NULL OR p.name = :partner)
          AND (d.id = :id OR d.receipt = upper(:given) OR d.loan_account_no = :given OR d.loan_external_id = :given
               OR d.loan_id = :number OR d.id IN (
                   SELECT a.disbursement_id FROM disbursement_attempts a
                   WHERE a.id = :id OR a.originator_conversation_id = :given OR a.conversation_id = :given
                         OR a.receipt = upper(:given)
                   UNION ALL SELECT u.subject_id FROM core_postings u WHERE u.state = 'undone' AND u.receipt = upper(:given)))
    ORDER BY (d.id = :id OR d.receipt = upper(:given)) DESC NULLS LAST, p.name, d.loan_id, d.tranche LIMIT :most
    """
)


async def find_payout(connection: AsyncConnection, given: str, *, partner: str | None = None) -> UUID:
    """The one disbursement that `given` means: its id, receipt, an instruction's id or M-Pesa's, the loan's number or id.

    Raises NotFound, and InvalidInput with the candidates if several are meant.
    """
    wanted = given.strip().removeprefix("disbursement ").strip()
    rows = (
        await connection.execute(
            _FIND,
            {
                "given": wanted,
                "id": _as_id(wanted),
                "number": int(wanted) if wanted.isdigit() and len(wanted) < 19 else None,  # noqa: PLR2004 - digits of a bigint
                "partner": partner,
                "most": _MOST,
            },
        )
    ).all()
    if not rows:
        where = "" if partner is None else f" of {partner}"
        raise NotFound(
            f"no disbursement{where} has {given!r} as its id, receipt, instruction or loan: `vault disbursements list`"
        )
    if len(rows) > 1 and rows[0].id != _as_id(wanted):
        several = "; ".join(
            f"{row.id} ({row.partner}, loan {row.loan_account_no}, tranche {row.tranche}, {row.state})" for row in rows
        )
        raise InvalidInput(f"{given!r} means several disbursements, name one by its id: {several}")
    return UUID(str(rows[0].id))


def _as_id(given: str) -> UUID | None:
    try:
        return UUID(given)
    except ValueError:
        return None
