"""Writing what is to be told, in the transaction that decided it (DESIGN.md section 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clock import business_day
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.notifications.segments import parts
from vault_core.notifications.templates import DEFAULT_LANGUAGE, render
from vault_core.outbox.calls import SMS_TOPIC, NewCall, write_calls
from vault_core.partners.partner import Partner
from vault_core.partners.system_fees import SystemFee, load_system_fees, part_price
from vault_core.phones import mask_phone, normalise_phone
from vault_core.runtime import Runtime

MESSAGE_CALL = "message.send"


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A text to send. `business_key` names the business fact told and to whom: it is told once, ever.

    `values` are plain text, amounts as they shall be read (`str(Money)`); `phone` in any Kenyan spelling.
    """

    partner: Partner
    business_key: str  # 'disbursed:<disbursement>:client', 'receipt:<receipt>'; holds no phone and no name
    template: str
    phone: str = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    language: str = DEFAULT_LANGUAGE


_INSERT = text(
    """
    INSERT INTO messages (id, partner_id, business_key, template, phone_sealed, phone_hash, text_sealed, parts, price_cents,
                          system_fee_id, created_at)
    SELECT new.*, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:business_keys AS text[]), CAST(:templates AS text[]),
                CAST(:phones_sealed AS bytea[]), CAST(:phone_hashes AS bytea[]), CAST(:texts_sealed AS bytea[]),
                CAST(:parts AS integer[]), CAST(:prices AS bigint[]), CAST(:fees AS uuid[])) AS new
    ON CONFLICT (business_key) DO NOTHING
    RETURNING id
    """
)


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    message: NewMessage
    phone_sealed: bytes
    phone_hash: bytes
    text_sealed: bytes
    parts: int
    price_cents: int
    fee_id: UUID | None


async def write_messages(connection: AsyncConnection, runtime: Runtime, messages: Sequence[NewMessage]) -> list[UUID]:
    """Writes messages and the calls that send them, in the caller's transaction; returns the ids of those that are new.

    Priced by the partner's price a part today (in Nairobi). A repeat of a business key does nothing. A phone that is no Kenyan
    mobile number opens a case and is left out: a text must never undo the money it tells of. Raises InvalidInput for an unknown
    template or missing values.
    """
    fees = await load_system_fees(connection, sorted({message.partner.id for message in messages}))
    today = business_day(runtime.clock.now())
    rows: list[_Row] = []
    unreachable: list[NewCase] = []
    for message in messages:
        phone = _mobile(message.phone)
        if phone is None:
            unreachable.append(_no_phone_case(message))
        else:
            rows.append(_row(runtime, message, phone, part_price(fees[message.partner.id], today)))
    await open_cases(connection, runtime.clock, runtime.new_id, unreachable)
    if not rows:
        return []
    written = await connection.execute(_INSERT, {**_columns(rows), "now": runtime.clock.now()})
    new_ids = {row.id for row in written}
    new = [row for row in rows if row.id in new_ids]
    await write_calls(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCall(
                partner_id=row.message.partner.id,
                topic=SMS_TOPIC,
                kind=MESSAGE_CALL,
                subject=row.id,
                ordering_key=row.phone_hash.hex(),
            )
            for row in new
        ],
    )
    return [row.id for row in new]


def phone_binding(message_id: UUID) -> str:
    """What the sealed phone of a message is bound to."""
    return f"messages:{message_id}:phone"


def text_binding(message_id: UUID) -> str:
    """What the sealed text of a message is bound to."""
    return f"messages:{message_id}:text"


def _row(runtime: Runtime, message: NewMessage, phone: str, price: tuple[Money, SystemFee | None]) -> _Row:
    message_id = runtime.new_id()
    body = render(message.template, message.values, partner=message.partner.display_name, language=message.language)
    count = parts(body)
    a_part, rule = price
    return _Row(
        id=message_id,
        message=message,
        phone_sealed=runtime.sealer.seal(phone, bound_to=phone_binding(message_id)),
        phone_hash=runtime.sealer.lookup_hash(phone, purpose="phone"),
        text_sealed=runtime.sealer.seal(body, bound_to=text_binding(message_id)),
        parts=count,
        price_cents=(a_part * count).cents,
        fee_id=None if rule is None else rule.id,
    )


def _columns(rows: Sequence[_Row]) -> dict[str, object]:
    return {
        "ids": [row.id for row in rows],
        "partner_ids": [row.message.partner.id for row in rows],
        "business_keys": [row.message.business_key for row in rows],
        "templates": [row.message.template for row in rows],
        "phones_sealed": [row.phone_sealed for row in rows],
        "phone_hashes": [row.phone_hash for row in rows],
        "texts_sealed": [row.text_sealed for row in rows],
        "parts": [row.parts for row in rows],
        "prices": [row.price_cents for row in rows],
        "fees": [row.fee_id for row in rows],
    }


def _mobile(phone: str) -> str | None:
    try:
        return normalise_phone(phone)
    except InvalidInput:
        return None


def _no_phone_case(message: NewMessage) -> NewCase:
    return NewCase(
        kind="sms_bad_phone",
        subject=message.business_key,
        partner_id=message.partner.id,
        evidence={"template": message.template, "phone": mask_phone(message.phone)},
    )
