"""The partner file: what is read, and what is said of each fault."""

import base64
import contextlib
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.partners.test_security_credential import KEY, certificate
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.partner_file import PartnerFile, load_partner_file, parse_partner_file, partner_from_tables
from vault_core.partners.system_fees import FeeTerms

SAMPLE = Path(__file__).parents[2] / "data" / "partners" / "umoja.toml"
GOOD = SAMPLE.read_text(encoding="utf-8")


def with_line(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def fault_of(content: str | bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse_partner_file(content)
    return str(caught.value)


def test_a_good_file_is_read_whole():
    read = parse_partner_file(GOOD)
    assert (read.name, read.display_name) == ("umoja-credit", "Umoja Credit Ltd")
    assert (read.mifos.url, read.mifos.password) == (
        "https://mifos.example.co.ke/fineract-provider/api/v1",
        "planted-mifos-password",
    )
    assert (read.mpesa.b2c_short_code, read.mpesa.c2b_short_code, read.mpesa.command) == ("3000001", "600001", "BusinessPayment")
    assert read.sms.price == Money(80)
    assert (read.charges.system_fees, read.charges.mpesa_fee_paid_by, read.charges.low_balance) == (
        (FeeTerms("disbursement", flat=Money(50_00)),),
        "wallet",
        Money(0),
    )
    assert [contact.phone for contact in read.contacts] == ["254712345678"]


def test_the_repr_shows_no_secret_name_or_phone():
    shown = repr(parse_partner_file(GOOD))
    assert "planted" not in shown.lower()
    assert "712345678" not in shown


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://mifos.example.co.ke", "https://mifos.example.co.ke/fineract-provider/api/v1"),
        ("https://mifos.example.co.ke:8443/", "https://mifos.example.co.ke:8443/fineract-provider/api/v1"),
        ("https://mifos.example.co.ke/fineract-provider/", "https://mifos.example.co.ke/fineract-provider/api/v1"),
        ("https://mifos.example.co.ke/core/api/v1/", "https://mifos.example.co.ke/core/api/v1"),
        ("http://127.0.0.1:9/mifos/alpha/fineract-provider/api/v1", "http://127.0.0.1:9/mifos/alpha/fineract-provider/api/v1"),
    ],
)
def test_a_mifos_url_is_completed_where_that_is_clearly_right(given_url, kept):
    assert parse_partner_file(with_line("https://mifos.example.co.ke/fineract-provider/api/v1", given_url)).mifos.url == kept


