"""How personal data of a collection is kept: sealed, bound to its row, and found again by a keyed hash."""

from uuid import UUID

from vault_core.collections.incoming import Facts, clear_phone
from vault_core.collections.matching import normalise_reference
from vault_core.money import Money
from vault_core.secrets import Sealer


def reference_binding(collection_id: UUID) -> str:
    """What the sealed bill reference of a collection is bound to."""
    return _binding(collection_id, "bill_reference")


def reference_hash(sealer: Sealer, bill_reference: str) -> bytes:
    """By which payments under one reference are found, however it was typed."""
    return sealer.lookup_hash(normalise_reference(bill_reference), purpose="bill reference")


def phone_hash(sealer: Sealer, phone: str | None) -> bytes | None:
    """By which a payer is found. Only for a phone that came in clear: masked and hashed ones cannot be looked up."""
    clear = clear_phone(phone)
    return None if clear is None else sealer.lookup_hash(clear, purpose="phone")


def phone_told(sealer: Sealer, collection_id: UUID, sealed: bytes | None) -> str | None:
    """The payer's phone as it was told: in clear, masked or hashed."""
    return None if sealed is None else sealer.open_text(sealed, bound_to=_binding(collection_id, "payer_phone"))


def sealed_facts(sealer: Sealer, collection_id: UUID, facts: Facts) -> dict[str, bytes | int | None]:
    """The columns of `facts`, by their names in `collections`."""
    row = str(collection_id)

    def sealed(value: str | None, column: str) -> bytes | None:
        return None if value is None else sealer.seal(value, bound_to=_binding(row, column))

    return {
        "bill_reference_sealed": sealed(facts.bill_reference, "bill_reference"),
        "bill_reference_hash": reference_hash(sealer, facts.bill_reference),
        "payer_phone_sealed": sealed(facts.payer_phone, "payer_phone"),
        "payer_phone_hash": phone_hash(sealer, facts.payer_phone),
        "payer_name_sealed": sealed(facts.payer_name, "payer_name"),
        "org_balance_cents": None if facts.org_balance is None else facts.org_balance.cents,
    }


def opened_facts(
    sealer: Sealer, collection_id: UUID, reference: bytes, phone: bytes | None, name: bytes | None, balance_cents: int | None
) -> Facts:
    """The facts that a row holds, in clear. Raises SealBroken."""

    def opened(value: bytes | None, column: str) -> str | None:
        return None if value is None else sealer.open_text(value, bound_to=_binding(collection_id, column))

    return Facts(
        org_balance=None if balance_cents is None else Money(balance_cents),
        bill_reference=sealer.open_text(reference, bound_to=reference_binding(collection_id)),
        payer_phone=opened(phone, "payer_phone"),
        payer_name=opened(name, "payer_name"),
    )


def _binding(collection_id: UUID | str, column: str) -> str:
    return f"collections:{collection_id}:{column}"
