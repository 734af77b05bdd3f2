"""The initiator's password as M-Pesa reads it: only the holder of the certificate's key can, and it is the bare password."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from vault_core.errors import InvalidInput
from vault_core.partners.security_credential import security_credential

PASSWORD = "Safaricom999!*!"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(key, encoding: serialization.Encoding) -> bytes:
    """Of this key, and expired in 2016, as that of Daraja's sandbox."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "apigee-sandbox")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    valid = builder.not_valid_before(datetime(2015, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2016, 1, 1, tzinfo=UTC))
    return valid.sign(key, hashes.SHA256()).public_bytes(encoding)


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_the_bare_password_is_under_the_key_of_the_certificate_in_the_padding_that_m_pesa_takes(encoding) -> None:
    made = security_credential(PASSWORD, certificate(KEY, encoding))
    assert len(made) == 344
    assert KEY.decrypt(base64.b64decode(made), padding.PKCS1v15()) == PASSWORD.encode()


@pytest.mark.parametrize("wrong", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused_and_the_password_is_not_repeated(wrong: bytes) -> None:
    with pytest.raises(InvalidInput, match="no certificate") as refused:
        security_credential(PASSWORD, wrong)
    assert PASSWORD not in str(refused.value)


def test_a_key_that_cannot_encrypt_is_refused() -> None:
    with pytest.raises(InvalidInput, match="RSA"):
        security_credential(PASSWORD, certificate(ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM))