FAULTS = {
    "float amount": ('price = "0.80"', "price = 0.80", "[sms] price: is a floating-point number"),
    "negative amount": ('price = "0.80"', 'price = "-1"', "[sms] price: is out of bounds"),
    "part of a cent": ('price = "0.80"', 'price = "0.805"', "[sms] price: amount '0.805' has a fraction of a cent"),
    "true for an amount": ('price = "0.80"', "price = true", "[sms] price: is not an amount"),
    "huge amount": ('price = "0.80"', "price = 99999999999999999999", "[sms] price: is out of bounds"),
    "words for an amount": (
        'system_fee = "50.00"',
        'system_fee = "fifty"',
        "[charges] system_fee: amount 'fifty' is not a plain decimal",
    ),
    "short code too short": ('"600001"', '"6001"', "[mpesa] c2b_short_code: '6001' is not a short code; write its 5 to 7 digits"),
    "short code of letters": ('"3000001"', '"paybill"', "[mpesa] b2c_short_code: 'paybill' is not a short code"),
    "short code of Arabic digits": ('"600001"', '"٦٠٠٠٠١"', "is not a short code"),
    "bad name": ('name = "umoja-credit"', 'name = "Umoja Credit"', "[partner] name: 'Umoja Credit' is not a name for commands"),
    "URL without scheme": ('"https://api.safaricom.co.ke"', '"api.safaricom.co.ke"', "[mpesa] url: is not an http or https URL"),
    "URL of another scheme": (
        '"https://api.safaricom.co.ke"',
        '"ftp://api.safaricom.co.ke"',
        "[mpesa] url: is not an http or https",
    ),
    "URL with a bad port": ('"https://api.safaricom.co.ke"', '"https://api.safaricom.co.ke:port"', "[mpesa] url: is not a URL"),
    "URL with a password": (
        '"https://api.safaricom.co.ke"',
        '"https://a:b@api.safaricom.co.ke"',
        "[mpesa] url: holds a user or password",
    ),
    "URL with a query": ('"https://api.safaricom.co.ke"', '"https://api.safaricom.co.ke?a=b"', "[mpesa] url: has a ? or # part"),
    "Mifos web app URL": ("/fineract-provider/api/v1", "/community-app/", "[mifos] url: does not end like a Mifos X API"),
    "tenant with a space": ('tenant = "default"', 'tenant = "my tenant"', "[mifos] tenant: is not a tenant identifier"),
    "user with a colon": ('user = "paymentvault"', 'user = "pay:vault"', "[mifos] user: has a colon"),
    "empty secret": ('"planted-sms-api-key"', '""', "[sms] api_key: is empty"),
    "secret that is a number": ('"planted-sms-api-key"', "123456", "[sms] api_key: is a number, not text; put it in quotes"),
    "secret with a space at its end": ('"planted-sms-api-key"', '"key "', "[sms] api_key: begins or ends with a space"),
    "secret on two lines": ('"planted-sms-api-key"', '"""key\nmore"""', "[sms] api_key: has a line break"),
    "sender too long": ('sender = "UMOJA"', 'sender = "UMOJA CREDIT LTD"', "[sms] sender: 'UMOJA CREDIT LTD' is not a sender ID"),
    "missing key": (
        'initiator = "vaultapi"',
        "",
        '[mpesa] initiator is missing: name of the B2C API initiator; write initiator = "vaultapi"',
    ),
    "missing table": ('[charges]\nsystem_fee = "50.00"', "", "[charges] is missing; write it with system_fee"),
    "unknown key": (
        'initiator = "vaultapi"',
        'initiator = "vaultapi"\ninitator = "x"',
        "[mpesa] key initator is not known; it may hold url",
    ),
    "unknown table": ("[charges]", "[paybill]\na = 1\n[charges]", "table [paybill] is not known; it may hold partner, mifos"),
    "table that is a value": ("[partner]\n", "charges = 1\n[partner]\n", None),
    "unknown command": (
        'initiator = "vaultapi"',
        'initiator = "v"\ncommand = "Pay"',
        "'Pay' is none of the choices; write one of BusinessPayment",
    ),
    "unknown fee payer": (
        'system_fee = "50.00"',
        'system_fee = 5\nmpesa_fee_paid_by = "client"',
        "[charges] mpesa_fee_paid_by: 'client'",
    ),
    "phone that is a number": ('"0712 345 678"', "712345678", "[[contacts]] number 1 phone: is a bare number"),
    "phone of another country": ('"0712 345 678"', '"+256712345678"', "***678 is not a Kenyan mobile number"),
    "unknown role": ('"operations"', '"boss"', "[[contacts]] number 1 role: 'boss' is none of the choices"),
    "no operations contact": ('"operations"', '"finance"', '[[contacts]]: nobody has role = "operations"'),
    "one bracket": ("[[contacts]]", "[contacts]", "[contacts] is one table; write [[contacts]]"),
}


