"""What a partner's Mifos X says at the log-in, and what a failure there means for whoever gave the login."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import LoanProduct, MifosCapabilities, MifosLogin, PaymentType
from vault_core.errors import (
    Conflict,
    LoginRefused,
    NotUnderstood,
    RemoteBusy,
    RemoteRefusal,
    Unreachable,
    VaultError,
)
from vault_core.partners.partner import Partner
from vault_core.partners.partner_file import PartnerFile
from vault_core.runtime import Runtime

PAYMENT_TYPE_NAME = "M-Pesa"


@dataclass(frozen=True, slots=True)
class MifosFindings:
    """What a partner's Mifos X said at the log-in."""

    capabilities: MifosCapabilities
    products: list[LoanProduct]
    payment_type_id: int


async def look_at_mifos(runtime: Runtime, described: PartnerFile) -> MifosFindings:
    """Logs in and asks. Raises as `register_partner`, in words for the person who wrote the file."""
    mifos = described.mifos
    login = MifosLogin(url=mifos.url, tenant=mifos.tenant, user=mifos.user, password=mifos.password, ca_pem=mifos.ca_pem)
    client = MifosClient(login, runtime.http, write_timeout=runtime.pace.mifos_write_timeout)
    try:
        await client.log_in()
        capabilities = await client.probe()
        products = await client.loan_products()
        payment_type_id = await _payment_type(client, login)
    except VaultError as error:
        raise explained(error, login) from error
    finally:
        await client.aclose()
    return MifosFindings(capabilities=capabilities, products=products, payment_type_id=payment_type_id)


async def check_mifos_password(runtime: Runtime, partner: Partner, password: str) -> None:
    """Logs in to the partner's Mifos X with `password`. Raises as `register_partner` if that fails; changes nothing."""
    login = MifosLogin(
        url=partner.mifos_url,
        tenant=partner.mifos_tenant,
        user=partner.mifos_user,
        password=password,
        ca_pem=partner.mifos_ca_pem,
    )
    client = MifosClient(login, runtime.http, write_timeout=runtime.pace.mifos_write_timeout)
    try:
        await client.log_in()
    except VaultError as error:
        raise explained(error, login) from error
    finally:
        await client.aclose()


def explained(error: VaultError, login: MifosLogin) -> VaultError:
    """The same kind of error with what it means for whoever gave this login, and what to do. Holds no secret."""
    at = f"Mifos X at {login.url}"
    seen = f"({str(error).removeprefix(f'{at}: ').rstrip('.?')})"
    if isinstance(error, LoginRefused):
        check = (
            f"Check [mifos] tenant: {login.tenant!r} must be the tenant's identifier there"
            if error.code == "tenant"
            else f"Check [mifos] user {login.user!r} and its password"
        )
        return LoginRefused(f"{at} refused the login {seen}. {check}", code=error.code, status=error.status)
    if isinstance(error, NotUnderstood):
        return NotUnderstood(
            f"{at} did not answer as a Mifos X API does {seen}. Check [mifos] url: it must lead to the API "
            "(https://HOST/fineract-provider/api/v1), not to the web app or a proxy's page",
            code=error.code,
            status=error.status,
        )
    if isinstance(error, RemoteRefusal):
        return RemoteRefusal(
            f"{at} refused what Payment Vault needs {seen}. Check the permissions of user {login.user!r} (docs/partners.md)",
            code=error.code,
            status=error.status,
        )
    if isinstance(error, RemoteBusy):
        return RemoteBusy(f"{at} could not answer now {seen}. Nothing was written: try again later")
    if isinstance(error, Unreachable):
        return Unreachable(f"{at} cannot be reached {seen}. {_advice(str(error))}")
    return error


def is_mpesa_name(name: str) -> bool:
    """Whether a payment type of this name is M-Pesa, however it is spelt (M-PESA, Mpesa, M Pesa)."""
    return re.sub(r"[^a-z]", "", name.casefold()) == "mpesa"


def choose_payment_type(types: Sequence[PaymentType]) -> int | None:
    """The id of the M-Pesa payment type to post with; None if there is none.

    Raises Conflict if the only one is a cash type: Mifos X would then ask for an open teller at each disbursement
    (reference/fineract.md section 8).
    """
    named = sorted((each for each in types if is_mpesa_name(each.name)), key=lambda each: each.id)
    for each in named:
        if not each.is_cash:
            return each.id
    if named:
        raise Conflict(
            f"payment type {named[0].name!r} in Mifos X is marked as a cash payment, which makes it ask for an open teller: "
            "take the mark off there (Admin, Organization, Payment type), then run this again"
        )
    return None


async def _payment_type(client: MifosClient, login: MifosLogin) -> int:
    chosen = choose_payment_type(await client.payment_types())
    if chosen is not None:
        return chosen
    try:
        return await client.create_payment_type(PAYMENT_TYPE_NAME)
    except RemoteRefusal as error:
        raise RemoteRefusal(
            f"there is no payment type {PAYMENT_TYPE_NAME!r} and user {login.user!r} could not make it ({error}): "
            f"make one there that is not cash, or give the user CREATE_PAYMENTTYPE",
            code=error.code,
            status=error.status,
        ) from error


def _advice(cause: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        return (
            "Its certificate is not trusted: if it is the right server, name the PEM file of the authority that signed it with "
            "[mifos] ca_file, and check the host name in [mifos] url"
        )
    if "SSL" in cause:
        return "It does not speak TLS there: check the port in [mifos] url, and whether it is http instead of https"
    return "Check [mifos] url (host and port), and that the server is up"
