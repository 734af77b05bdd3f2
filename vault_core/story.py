"""What a story is made of, and the parts that the stories of payouts and of payments have in common: books, texts, cases.

The tellers are pure: rows in, events out. The readers give them their rows, with phones masked and nothing sealed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.money import Money
from vault_core.notifications.messages import phone_binding
from vault_core.phones import mask_phone
from vault_core.runtime import Runtime

Rows = Sequence[Mapping[str, Any]]

US, MPESA, CORE = "vault", "M-Pesa", "Mifos X"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: when, by whom, what, in one sentence, with the references that prove it."""

    at: datetime
    who: str
    what: str
    refs: Mapping[str, str] = field(default_factory=dict)


_TRANSACTIONS = text(
    """
    SELECT t.id, t.kind, t.reference, t.reverses, t.effective_at, t.booked_at,
           jsonb_agg(jsonb_build_object('account', a.code, 'cents', e.amount_cents) ORDER BY e.leg) AS legs
    FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id JOIN ledger_accounts a ON a.id = e.account_id
    WHERE t.partner_id = :partner_id AND t.reference = ANY(:references) GROUP BY t.id ORDER BY t.booked_at, t.id
    """
)
_MESSAGES = text(
    """
    SELECT m.id, m.template, m.state, m.created_at, m.accepted_at, m.reason, m.parts, m.phone_sealed,
           (SELECT jsonb_agg(jsonb_build_object('number', t.number, 'state', t.state, 'answer', t.answer) ORDER BY t.number)
            FROM message_attempts t WHERE t.message_id = m.id) AS tries
    FROM messages m
    WHERE m.partner_id = :partner_id AND m.created_at >= :since AND m.business_key ^@ ANY(:begins)
    ORDER BY m.created_at, m.id
    """
)
_CASES = text(
    """
    SELECT kind, subject, opened_at, closed_at, resolution, evidence, owner FROM cases
    WHERE subject LIKE ANY(:subjects) ORDER BY opened_at
    """
)


async def read_transactions(connection: AsyncConnection, partner_id: UUID, references: Sequence[str]) -> Rows:
    """The partner's ledger transactions under any of `references`, each with its `legs`: [{account, cents}]."""
    rows = await connection.execute(_TRANSACTIONS, {"partner_id": partner_id, "references": list(references)})
    return [dict(row) for row in rows.mappings()]


async def read_messages(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, since: datetime, begins: Sequence[str]
) -> Rows:
    """The texts since then whose business key begins with one of `begins`, with their tries and a masked `phone`."""
    rows = await connection.execute(_MESSAGES, {"partner_id": partner_id, "since": since, "begins": list(begins)})
    messages = [dict(row) for row in rows.mappings()]
    for message in messages:
        sealed = message.pop("phone_sealed")
        message["phone"] = mask_phone(runtime.sealer.open_text(sealed, bound_to=phone_binding(message["id"])))
    return messages


async def read_cases(connection: AsyncConnection, subjects: Sequence[str]) -> Rows:
    """The cases, closed ones too, whose subject is LIKE one of `subjects`."""
    return [dict(row) for row in (await connection.execute(_CASES, {"subjects": list(subjects)})).mappings()]


def tell_transactions(rows: Rows) -> Iterator[Event]:
    """What the ledger booked."""
    for transaction in rows:
        legs = ", ".join(f"{leg['account']} {_signed(leg['cents'])}" for leg in transaction["legs"])
        refs = {"transaction": str(transaction["id"]), "reference": transaction["reference"]}
        if transaction["reverses"] is not None:
            refs["reverses"] = str(transaction["reverses"])
        yield Event(transaction["booked_at"], "ledger", f"{transaction['kind']}: {legs}", refs)


def tell_messages(rows: Rows) -> Iterator[Event]:
    """What was texted, and what the gateway made of it."""
    for message in rows:
        refs = {"message": str(message["id"])}
        to = f"text {message['template']} to {message['phone']}"
        yield Event(message["created_at"], US, f"{to} written, {message['parts']} part(s): {message['state']}", refs)
        if message["accepted_at"] is not None:
            yield Event(message["accepted_at"], "SMS gateway", f"took the {to}", refs)
        else:
            for attempt in message["tries"] or ():
                if attempt["answer"]:
                    yield Event(message["created_at"], "SMS gateway", f"{to}, try {attempt['number']}: {attempt['answer']}", refs)


def tell_cases(rows: Rows) -> Iterator[Event]:
    """What people had to see."""
    for case in rows:
        refs = {"subject": case["subject"]}
        told = case["evidence"]
        why = next((told[key] for key in ("cause", "why", "said", "reason", "last_answer", "refused") if told.get(key)), "")
        yield Event(case["opened_at"], US, f"case {case['kind']} opened{f': {why}' if why else ''}", refs)
        if case["closed_at"] is not None:
            yield Event(case["closed_at"], US, f"case {case['kind']} closed: {case['resolution']}", refs)


def _signed(cents: int) -> str:
    return f"debit {Money(cents)}" if cents > 0 else f"credit {Money(-cents)}"
