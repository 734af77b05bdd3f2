"""Taking a partner in: what its Mifos X says is read first, then everything is written in one transaction, or nothing.

The one thing made outside before that transaction is the M-Pesa payment type in Mifos X, found again by its name at a repeat.
"""

from typing import Any

from sqlalchemy import JSON, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.clients.mifos import MifosClient
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput
from vault_core.partners.callback_urls import write_callback_tokens
from vault_core.partners.collection_settings import CollectionSettings, write_collection_settings
from vault_core.partners.contacts import write_contacts
from vault_core.partners.credentials import CredentialPurpose, write_credentials
from vault_core.partners.mifos_findings import MifosFindings, look_at_mifos
from vault_core.partners.partner import Partner, load_partner
from vault_core.partners.partner_file import PartnerFile
from vault_core.partners.products import write_products
from vault_core.partners.system_fees import FeeTerms, fee_columns, write_system_fees
from vault_core.runtime import Runtime

_INSERT = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_ca_pem, mifos_capabilities,
                          mifos_payment_type_id, mpesa_url, mpesa_initiator, b2c_short_code, c2b_short_code, b2c_command,
                          sms_url, sms_user, sms_sender, mpesa_fee_paid_by, b2c_tariff, c2b_bouquet,
                          c2b_fee_paid_by, low_balance_cents, next_poll_at, created_at)
    VALUES (:id, :name, :display_name, :mifos_url, :mifos_tenant, :mifos_user, :mifos_ca_pem, :mifos_capabilities,
            :mifos_payment_type_id, :mpesa_url, :mpesa_initiator, :b2c_short_code, :c2b_short_code, :b2c_command,
            :sms_url, :sms_user, :sms_sender, :mpesa_fee_paid_by, :b2c_tariff, :c2b_bouquet,
            :c2b_fee_paid_by, :low_balance_cents, :now, :now)
    """
).bindparams(bindparam("mifos_capabilities", type_=JSON))
_CAPABILITIES = text("UPDATE partners SET mifos_capabilities = :capabilities WHERE id = :id").bindparams(
    bindparam("capabilities", type_=JSON)
)
_TAKEN = text(
    """
    SELECT name, b2c_short_code, c2b_short_code FROM partners
    WHERE name = :name OR b2c_short_code = ANY(:codes) OR c2b_short_code = ANY(:codes) ORDER BY name = :name DESC, name
    """
)
# A short code must not be one partner's for paying and another's for collecting either, which no constraint can say.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('partner registration', 0))")


async def register_partner(runtime: Runtime, described: PartnerFile, *, actor: str) -> Partner:
    """Logs in to the partner's Mifos X, finds what it can do and which loan products it has, and writes the partner.

    No product is enabled yet. Audited. Raises Conflict if the name or a short code is taken, LoginRefused, NotUnderstood,
    RemoteRefusal or Unreachable with what to check if Mifos X cannot be used; then nothing is written.
    """
    if described.mifos.ca_file is not None and described.mifos.ca_pem is None:
        raise InvalidInput("[mifos] ca_file was not read: use load_partner_file")
    if described.mpesa.certificate is not None:
        raise InvalidInput("[mpesa] certificate was not read: use load_partner_file")
    async with runtime.engine.connect() as connection:
        await _refuse_taken(connection, described)
    found = await look_at_mifos(runtime, described)

    async def work(connection: AsyncConnection) -> Partner:
        await connection.execute(_ONE_AT_A_TIME)
        await _refuse_taken(connection, described)
        return await _write(connection, runtime, described, found, actor)

    return await in_transaction(runtime.engine, work)


async def renew_capabilities(runtime: Runtime, client: MifosClient, partner: Partner, *, actor: str) -> Partner:
    """Finds out anew what the partner's Mifos X can do and writes it. Audited if it changed. Raises what the client raises."""
    found = await client.probe()

    async def work(connection: AsyncConnection) -> Partner:
        before = await load_partner(connection, id=partner.id)
        if before.mifos_capabilities == found:
            return before
        await connection.execute(_CAPABILITIES, {"id": partner.id, "capabilities": found.to_json()})
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="partner.capabilities_renewed",
            subject=partner.name,
            partner_id=partner.id,
            before=before.mifos_capabilities.to_json(),
            after=found.to_json(),
        )
        return await load_partner(connection, id=partner.id)

    return await in_transaction(runtime.engine, work)