@pytest.mark.parametrize(("old", "new", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_names_table_key_and_what_to_write(old, new, said):
    fault = fault_of(with_line(old, new))
    assert (said or "is not TOML") in fault
    assert "planted" not in fault.replace("Planted", "")


def test_all_faults_are_said_at_once():
    fault = fault_of(with_line("[partner]", "[partner]\ncolour = 1").replace('"0.80"', "0.8").replace('"50.00"', '"x"'))
    assert fault.count("\n") == 3


def test_broken_toml_gives_line_and_column():
    assert "at line 5, column 9" in fault_of('[partner]\nname = "a-b"\ndisplay_name = "A"\n\nbroken =\n')


def test_a_broken_file_does_not_repeat_the_secret_on_its_line():
    with pytest.raises(InvalidInput) as caught:
        parse_partner_file(with_line('"planted-mifos-password"', "planted-mifos-password"))
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_text_that_is_not_utf_8_names_its_line():
    assert "not UTF-8 text (line 2)" in fault_of(b'[partner]\nname = "\xff"\n')


def test_a_byte_order_mark_in_front_is_no_fault():
    assert parse_partner_file(b"\xef\xbb\xbf" + GOOD.encode()).name == "umoja-credit"


def test_a_file_far_too_large_is_refused():
    assert "larger than 256 KiB" in fault_of("#" * 300_000)


def test_lists_nested_without_end_are_refused():
    assert "lists too deep" in fault_of("a = " + "[" * 50_000)


def test_the_same_person_twice_is_refused():
    again = '\n[[contacts]]\nrole = "operations"\nname = "Another"\nphone = "+254712345678"\n'
    assert "number 2: the same role and phone stand above" in fault_of(GOOD + again)


def test_two_people_may_share_a_role():
    again = '\n[[contacts]]\nrole = "operations"\nname = "Another"\nphone = "0110000002"\n'
    assert len(parse_partner_file(GOOD + again).contacts) == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"nowhere\.toml cannot be read: No such file"):
        load_partner_file(tmp_path / "nowhere.toml")


def test_the_ca_file_is_read_relative_to_the_partner_file(tmp_path, certificate_pem):
    (tmp_path / "ca.pem").write_text(certificate_pem)
    (tmp_path / "p.toml").write_text(with_line('tenant = "default"', 'tenant = "default"\nca_file = "ca.pem"'))
    assert load_partner_file(tmp_path / "p.toml").mifos.ca_pem == certificate_pem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"\x30\x82\x01\xff", "not a PEM file"),
        (b"hello", "holds no certificate"),
        (b"", "holds no certificate"),
    ],
)
def test_a_ca_file_that_is_none_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    (tmp_path / "p.toml").write_text(with_line('tenant = "default"', 'tenant = "default"\nca_file = "ca.pem"'))
    with pytest.raises(InvalidInput, match=said):
        load_partner_file(tmp_path / "p.toml")


def test_beside_a_certificate_stands_the_password_itself_and_what_is_kept_is_only_for_safaricom_to_read(tmp_path):
    (tmp_path / "prod.cer").write_bytes(certificate(KEY, Encoding.DER))
    (tmp_path / "p.toml").write_text(with_line('initiator = "vaultapi"', 'initiator = "vaultapi"\ncertificate = "prod.cer"'))
    given_password = parse_partner_file((tmp_path / "p.toml").read_text()).mpesa.security_credential
    kept = load_partner_file(tmp_path / "p.toml").mpesa.security_credential
    assert KEY.decrypt(base64.b64decode(kept), PKCS1v15()).decode() == given_password
    (tmp_path / "prod.cer").write_bytes(b"<html>")
    with pytest.raises(InvalidInput, match=r"\[mpesa\] certificate: that is no certificate"):
        load_partner_file(tmp_path / "p.toml")


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
def test_any_content_is_a_partner_or_invalid_input(content):
    with contextlib.suppress(InvalidInput):
        assert isinstance(parse_partner_file(content), PartnerFile)


TOML_VALUES = st.recursive(
    st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.datetimes(), st.dates(), st.times()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=12), inner, max_size=3)),
    max_leaves=6,
)


@given(st.data())
def test_any_value_in_any_place_is_a_partner_or_invalid_input(data):
    tables = tomllib.loads(GOOD)
    table = data.draw(st.sampled_from(sorted(tables)))
    value = data.draw(TOML_VALUES)
    if table == "contacts" or data.draw(st.booleans()):
        tables[table] = value
    else:
        tables[table][data.draw(st.one_of(st.sampled_from(sorted(tables[table])), st.text(max_size=8)))] = value
    with contextlib.suppress(InvalidInput):
        assert isinstance(partner_from_tables(tables), PartnerFile)


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_a_file_with_one_character_changed_is_a_partner_or_invalid_input(place, character):
    with contextlib.suppress(InvalidInput):
        assert isinstance(parse_partner_file(GOOD[:place] + character + GOOD[place + 1 :]), PartnerFile)
