"""A partner's secrets, sealed at rest and bound to their row (DESIGN.md section 9)."""

from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput, NotFound
from vault_core.runtime import Runtime


class CredentialPurpose(StrEnum):
    """What a secret is for; as in the check of `partner_credentials.purpose`."""

    MIFOS_PASSWORD = "mifos_password"  # noqa: S105 - the name of a secret, not one
    MPESA_CONSUMER_KEY = "mpesa_consumer_key"
    MPESA_CONSUMER_SECRET = "mpesa_consumer_secret"  # noqa: S105
    MPESA_SECURITY_CREDENTIAL = "mpesa_security_credential"
    MPESA_PASSKEY = "mpesa_passkey"
    SMS_API_KEY = "sms_api_key"
    HOOK_SECRET = "hook_secret"  # noqa: S105 - of those who sign their web hooks


class Credentials:
    """The opened secrets of one partner. Its repr shows which there are, never what they are."""

    __slots__ = ("_partner_id", "_secrets")

    def __init__(self, partner_id: UUID, secrets: Mapping[CredentialPurpose, str]) -> None:
        self._partner_id = partner_id
        self._secrets = dict(secrets)

    def __repr__(self) -> str:
        return f"Credentials(partner_id={self._partner_id}, purposes={sorted(self._secrets)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Credentials):
            return NotImplemented
        return (self._partner_id, self._secrets) == (other._partner_id, other._secrets)

    __hash__ = None  # type: ignore[assignment]  # a bag of secrets is no key

    def secret(self, purpose: CredentialPurpose) -> str:
        """The secret of that purpose. Raises NotFound, saying how to set it."""
        try:
            return self._secrets[purpose]
        except KeyError:
            raise NotFound(
                f"partner {self._partner_id} has no {purpose}: set it with `vault partner set-secret NAME {purpose}`"
            ) from None

    def find(self, purpose: CredentialPurpose) -> str | None:
        """The secret of that purpose, or None where a partner may go without it."""
        return self._secrets.get(purpose)


_WRITE = text(
    """
    INSERT INTO partner_credentials (partner_id, purpose, sealed, set_at) VALUES (:partner_id, :purpose, :sealed, :now)
    ON CONFLICT (partner_id, purpose) DO UPDATE SET sealed = excluded.sealed, set_at = excluded.set_at
    """
)
_REMOVE = text(
    """
    DELETE FROM partner_credentials USING partners
    WHERE partners.id = partner_id AND partner_id = :partner_id AND purpose = :purpose RETURNING partners.name
    """
)
_LOCK = text("SELECT name FROM partners WHERE id = :partner_id FOR NO KEY UPDATE")
_DROP_TOKEN = text("DELETE FROM access_tokens WHERE partner_id = :partner_id AND service = 'mpesa'")
_READ = text("SELECT purpose, sealed FROM partner_credentials WHERE partner_id = :partner_id")


async def write_credentials(
    connection: AsyncConnection, runtime: Runtime, partner_id: UUID, secrets: Mapping[CredentialPurpose, str]
) -> None:
    """Seals and writes secrets in the caller's transaction; each replaces the one of its purpose. The caller audits it."""
    if not secrets:
        return
    now = runtime.clock.now()
    await connection.execute(
        _WRITE,
        [
            {
                "partner_id": partner_id,
                "purpose": purpose.value,
                "sealed": runtime.sealer.seal(secret, bound_to=credential_binding(partner_id, purpose)),
                "now": now,
            }
            for purpose, secret in secrets.items()
        ],
    )


async def open_credentials(connection: AsyncConnection, runtime: Runtime, partner_id: UUID) -> Credentials:
    """The partner's secrets, opened. Raises SealBroken if the master key is another or a row was moved or damaged."""
    rows = await connection.execute(_READ, {"partner_id": partner_id})
    return Credentials(
        partner_id,
        {
            CredentialPurpose(row.purpose): runtime.sealer.open_text(
                row.sealed, bound_to=credential_binding(partner_id, row.purpose)
            )
            for row in rows
        },
    )


async def replace_credential(runtime: Runtime, partner_id: UUID, purpose: CredentialPurpose, secret: str, *, actor: str) -> None:
    """Puts a new secret in the place of the one of its purpose. Audited without the secret. Raises NotFound.

    Running processes use it within half a minute. A new M-Pesa consumer key or secret also drops the app's access token.
    """

    async def work(connection: AsyncConnection) -> None:
        name = (await connection.execute(_LOCK, {"partner_id": partner_id})).scalar_one_or_none()
        if name is None:
            raise NotFound(f"there is no partner {partner_id}")
        await write_credentials(connection, runtime, partner_id, {purpose: secret})
        if purpose in {CredentialPurpose.MPESA_CONSUMER_KEY, CredentialPurpose.MPESA_CONSUMER_SECRET}:
            await connection.execute(_DROP_TOKEN, {"partner_id": partner_id})
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="credential.replaced",
            subject=f"{name} {purpose}",
            partner_id=partner_id,
        )

    await in_transaction(runtime.engine, work)


async def remove_hook_secret(runtime: Runtime, partner_id: UUID, *, actor: str) -> bool:
    """Takes web hooks of the partner without a signature again; False if there was no secret. Audited.

    Alone among the secrets this one may be missing: the others are replaced, never removed.
    """

    async def work(connection: AsyncConnection) -> bool:
        gone = {"partner_id": partner_id, "purpose": CredentialPurpose.HOOK_SECRET.value}
        name = (await connection.execute(_REMOVE, gone)).scalar_one_or_none()
        if name is None:
            return False
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="credential.removed",
            subject=f"{name} {CredentialPurpose.HOOK_SECRET}",
            partner_id=partner_id,
        )
        return True

    return await in_transaction(runtime.engine, work)


def parse_purpose(name: str) -> CredentialPurpose:
    """The purpose of that name. Raises InvalidInput, listing the names."""
    try:
        return CredentialPurpose(name)
    except ValueError:
        raise InvalidInput(f"there is no credential {name[:40]!r}; credentials: {', '.join(CredentialPurpose)}") from None


def credential_binding(partner_id: UUID, purpose: str) -> str:
    """What the sealed secret of that purpose is bound to."""
    return f"partner_credentials:{partner_id}:{purpose}"
