"""The attempts at sending messages in the database: written before the gateway is called, resolved by its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_case, open_cases
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.notifications.messages import phone_binding, text_binding
from vault_core.notifications.verdicts import Verdict, interrupted
from vault_core.outbox.calls import Call, CallResult, Done, record_results
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one message, on disk and not yet made."""

    call: Call
    id: UUID
    message_id: UUID
    partner_id: UUID
    template: str
    price: Money
    phone: str = field(repr=False)
    text: str = field(repr=False)

    @property
    def reference(self) -> str:
        """Our sms_id: the same for every try of one message, so that gateway and reports speak of one message."""
        return self.message_id.hex


@dataclass(frozen=True, slots=True)
class Try:
    """A try and what follows from its answer."""

    call: Call
    attempt_id: UUID
    message_id: UUID
    partner_id: UUID
    template: str
    price: Money
    verdict: Verdict

    @classmethod
    def of(cls, attempt: Attempt, verdict: Verdict) -> "Try":
        """The try that `attempt` became."""
        return cls(attempt.call, attempt.id, attempt.message_id, attempt.partner_id, attempt.template, attempt.price, verdict)


_LOAD = text(
    """
    SELECT messages.id, messages.partner_id, template, phone_sealed, text_sealed, price_cents, messages.state,
           coalesce(past.number, 0) AS tries, past.id AS last_attempt, past.state AS last_state
    FROM messages
    LEFT JOIN LATERAL (SELECT id, number, state FROM message_attempts WHERE message_id = messages.id
                       ORDER BY number DESC LIMIT 1) AS past ON true
    WHERE messages.id = ANY(:ids) ORDER BY messages.id FOR UPDATE OF messages
    """
)
_WRITE = text(
    """
    INSERT INTO message_attempts (id, partner_id, message_id, number, gateway, our_reference, state, written_at)
    SELECT new.id, new.partner_id, new.message_id, new.number, 'airtouch', new.reference, 'written', :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:message_ids AS uuid[]), CAST(:numbers AS integer[]),
                CAST(:references AS text[])) AS new(id, partner_id, message_id, number, reference)
    """
)
_LOCK = text("SELECT id, state FROM messages WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_ANSWERED = text(
    """
    UPDATE message_attempts SET state = told.state, answered_at = :now, answer = told.answer,
           gateway_reference = told.gateway_reference
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:answers AS text[]), CAST(:references AS text[]))
         AS told(id, state, answer, gateway_reference)
    WHERE message_attempts.id = told.id AND message_attempts.state IN ('written', 'unknown')
    """
)
_MESSAGES = text(
    """
    UPDATE messages SET state = told.state, reason = told.reason,
           accepted_at = CASE WHEN told.state = 'accepted' THEN :now ELSE accepted_at END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[])) AS told(id, state, reason)
    WHERE messages.id = told.id AND messages.state IN ('queued', 'unknown')
    """
)
_CHARGED = text(
    """
    INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, system_fee_id, charged_at,
                              transaction_id)
    SELECT new.id, new.partner_id, 'message', new.message_id, 'sms', new.amount_cents, messages.system_fee_id, :now,
           new.transaction_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:message_ids AS uuid[]), CAST(:amounts AS bigint[]),
                CAST(:transaction_ids AS uuid[])) AS new(id, partner_id, message_id, amount_cents, transaction_id)
    JOIN messages ON messages.id = new.message_id
    ON CONFLICT (subject_kind, subject_id, round, line) DO NOTHING
    """
)


async def write_attempts(connection: AsyncConnection, runtime: Runtime, calls: Sequence[Call]) -> list[Attempt]:
    """Writes an attempt for each message that may be sent now, and returns them; commit before sending.

    A message that is settled has its call ended. One whose last attempt has no answer on record becomes Unknown, with a case.
    """
    rows = {row.id: row for row in await connection.execute(_LOAD, {"ids": [call.subject for call in calls]})}
    settled: dict[Call, CallResult] = {}
    cut_off: list[Try] = []
    attempts: list[Attempt] = []
    numbers: list[int] = []
    for call in calls:
        row = rows[call.subject]
        if row.state != "queued":
            settled[call] = Done()
        elif row.last_state in ("written", "unknown"):
            price = Money(row.price_cents)
            cut_off.append(Try(call, row.last_attempt, row.id, row.partner_id, row.template, price, interrupted()))
        else:
            attempts.append(
                Attempt(
                    call=call,
                    id=runtime.new_id(),
                    message_id=row.id,
                    partner_id=row.partner_id,
                    template=row.template,
                    price=Money(row.price_cents),
                    phone=runtime.sealer.open_text(row.phone_sealed, bound_to=phone_binding(row.id)),
                    text=runtime.sealer.open_text(row.text_sealed, bound_to=text_binding(row.id)),
                )
            )
            numbers.append(row.tries + 1)
    if attempts:
        await connection.execute(
            _WRITE,
            {
                "ids": [attempt.id for attempt in attempts],
                "partner_ids": [attempt.partner_id for attempt in attempts],
                "message_ids": [attempt.message_id for attempt in attempts],
                "numbers": numbers,
                "references": [attempt.reference for attempt in attempts],
                "now": runtime.clock.now(),
            },
        )
    await record_results(connection, runtime, settled)
    await record_tries(connection, runtime, cut_off)
    return attempts


