"""The people of a partner who are texted. Names and phones are sealed; a phone is found again by its keyed hash."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.phones import mask_phone
from vault_core.runtime import Runtime

ContactRole = Literal["operations", "finance"]


@dataclass(frozen=True, slots=True)
class Contact:
    """One person. `phone` is normalised (2547.. or 2541..). The repr shows neither name nor phone."""

    role: ContactRole
    name: str = field(repr=False)
    phone: str = field(repr=False)

    @property
    def masked_phone(self) -> str:
        """The phone as it may stand on a screen."""
        return mask_phone(self.phone)

    @property
    def masked_name(self) -> str:
        """The name as it may stand on a screen: initials."""
        return " ".join(f"{word[0]}." for word in self.name.split())


_WRITE = text(
    """
    INSERT INTO partner_contacts (partner_id, role, name_sealed, phone_sealed, phone_hash)
    VALUES (:partner_id, :role, :name_sealed, :phone_sealed, :phone_hash)
    """
)
_READ = text(
    """
    SELECT role, name_sealed, phone_sealed, phone_hash FROM partner_contacts
    WHERE partner_id = :partner_id ORDER BY role DESC, phone_hash
    """
)


async def write_contacts(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, contacts: Sequence[Contact]) -> None:
    """Writes a new partner's contacts, sealed, in the caller's transaction."""
    rows = []
    for contact in contacts:
        phone_hash = runtime.sealer.lookup_hash(contact.phone, purpose="phone")
        row_id = _row_id(partner_id, contact.role, phone_hash)
        rows.append(
            {
                "partner_id": partner_id,
                "role": contact.role,
                "name_sealed": runtime.sealer.seal(contact.name, bound_to=f"{row_id}:name_sealed"),
                "phone_sealed": runtime.sealer.seal(contact.phone, bound_to=f"{row_id}:phone_sealed"),
                "phone_hash": phone_hash,
            }
        )
    if rows:
        await connection.execute(_WRITE, rows)


async def contacts_of(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> list[Contact]:
    """The partner's contacts, opened: operations first, in a stable order. Raises SealBroken."""
    contacts = []
    for row in await connection.execute(_READ, {"partner_id": partner_id}):
        row_id = _row_id(partner_id, row.role, row.phone_hash)
        contacts.append(
            Contact(
                role=row.role,
                name=runtime.sealer.open_text(row.name_sealed, bound_to=f"{row_id}:name_sealed"),
                phone=runtime.sealer.open_text(row.phone_sealed, bound_to=f"{row_id}:phone_sealed"),
            )
        )
    return contacts


def _row_id(partner_id: UUID, role: str, phone_hash: bytes) -> str:
    return f"partner_contacts:{partner_id}/{role}/{bytes(phone_hash).hex()}"
