"""Charges of a disbursement: held before it is sent, captured when it is paid, released when it definitely failed.

What was quoted stands in `charge_lines` from the hold on, so that a tariff that changes overnight cannot change a quote. The hold
also reserves the SMS to come; texts are charged one by one when a gateway takes them, so that part is released with the capture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.disbursements.attempts import Attempt, again
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import Capture, HoldRequest, Short, capture_holds, place_holds, release_holds
from vault_core.ledger.posting import Leg, Posting
from vault_core.money import ZERO, Money
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime
from vault_core.wallets.charges import ChargeLine, ChargeQuote, charge_legs

_RESERVED = "sms"  # held, and charged when a gateway takes the text


@dataclass(frozen=True, slots=True)
class ToHold:
    """A disbursement about to be sent, with what it will cost (the quote's total includes the SMS reserve)."""

    disbursement_id: UUID
    quote: ChargeQuote
    taken_back: int = 0

    @property
    def key(self) -> str:
        """The hold's key. It holds again after a release, for the next instruction."""
        return f"charges:{self.disbursement_id}{again(self.taken_back)}"


@dataclass(frozen=True, slots=True)
class ToCapture:
    """A paid attempt, its receipt and when it was paid."""

    attempt: Attempt
    receipt: str
    paid_at: datetime


_FORGET = text(
    """
    DELETE FROM charge_lines WHERE subject_kind = 'disbursement' AND subject_id = ANY(:ids) AND charged_at IS NULL
    """
)
_WRITE = text(
    """
    INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, round, line, amount_cents, tariff_band_id, system_fee_id)
    SELECT line.id, :partner_id, 'disbursement', line.subject_id, line.round, line.name, line.amount, line.band, line.fee
    FROM unnest(CAST(:ids AS uuid[]), CAST(:subjects AS uuid[]), CAST(:rounds AS integer[]), CAST(:names AS text[]),
                CAST(:amounts AS bigint[]), CAST(:bands AS bigint[]), CAST(:fees AS uuid[]))
         AS line(id, subject_id, round, name, amount, band, fee)
    """
)
_READ = text(
    """
    SELECT subject_id, line, amount_cents FROM charge_lines
    WHERE subject_kind = 'disbursement' AND subject_id = ANY(:ids) AND charged_at IS NULL ORDER BY subject_id, line
    """
)
_CHARGED = text(
    """
    UPDATE charge_lines SET charged_at = coalesce(t.booked_at, :now), transaction_id = t.id
    FROM disbursements d
    LEFT JOIN ledger_holds h ON h.id = d.hold_id LEFT JOIN ledger_transactions t ON t.id = h.transaction_id
    WHERE subject_kind = 'disbursement' AND subject_id = d.id AND d.id = ANY(:ids) AND charged_at IS NULL
    """
)


async def hold_charges(
    connection: AsyncConnection, runtime: Runtime, partner: Partner, wanted: Sequence[ToHold]
) -> Mapping[UUID, UUID | Short | None]:
    """Holds the charges of each, in order, as long as the wallet covers them, and writes the quoted lines of those.

    Answers by disbursement: the hold's id, None if there is nothing to hold, or how short the wallet is.
    """
    wallet = AccountRef(partner.id, "wallet")
    requests = [HoldRequest(wallet, partner.id, ask.key, ask.quote.total) for ask in wanted if ask.quote.total]
    placed = await place_holds(connection, runtime, requests)
    result = {ask.disbursement_id: placed.get(ask.key) for ask in wanted}
    await _write_lines(
        connection, runtime, partner, [ask for ask in wanted if not isinstance(result[ask.disbursement_id], Short)]
    )
    return result


async def capture_charges(connection: AsyncConnection, runtime: Runtime, paid: Sequence[ToCapture]) -> dict[UUID, Money]:
    """Takes the quoted charges of each paid disbursement from its hold, and returns them by disbursement."""
    lines: dict[UUID, list[ChargeLine]] = {item.attempt.disbursement_id: [] for item in paid}
    for row in await connection.execute(_READ, {"ids": list(lines)}):
        lines[row.subject_id].append(ChargeLine(row.line, Money(row.amount_cents)))
    captures, nothing_to_take = [], []
    for item in paid:
        if item.attempt.hold_id is None:
            continue
        if legs := charge_legs(item.attempt.partner_id, lines[item.attempt.disbursement_id]):
            captures.append(Capture(item.attempt.hold_id, _charges(item, legs)))
        else:
            nothing_to_take.append(item.attempt.hold_id)
    await capture_holds(connection, runtime, captures)
    await release_holds(connection, runtime, nothing_to_take)
    await connection.execute(_CHARGED, {"ids": list(lines), "now": runtime.clock.now()})
    return {disbursement: sum((line.amount for line in charged), ZERO) for disbursement, charged in lines.items()}


async def release_charges(connection: AsyncConnection, runtime: Runtime, attempts: Sequence[Attempt]) -> None:
    """Gives back what was held for each; its quote is forgotten."""
    await release_holds(connection, runtime, [attempt.hold_id for attempt in attempts if attempt.hold_id is not None])
    await connection.execute(_FORGET, {"ids": [attempt.disbursement_id for attempt in attempts]})


def _charges(item: ToCapture, legs: tuple[Leg, ...]) -> Posting:
    attempt = item.attempt
    return Posting(
        partner_id=attempt.partner_id,
        kind="charges",
        key=f"charges:{attempt.disbursement_id}{attempt.again}",
        reference=item.receipt,
        effective_at=item.paid_at,
        legs=legs,
        description=f"charges of {attempt.loan}",
    )


async def _write_lines(connection: AsyncConnection, runtime: Runtime, partner: Partner, held: Sequence[ToHold]) -> None:
    rows = [(ask, line) for ask in held for line in ask.quote.lines if line.line != _RESERVED]
    if not held:
        return
    await connection.execute(_FORGET, {"ids": [ask.disbursement_id for ask in held]})
    if rows:
        await connection.execute(
            _WRITE,
            {
                "partner_id": partner.id,
                "ids": [runtime.new_id() for _ in rows],
                "subjects": [ask.disbursement_id for ask, _ in rows],
                "rounds": [ask.taken_back for ask, _ in rows],
                "names": [line.line for _, line in rows],
                "amounts": [line.amount.cents for _, line in rows],
                "bands": [line.tariff_band_id for _, line in rows],
                "fees": [line.system_fee_id for _, line in rows],
            },
        )
