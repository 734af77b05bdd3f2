"""M-Pesa's SecurityCredential: the initiator's password, encrypted so that only Safaricom can read it (daraja.md section 2.2)."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import Certificate, load_der_x509_certificate, load_pem_x509_certificate

from vault_core.errors import InvalidInput


def security_credential(password: str, certificate: bytes) -> str:
    """The password's bytes under the certificate's RSA key, PKCS#1 v1.5, in base64: 344 characters, others each time.

    `certificate` is the file that Safaricom publishes for the environment, PEM or DER. Its dates are not looked at: the one of
    the sandbox expired in 2016 and still serves. Raises InvalidInput, without the password, for what holds no RSA key.
    """
    key = _read(certificate).public_key()
    if not isinstance(key, RSAPublicKey):
        raise InvalidInput("the certificate holds no RSA key: take Safaricom's own, of the environment (sandbox or production)")
    return base64.b64encode(key.encrypt(password.encode(), PKCS1v15())).decode("ascii")


def read_certificate(file: Path) -> bytes:
    """What the file holds. Raises InvalidInput if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"the certificate {file} cannot be read: {error.strerror}") from error


def _read(certificate: bytes) -> Certificate:
    load = load_pem_x509_certificate if b"-----BEGIN" in certificate else load_der_x509_certificate
    try:
        return load(certificate)
    except ValueError:
        raise InvalidInput("that is no certificate: take the .cer file from Safaricom's portal, as it is (PEM or DER)") from None
