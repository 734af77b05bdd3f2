"""The URLs on which M-Pesa, Mifos X and the SMS gateway reach us: one unguessable path a partner and purpose.

    {public_url}/i/{token}                our C2B URLs, results without a reference
    {public_url}/i/{token}/{reference}    `reference` is our own attempt id in hex: a queue time-out may carry no id at all
    {public_url}/i/{token}/               the Mifos X hook: its server refuses a URL without the final slash, and drops a
                                          query string (reference/fineract.md section 7)

Daraja refuses URLs that hold words such as mpesa, cmd, sql or query anywhere (reference/daraja.md section 8). None can stand in
`/i/` and hex digits; that `public_url` holds none is the installation's part, and `forbidden_words` finds them.
"""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.runtime import Runtime
from vault_core.secrets import Sealer

CALLBACK_GENERATION = 1  # a new number makes new tokens; the old ones stay valid until their rows are revoked

_DARAJA_FORBIDS = ("m-pesa", "mpesa", "safaricom", "exec", "exe", "cmd", "sql", "query")


class CallbackPurpose(StrEnum):
    """What a callback URL is for; as in the check of `callback_tokens.purpose`."""

    C2B_VALIDATION = "c2b_validation"
    C2B_CONFIRMATION = "c2b_confirmation"
    B2C_RESULT = "b2c_result"
    B2C_TIMEOUT = "b2c_timeout"
    STK_RESULT = "stk_result"
    QUERY_RESULT = "query_result"
    QUERY_TIMEOUT = "query_timeout"
    MIFOS_HOOK = "mifos_hook"
    SMS_REPORT = "sms_report"


_WRITE = text(
    """
    INSERT INTO callback_tokens (token_hash, partner_id, purpose, generation)
    VALUES (:token_hash, :partner_id, :purpose, :generation) ON CONFLICT (partner_id, purpose, generation) DO NOTHING
    """
)


def callback_token(sealer: Sealer, partner_id: UUID, purpose: str) -> str:
    """The path token (40 hex digits) of a partner and purpose. The same each time: it is derived, never stored."""
    return sealer.callback_token(f"{partner_id}:{CallbackPurpose(purpose)}:{CALLBACK_GENERATION}")


def own_id_in(path_reference: str | None) -> UUID | None:
    """The id of ours that a callback came with at the end of its URL, if that is what stands there."""
    try:
        return UUID(hex=path_reference) if path_reference else None
    except ValueError:
        return None


def callback_url(runtime: Runtime, partner_id: UUID, purpose: str, reference: str | None = None) -> str:
    """The URL to hand out for `purpose`, with our own `reference` at its end if given (hex, no slash)."""
    url = f"{runtime.public_url}/i/{callback_token(runtime.sealer, partner_id, purpose)}"
    if reference is not None:
        return f"{url}/{reference}"
    return f"{url}/" if purpose == CallbackPurpose.MIFOS_HOOK else url


def callback_urls(runtime: Runtime, partner_id: UUID) -> dict[str, str]:
    """All callback URLs of a partner, by purpose."""
    return {purpose.value: callback_url(runtime, partner_id, purpose) for purpose in CallbackPurpose}


def forbidden_words(url: str) -> list[str]:
    """The words in `url` for which Daraja would refuse it."""
    return [word for word in _DARAJA_FORBIDS if word in url.lower()]


async def write_callback_tokens(connection: AsyncConnection, sealer: Sealer, partner_id: UUID) -> None:
    """Writes the hashes of a partner's tokens for all purposes, by which the receiver knows them. Repeats do nothing."""
    await connection.execute(
        _WRITE,
        [
            {
                "token_hash": sealer.token_hash(callback_token(sealer, partner_id, purpose)),
                "partner_id": partner_id,
                "purpose": purpose.value,
                "generation": CALLBACK_GENERATION,
            }
            for purpose in CallbackPurpose
        ],
    )
