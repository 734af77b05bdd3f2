"""Answering M-Pesa's questions from local data, many in one transaction, and keeping each answer that was not a plain yes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja_messages import C2BConfirmation, parse_confirmation
from vault_core.collections.masking import mask_reference
from vault_core.collections.matching import match, normalise_reference, read_reference
from vault_core.collections.mirror import Freshness, ask_about, find_known, load_freshness
from vault_core.collections.validation import Verdict, judge_match, judge_question, unknown
from vault_core.errors import InvalidInput
from vault_core.partners.collection_settings import CollectionSettings, load_collection_settings
from vault_core.secrets import Sealer


@dataclass(frozen=True, slots=True)
class ValidatedPartner:
    """What is known of a partner before any question is asked."""

    id: UUID
    name: str
    short_code: str
    settings: CollectionSettings
    freshness: Freshness


@dataclass(frozen=True, slots=True)
class Validation:
    """One question. `asked` is None where the body could not be read; `verdict` where it is decided already."""

    event_id: UUID  # the delivery
    partner: ValidatedPartner
    at: datetime
    asked: C2BConfirmation | None = field(repr=False)
    verdict: Verdict | None = None


_LARGEST = 2**63 - 1  # what the column holds; beyond it nobody pays

_PARTNERS = text("SELECT id, name, c2b_short_code FROM partners")
_WITHIN = text("SELECT set_config('statement_timeout', :milliseconds, true)")
_KEEP = text(
    """
    INSERT INTO payment_validations (late, event_id, partner_id, at, decision, known, code, reason, short_code, receipt,
                                     amount_cents, reference_masked, reference_hash)
    SELECT :late, new.*
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partners AS uuid[]), CAST(:moments AS timestamptz[]), CAST(:decisions AS text[]),
                CAST(:known AS boolean[]), CAST(:codes AS text[]), CAST(:reasons AS text[]), CAST(:short_codes AS text[]),
                CAST(:receipts AS text[]), CAST(:amounts AS bigint[]), CAST(:masked AS text[]), CAST(:hashes AS bytea[])) AS new
    ON CONFLICT (event_id, late) DO NOTHING
    """
)


async def load_validated_partners(connection: AsyncConnection) -> dict[UUID, ValidatedPartner]:
    """All partners with their settings and the age of their mirrors."""
    rows = (await connection.execute(_PARTNERS)).all()
    ids = [row.id for row in rows]
    settings, freshness = await load_collection_settings(connection, ids), await load_freshness(connection, ids)
    return {row.id: ValidatedPartner(row.id, row.name, row.c2b_short_code, settings[row.id], freshness[row.id]) for row in rows}


def read_question(event_id: UUID, partner: ValidatedPartner, body: bytes, at: datetime) -> Validation:
    """The question in `body`, with its answer where the account does not matter. Never raises."""
    try:
        asked = parse_confirmation(body)
    except InvalidInput as error:
        return Validation(event_id, partner, at, None, unknown(str(error)[:200], partner.settings))
    return Validation(event_id, partner, at, asked, judge_question(asked, partner.short_code, partner.settings))


async def answer_questions(
    connection: AsyncConnection, sealer: Sealer, questions: Sequence[Validation], *, believed_for: timedelta, within: timedelta
) -> list[Verdict]:
    """The answers, in order, in the caller's transaction, which ends with an error if a statement takes longer than `within`.

    Reads the mirror and nothing else. An answer that is not a plain yes is kept in `payment_validations` before it is given.
    """
    await connection.execute(_WITHIN, {"milliseconds": str(max(1, int(within.total_seconds() * 1000)))})
    verdicts = await _look(connection, sealer, questions, believed_for)
    await keep_answers(connection, sealer, list(zip(questions, verdicts, strict=True)), late=False)
    return verdicts


async def keep_answers(
    connection: AsyncConnection, sealer: Sealer, answers: Sequence[tuple[Validation, Verdict]], *, late: bool
) -> None:
    """Keeps those answers that are not plain, in the caller's transaction. Repeats do nothing.

    `late`: they were given without waiting for the database, which may have kept another answer that nobody was told.
    """
    kept = [_row(sealer, one, verdict) for one, verdict in answers if not verdict.plain]
    if kept:
        await connection.execute(_KEEP, {name: [row[name] for row in kept] for name in kept[0]} | {"late": late})


async def _look(
    connection: AsyncConnection, sealer: Sealer, questions: Sequence[Validation], believed_for: timedelta
) -> list[Verdict]:
    asking = [
        (n, one, read_reference(one.asked.bill_reference, one.partner.settings))
        for n, one in enumerate(questions)
        if one.verdict is None and one.asked is not None
    ]
    about = [
        ask_about(sealer, one.partner.id, one.asked.bill_reference, reference)
        for _, one, reference in asking
        if one.asked is not None
    ]
    known = await find_known(connection, about) if about else []
    verdicts = {n: one.verdict for n, one in enumerate(questions) if one.verdict is not None}
    for (n, one, reference), question, accounts in zip(asking, about, known, strict=True):
        found = match(reference, accounts, one.partner.settings, phone_hash=question.phone_hash)
        believed = one.partner.freshness.holds(one.at, believed_for)
        verdicts[n] = judge_match(found, one.partner.settings, believed=believed)
    return [verdicts[n] for n in range(len(questions))]


def _row(sealer: Sealer, one: Validation, verdict: Verdict) -> dict[str, Any]:
    asked = one.asked
    reference = None if asked is None else asked.bill_reference
    return {
        "ids": one.event_id,
        "partners": one.partner.id,
        "moments": one.at,
        "decisions": "refused" if verdict.refused else "accepted",
        "known": verdict.known,
        "codes": verdict.code.value,
        "reasons": verdict.reason[:500],
        "short_codes": None if asked is None else asked.short_code,
        "receipts": None if asked is None else asked.receipt,
        "amounts": None if asked is None or asked.amount.cents > _LARGEST else asked.amount.cents,
        "masked": None if reference is None else mask_reference(reference),
        "hashes": None if reference is None else sealer.lookup_hash(normalise_reference(reference), purpose="bill reference"),
    }