async def record_tries(connection: AsyncConnection, runtime: Runtime, tries: Sequence[Try]) -> None:
    """Records answers and everything that follows: states, charge, cases, the calls. An accepted message stays so.

    An answer that comes after its attempt was taken for Unknown resolves it and closes the case.
    """
    if not tries:
        return
    now = runtime.clock.now()
    before = {row.id: row.state for row in await connection.execute(_LOCK, {"ids": [one.message_id for one in tries]})}
    open_tries = [one for one in tries if before[one.message_id] in ("queued", "unknown")]
    await connection.execute(
        _ANSWERED,
        {
            "ids": [one.attempt_id for one in tries],
            "states": [one.verdict.attempt_state for one in tries],
            "answers": [one.verdict.answer[:500] for one in tries],
            "references": [one.verdict.gateway_reference for one in tries],
            "now": now,
        },
    )
    await connection.execute(
        _MESSAGES,
        {
            "ids": [one.message_id for one in tries],
            "states": [one.verdict.message_state for one in tries],
            "reasons": [None if one.verdict.message_state == "accepted" else one.verdict.answer[:500] for one in tries],
            "now": now,
        },
    )
    await _charge(connection, runtime, [one for one in open_tries if one.verdict.message_state == "accepted"])
    await _tell_people(connection, runtime, open_tries, before)
    await record_results(connection, runtime, {one.call: one.verdict.call for one in tries})


async def _charge(connection: AsyncConnection, runtime: Runtime, accepted: Sequence[Try]) -> None:
    now = runtime.clock.now()
    paid_for = [one for one in accepted if one.price]  # a price of nothing has no entries, but keeps its charge line
    transactions = await post(
        connection,
        runtime,
        [
            Posting(
                partner_id=one.partner_id,
                kind="sms",
                key=f"sms:{one.message_id}",
                reference=str(one.message_id),
                effective_at=now,
                legs=(
                    Leg(AccountRef(one.partner_id, "wallet"), one.price.cents),
                    Leg(AccountRef(None, "fees:sms"), -one.price.cents),
                ),
                description=one.template,
            )
            for one in paid_for
        ],
    )
    transaction_of = {one.message_id: transaction for one, transaction in zip(paid_for, transactions, strict=True)}
    if accepted:
        await connection.execute(
            _CHARGED,
            {
                "ids": [runtime.new_id() for _ in accepted],
                "partner_ids": [one.partner_id for one in accepted],
                "message_ids": [one.message_id for one in accepted],
                "amounts": [one.price.cents for one in accepted],
                "transaction_ids": [transaction_of.get(one.message_id) for one in accepted],
                "now": now,
            },
        )


async def _tell_people(connection: AsyncConnection, runtime: Runtime, tries: Sequence[Try], before: dict[UUID, str]) -> None:
    for one in tries:
        if before[one.message_id] == "unknown" and one.verdict.message_state != "unknown":
            await close_case(
                connection,
                runtime.clock,
                kind="sms_unknown",
                subject=f"message {one.message_id}",
                resolution=f"the gateway's answer came late: {one.verdict.answer[:200]}",
            )
    cases = [
        NewCase(
            kind=one.verdict.case,
            subject=f"message {one.message_id}",
            partner_id=one.partner_id,
            amount=one.price,
            evidence={"template": one.template, "answer": one.verdict.answer[:500], "sms_id": one.message_id.hex},
        )
        for one in tries
        if one.verdict.case is not None
    ]
    halted = {one.partner_id: one for one in tries if one.verdict.gateway_case}
    for partner_id in {one.partner_id for one in tries if one.verdict.message_state == "accepted"} - halted.keys():
        await close_case(
            connection,
            runtime.clock,
            kind="sms_gateway_refuses",
            subject=f"partner {partner_id}",
            resolution="the gateway accepts the partner's texts again",
        )
    cases += [
        NewCase(
            kind="sms_gateway_refuses",
            subject=f"partner {partner_id}",
            partner_id=partner_id,
            evidence={"answer": one.verdict.answer[:500]},
        )
        for partner_id, one in halted.items()
    ]
    await open_cases(connection, runtime.clock, runtime.new_id, cases)
