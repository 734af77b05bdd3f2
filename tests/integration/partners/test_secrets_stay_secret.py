"""Plants secrets, names and phones, does with them all that partners do, and looks for them everywhere they could have leaked."""

import base64
import logging
import traceback
from dataclasses import replace

import pytest
import structlog
from sqlalchemy import create_engine, text

from vault_core.errors import ConfigurationError, LoginRefused, SealBroken, Unreachable, VaultError
from vault_core.money import Money
from vault_core.partners.callback_urls import callback_urls
from vault_core.partners.connections import Connections
from vault_core.partners.contacts import Contact, contacts_of
from vault_core.partners.credentials import CredentialPurpose, open_credentials, replace_credential
from vault_core.partners.description import describe_partner
from vault_core.partners.mifos_findings import check_mifos_password
from vault_core.partners.products import Limits, enable_product, refresh_products
from vault_core.partners.registration import register_partner
from vault_core.partners.states import pause_partner
from vault_core.partners.url_registration import ensure_mifos_hook, register_c2b_urls
from vault_core.secrets import Sealer, read_master_key_file

PLANTED = {
    "Mifos X password": "planted-mifos-password",
    "wrong Mifos X password": "planted-wrong-password",
    "consumer key": "planted-consumer-key",
    "consumer secret": "planted-consumer-secret",
    "new consumer secret": "planted-newer-consumer-secret",
    "security credential": "planted-security-credential==",
    "SMS key": "planted-sms-api-key",
    "access token": "planted-access-token-1",
    "contact": "Achieng Planted",
    "other contact": "Wanjiru Planted-Njeri",
    "phone": "712345678",
    "other phone": "110000099",
}


def forms_of(secret: str) -> set[bytes]:
    """The ways in which a leaked secret could look: as it is, in hex, in base64 at each of the three places in a group."""
    raw = secret.encode()
    forms = {raw, raw.hex().encode(), raw[::-1]}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        forms.add(encoded[4 if shift else 0 : len(encoded) - 4])  # without the groups that neighbours have a part in
    return forms


def leaks(content: bytes, planted: dict[str, str]) -> list[str]:
    lowered = content.lower()
    return [name for name, secret in planted.items() if any(form.lower() in lowered for form in forms_of(secret))]


def dump(owner_url: str) -> bytes:
    """Every row of every table as text, as COPY prints it, and every binary column once more as its bytes."""
    engine = create_engine(owner_url)
    pieces: list[bytes] = []
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace")
        )
        for (table,) in tables.all():
            with connection.connection.cursor().copy(f"COPY {table} TO STDOUT") as copy:
                pieces += [bytes(piece) for piece in copy]
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}"):  # noqa: S608 - names from the catalogue
                pieces += [bytes(value) for value in row if isinstance(value, bytes | memoryview)]
    engine.dispose()
    return b"\n".join(pieces)


@pytest.fixture
def planted_file(described):
    other = Contact(role="finance", name=PLANTED["other contact"], phone=f"254{PLANTED['other phone']}")
    return replace(described, contacts=(*described.contacts, other))


async def provoke(work) -> VaultError:
    with pytest.raises(VaultError) as caught:
        await work
    return caught.value


