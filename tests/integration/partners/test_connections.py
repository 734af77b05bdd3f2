"""Clients with opened credentials, kept for half a minute."""

import asyncio
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from vault_core.clients.mifos import MifosClient
from vault_core.clients.mifos_values import MifosLogin
from vault_core.errors import LoginRefused, NotFound, SealBroken, Unreachable
from vault_core.partners.connections import Connections
from vault_core.partners.credentials import CredentialPurpose, replace_credential
from vault_core.partners.mifos_findings import explained
from vault_core.partners.registration import register_partner
from vault_core.partners.states import pause_partner


@pytest.fixture
async def partner(runtime, described):
    return await register_partner(runtime, described, actor="a")


@pytest.fixture
async def connections(runtime):
    made = Connections(runtime)
    yield made
    await made.aclose()


async def test_the_clients_log_in_with_the_sealed_credentials(partner, connections):
    await (await connections.mifos(partner.id)).log_in()
    assert (await (await connections.daraja(partner.id)).fetch_token())[0] == "planted-access-token-1"


async def test_a_new_password_is_used_within_half_a_minute(runtime, partner, connections, outside, clock):
    before = await connections.mifos(partner.id)
    outside.password = "planted-new-password"
    await replace_credential(runtime, partner.id, CredentialPurpose.MIFOS_PASSWORD, "planted-new-password", actor="a")
    assert await connections.mifos(partner.id) is before
    with pytest.raises(LoginRefused):
        await before.log_in()
    clock.pass_time(seconds=31)
    await (await connections.mifos(partner.id)).log_in()


async def test_clients_stay_while_nothing_changed(partner, connections, clock):
    before = (await connections.mifos(partner.id), await connections.daraja(partner.id))
    clock.pass_time(seconds=31)
    assert (await connections.mifos(partner.id), await connections.daraja(partner.id)) == before


async def test_a_pause_is_seen_within_half_a_minute_or_at_once_by_who_made_it(runtime, partner, connections, clock):
    assert (await connections.partner(partner.id)).is_active
    await pause_partner(runtime, partner.id, reason="audit", actor="a")
    assert (await connections.partner(partner.id)).is_active
    clock.pass_time(seconds=31)
    assert not (await connections.partner(partner.id)).is_active
    connections.forget(partner.id)
    assert (await connections.partner(partner.id)).state_reason == "audit"


async def test_many_tasks_share_one_client(partner, connections):
    assert len({id(client) for client in await asyncio.gather(*(connections.mifos(partner.id) for _ in range(20)))}) == 1


async def test_an_unknown_partner_is_not_found(runtime, connections):
    with pytest.raises(NotFound):
        await connections.mifos(runtime.new_id())


async def test_a_secret_moved_to_another_row_does_not_open(runtime, partner, connections):
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE partner_credentials SET sealed = (SELECT sealed FROM partner_credentials WHERE purpose = 'sms_api_key') "
                "WHERE purpose = 'mifos_password'"
            )
        )
    with pytest.raises(SealBroken, match=r"partner_credentials:.*:mifos_password does not open"):
        await connections.mifos(partner.id)


async def test_a_missing_secret_says_how_to_set_it(runtime, partner, connections):
    async with runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM partner_credentials WHERE purpose = 'sms_api_key'"))
    with pytest.raises(NotFound, match="vault partner set-secret NAME sms_api_key"):
        await connections.sms(partner.id)


async def test_a_new_consumer_key_drops_the_token_of_the_old_app(runtime, partner, connections, clock):
    daraja = await connections.daraja(partner.id)
    await daraja.register_c2b_urls("600001", "http://a/", "http://b/")
    await replace_credential(runtime, partner.id, CredentialPurpose.MPESA_CONSUMER_KEY, "planted-other-key", actor="a")
    async with runtime.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM access_tokens"))).scalar_one() == 0
    clock.pass_time(seconds=31)
    assert await connections.daraja(partner.id) is not daraja


@pytest.fixture
def tls_host(tmp_path):
    """An HTTPS server of 127.0.0.1 that answers [] and whose certificate only its own authority vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "cert.pem").write_bytes(pem)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_) -> None:
            """A refused handshake is what the test wants."""

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/fineract-provider/api/v1", pem.decode()
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_server_of_an_own_authority_needs_the_ca_file_and_works_with_it(runtime, tls_host):
    url, pem = tls_host
    login = MifosLogin(url=url, tenant="default", user="u", password="p", ca_pem=None)
    without = MifosClient(login, runtime.http, write_timeout=5)
    with pytest.raises(Unreachable) as caught:
        await without.log_in()
    assert "[mifos] ca_file" in str(explained(caught.value, login))
    own = MifosClient(MifosLogin(url=url, tenant="default", user="u", password="p", ca_pem=pem), runtime.http, write_timeout=5)
    try:
        await own.log_in()
    finally:
        await own.aclose()