async def _refuse_taken(connection: AsyncConnection, described: PartnerFile) -> None:
    wanted = {"b2c_short_code": described.mpesa.b2c_short_code, "c2b_short_code": described.mpesa.c2b_short_code}
    rows = await connection.execute(_TAKEN, {"name": described.name, "codes": list(wanted.values())})
    for row in rows:
        if row.name == described.name:
            raise Conflict(
                f"there is a partner {row.name!r} already: see `vault partner show {row.name}`; "
                f"new credentials are set with `vault partner set-secret {row.name} PURPOSE`"
            )
        for key, code in wanted.items():
            if code in {row.b2c_short_code, row.c2b_short_code}:
                raise Conflict(f"[mpesa] {key} {code} belongs to partner {row.name!r}: a short code has one partner; check it")


async def _write(
    connection: AsyncConnection, runtime: Runtime, described: PartnerFile, found: MifosFindings, actor: str
) -> Partner:
    partner_id = runtime.new_id()
    row = {**_columns(described), "mifos_payment_type_id": found.payment_type_id}
    await connection.execute(
        _INSERT,
        {
            **row,
            "id": partner_id,
            "mifos_ca_pem": described.mifos.ca_pem,
            "mifos_capabilities": found.capabilities.to_json(),
            "now": runtime.clock.now(),
        },
    )
    await write_credentials(connection, runtime, partner_id, _secrets(described))
    await write_contacts(connection, runtime, partner_id, described.contacts)
    await write_callback_tokens(connection, runtime.sealer, partner_id)
    await write_products(connection, runtime, partner_id, found.products)
    if described.collections != CollectionSettings():
        await write_collection_settings(connection, partner_id, described.collections)
    fees = [*described.charges.system_fees, FeeTerms("sms", flat=described.sms.price)]
    await write_system_fees(
        connection,
        partner_id,
        [(runtime.new_id(), terms) for terms in fees],
        valid_from=business_day(runtime.clock.now()),
        actor=actor,
        now=runtime.clock.now(),
    )
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act="partner.added",
        subject=described.name,
        partner_id=partner_id,
        after={
            **row,
            "system_fees": [fee_columns(terms) for terms in fees],
            "collections": described.collections.to_json(),
            "contacts": len(described.contacts),
            "capabilities": found.capabilities.to_json(),
        },
    )
    return await load_partner(connection, id=partner_id)


def _columns(described: PartnerFile) -> dict[str, Any]:
    mifos, mpesa, sms, charges = described.mifos, described.mpesa, described.sms, described.charges
    return {
        "name": described.name,
        "display_name": described.display_name,
        "mifos_url": mifos.url,
        "mifos_tenant": mifos.tenant,
        "mifos_user": mifos.user,
        "mpesa_url": mpesa.url,
        "mpesa_initiator": mpesa.initiator,
        "b2c_short_code": mpesa.b2c_short_code,
        "c2b_short_code": mpesa.c2b_short_code,
        "b2c_command": mpesa.command,
        "sms_url": sms.url,
        "sms_user": sms.user,
        "sms_sender": sms.sender,
        "mpesa_fee_paid_by": charges.mpesa_fee_paid_by,
        "b2c_tariff": charges.b2c_tariff,
        "c2b_bouquet": charges.c2b_bouquet,
        "c2b_fee_paid_by": charges.c2b_fee_paid_by,
        "low_balance_cents": charges.low_balance.cents,
    }


def _secrets(described: PartnerFile) -> dict[CredentialPurpose, str]:
    return {
        CredentialPurpose.MIFOS_PASSWORD: described.mifos.password,
        CredentialPurpose.MPESA_CONSUMER_KEY: described.mpesa.consumer_key,
        CredentialPurpose.MPESA_CONSUMER_SECRET: described.mpesa.consumer_secret,
        CredentialPurpose.MPESA_SECURITY_CREDENTIAL: described.mpesa.security_credential,
        CredentialPurpose.SMS_API_KEY: described.sms.api_key,
    }