async def test_no_planted_secret_is_in_the_database_the_logs_the_reprs_or_the_errors(runtime, planted_file, owner_url, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "aiohttp", "sqlalchemy", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    shown: list[object] = [planted_file, runtime]
    with structlog.testing.capture_logs() as structured:
        partner = await register_partner(runtime, planted_file, actor="ops:amina")
        connections = Connections(runtime)
        await register_c2b_urls(runtime, connections, partner, actor="ops:amina")
        await ensure_mifos_hook(runtime, connections, partner, actor="ops:amina")
        await refresh_products(runtime, connections, partner)
        await enable_product(runtime, partner, "1", Limits(Money.shillings(10), Money.shillings(99)), actor="ops:amina")
        await pause_partner(runtime, partner.id, reason="audit", actor="ops:amina")
        errors = [
            await provoke(check_mifos_password(runtime, partner, PLANTED["wrong Mifos X password"])),
            await provoke(register_partner(runtime, planted_file, actor="ops:amina")),
        ]
        nowhere = replace(planted_file, name="nowhere", mifos=replace(planted_file.mifos, url="http://127.0.0.1:9/api/v1"))
        nowhere = replace(nowhere, mpesa=replace(nowhere.mpesa, b2c_short_code="3000002", c2b_short_code="600002"))
        errors.append(await provoke(register_partner(runtime, nowhere, actor="ops:amina")))
        shown += [partner, connections, await connections.daraja(partner.id), await connections.mifos(partner.id)]
        shown += [await connections.sms(partner.id), connections._opened, await describe_partner(runtime, "umoja-credit")]
        async with runtime.engine.connect() as connection:
            shown += [await open_credentials(connection, runtime, partner.id), await contacts_of(connection, runtime, partner.id)]
        # Last, because a new key drops the access token, which must be there to be looked for.
        before = dump(owner_url)
        await replace_credential(
            runtime, partner.id, CredentialPurpose.MPESA_CONSUMER_SECRET, PLANTED["new consumer secret"], actor="ops:amina"
        )
    tokens = {
        f"token of {purpose}": url.strip("/").rsplit("/", 1)[1] for purpose, url in callback_urls(runtime, partner.id).items()
    }
    looked_for = {**PLANTED, **tokens}
    database = before + dump(owner_url)
    told = "\n".join(
        [*(record.getMessage() for record in caplog.records), *map(repr, caplog.records), repr(structured), repr(shown)]
    )
    told += "\n".join("".join(traceback.format_exception(error)) for error in errors)

    assert leaks(database, {"control": "umoja-credit"}) == ["control"]
    assert leaks(told.encode(), {"control": "INSERT INTO"}) == ["control"]
    assert isinstance(errors[0], LoginRefused)
    assert isinstance(errors[2], Unreachable)
    assert leaks(database, looked_for) == []
    # The description shows callback URLs on purpose: whoever registers them by hand must see them.
    assert leaks(told.encode(), PLANTED) == []
    assert leaks("\n".join(record.getMessage() for record in caplog.records).encode(), tokens) == []
    await connections.aclose()


@pytest.mark.parametrize("form", ["raw", "hex", "base64"])
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_itself_finds_a_secret_however_it_is_written(form, before):
    leaked = f"{before}planted-mifos-password and more".encode()
    content = {"raw": leaked, "hex": leaked.hex().encode(), "base64": base64.b64encode(leaked)}[form]
    assert leaks(content, PLANTED) == ["Mifos X password"]


async def test_a_contact_moved_to_another_partner_does_not_open(runtime, planted_file):
    first = await register_partner(runtime, planted_file, actor="a")
    mpesa = replace(planted_file.mpesa, b2c_short_code="3000002", c2b_short_code="600002")
    second = await register_partner(runtime, replace(planted_file, name="second", mpesa=mpesa), actor="a")
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE partner_contacts AS c SET phone_sealed = o.phone_sealed FROM partner_contacts AS o "
                "WHERE c.partner_id = :first AND o.partner_id = :second AND c.role = o.role"
            ),
            {"first": first.id, "second": second.id},
        )
        with pytest.raises(SealBroken, match="another key under the same id, or a moved or damaged row"):
            await contacts_of(connection, runtime, first.id)
        assert len(await contacts_of(connection, runtime, second.id)) == 2


@pytest.mark.parametrize(
    ("ring", "said"),
    [
        ([("new", b"n" * 32)], "sealed with master key 'test', which is not in the ring (new): bring that key back"),
        ([("test", b"x" * 32)], "does not open with master key 'test': another key under the same id"),
    ],
)
async def test_a_lost_or_another_master_key_is_told_from_a_damaged_row(runtime, described, ring, said):
    partner = await register_partner(runtime, described, actor="a")
    async with runtime.engine.connect() as connection:
        with pytest.raises(SealBroken) as caught:
            await open_credentials(connection, replace(runtime, sealer=Sealer(ring)), partner.id)
    assert said in str(caught.value)


async def test_a_rotated_master_key_opens_what_the_old_one_sealed_and_keeps_the_callback_urls(runtime, described):
    partner = await register_partner(runtime, described, actor="a")
    rotated = replace(runtime, sealer=Sealer([("new", b"n" * 32), ("test", b"0123456789abcdef0123456789abcdef")]))
    async with runtime.engine.connect() as connection:
        credentials = await open_credentials(connection, rotated, partner.id)
    assert credentials.secret(CredentialPurpose.SMS_API_KEY) == "planted-sms-api-key"
    assert callback_urls(rotated, partner.id) == callback_urls(runtime, partner.id)


def test_a_master_key_file_that_is_gone_or_open_to_others_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="restore it from your backup, or set VAULT_MASTER_KEY"):
        read_master_key_file(tmp_path / "master.key")
    (tmp_path / "master.key").write_text("k:AAAA")
    (tmp_path / "master.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_master_key_file(tmp_path / "master.key")
