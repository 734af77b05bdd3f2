"""The clients of each partner's outside systems, with its credentials opened.

What was read is kept for half a minute, so that a changed password, URL or state is in use soon after, without a restart.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from vault_core.clients.airtouch import AirTouchClient, AirTouchLogin
from vault_core.clients.daraja import DarajaClient
from vault_core.clients.daraja_values import DarajaLogin
from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import MifosLogin
from vault_core.clients.sms_gateway import SmsGateway
from vault_core.partners.access_token import AccessTokens
from vault_core.partners.credentials import CredentialPurpose, Credentials, open_credentials
from vault_core.partners.partner import Partner, load_partner
from vault_core.runtime import Runtime

_KEPT_FOR = timedelta(seconds=30)
_DATE_KEPT_FOR = timedelta(seconds=5)  # less than a posting may wait for its turn


@dataclass(frozen=True, slots=True)
class _Logins:
    """What the clients are made of: while it stays equal, the clients (and their open connections) stay too."""

    mifos: MifosLogin
    daraja: DarajaLogin
    airtouch: AirTouchLogin


@dataclass(frozen=True, slots=True)
class _Opened:
    partner: Partner
    logins: _Logins
    mifos: MifosClient
    daraja: DarajaClient
    sms: SmsGateway
    fresh_until: datetime


class Connections:
    """One a process, on its runtime. All methods raise NotFound for an unknown partner and SealBroken for a wrong master key."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._opened: dict[UUID, _Opened] = {}
        self._retired: list[MifosClient] = []  # replaced while calls may be under way on them; closed at the end
        self._locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._business_dates: dict[UUID, tuple[date | None, datetime]] = {}
        at_once = max(1, runtime.pace.mifos_writes_at_once)
        self._writes: defaultdict[UUID, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))

    async def partner(self, partner_id: UUID) -> Partner:
        """The partner, at most half a minute old."""
        return (await self._open(partner_id)).partner

    async def mifos(self, partner_id: UUID) -> MifosClient:
        """The client of the partner's Mifos X."""
        return (await self._open(partner_id)).mifos

    async def business_date(self, partner_id: UUID) -> date | None:
        """The business date of the partner's Mifos X, or None if it keeps none, read at most some seconds ago."""
        read = self._business_dates.get(partner_id)
        if read is not None and self._runtime.clock.now() < read[1]:
            return read[0]
        today = await (await self.mifos(partner_id)).business_date()
        self._business_dates[partner_id] = (today, self._runtime.clock.now() + _DATE_KEPT_FOR)
        return today

    def mifos_writes(self, partner_id: UUID) -> asyncio.Semaphore:
        """Whose turn it is to write to the partner's Mifos X: one for all that this process does side by side."""
        return self._writes[partner_id]

    async def daraja(self, partner_id: UUID) -> DarajaClient:
        """The client of M-Pesa with the partner's app, sharing its token with all processes."""
        return (await self._open(partner_id)).daraja

    async def sms(self, partner_id: UUID) -> SmsGateway:
        """The partner's SMS gateway."""
        return (await self._open(partner_id)).sms

    async def aclose(self) -> None:
        """Closes the connections that clients made for themselves (custom CA)."""
        clients = [*self._retired, *(opened.mifos for opened in self._opened.values())]
        self._retired.clear()
        self._opened.clear()
        for client in clients:
            await client.aclose()

    def forget(self, partner_id: UUID) -> None:
        """Makes the next call read the partner anew. For the process that has just changed it."""
        self._business_dates.pop(partner_id, None)
        opened = self._opened.pop(partner_id, None)
        if opened is not None:
            self._retired.append(opened.mifos)

    async def _open(self, partner_id: UUID) -> _Opened:
        opened = self._opened.get(partner_id)
        if opened is not None and self._runtime.clock.now() < opened.fresh_until:
            return opened
        async with self._locks[partner_id]:
            before = self._opened.get(partner_id)
            if before is not None and self._runtime.clock.now() < before.fresh_until:
                return before
            async with self._runtime.engine.connect() as connection:
                partner = await load_partner(connection, id=partner_id)
                credentials = await open_credentials(connection, self._runtime, partner_id)
            opened = self._renewed(partner, _logins(partner, credentials), before)
            self._opened[partner_id] = opened
            return opened

    def _renewed(self, partner: Partner, logins: _Logins, before: _Opened | None) -> _Opened:
        fresh_until = self._runtime.clock.now() + _KEPT_FOR
        if before is not None and before.logins == logins:
            return _Opened(partner, logins, before.mifos, before.daraja, before.sms, fresh_until)
        if before is not None:
            self._retired.append(before.mifos)
        http = self._runtime.http
        return _Opened(
            partner,
            logins,
            MifosClient(logins.mifos, http, write_timeout=self._runtime.pace.mifos_write_timeout),
            DarajaClient(logins.daraja, http, AccessTokens(self._runtime, partner.id), timeout=self._runtime.pace.http_timeout),
            AirTouchClient(logins.airtouch, http),
            fresh_until,
        )


def _logins(partner: Partner, credentials: Credentials) -> _Logins:
    return _Logins(
        mifos=MifosLogin(
            url=partner.mifos_url,
            tenant=partner.mifos_tenant,
            user=partner.mifos_user,
            password=credentials.secret(CredentialPurpose.MIFOS_PASSWORD),
            ca_pem=partner.mifos_ca_pem,
        ),
        daraja=DarajaLogin(
            url=partner.mpesa_url,
            consumer_key=credentials.secret(CredentialPurpose.MPESA_CONSUMER_KEY),
            consumer_secret=credentials.secret(CredentialPurpose.MPESA_CONSUMER_SECRET),
            initiator=partner.mpesa_initiator,
            security_credential=credentials.secret(CredentialPurpose.MPESA_SECURITY_CREDENTIAL),
            passkey=credentials.find(CredentialPurpose.MPESA_PASSKEY),
        ),
        airtouch=AirTouchLogin(
            url=partner.sms_url,
            user=partner.sms_user,
            api_key=credentials.secret(CredentialPurpose.SMS_API_KEY),
        ),
    )
