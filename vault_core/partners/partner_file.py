"""The TOML file that describes a new partner (docs/partners.md), read into values or refused with every fault in it named."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificates

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.collection_settings import CollectionSettings
from vault_core.partners.contacts import Contact
from vault_core.partners.partner import B2cTariff, Bouquet, MpesaFeePayer
from vault_core.partners.partner_fields import COLLECTION_FIELDS, CONTACT_FIELDS, FIELDS, SYSTEM_FEE_FIELDS, Field
from vault_core.partners.security_credential import read_certificate, security_credential
from vault_core.partners.system_fees import FeeTerms

_MOST_BYTES = 256 * 1024
_TABLES = tuple(dict.fromkeys(each.table for each in FIELDS))


@dataclass(frozen=True, slots=True)
class MifosSettings:
    """[mifos]. `ca_pem` is what `ca_file` holds, once it was read."""

    url: str
    tenant: str
    user: str
    password: str = field(repr=False)
    ca_file: str | None = None
    ca_pem: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MpesaSettings:
    """[mpesa]."""

    url: str
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    initiator: str
    security_credential: str = field(repr=False)
    certificate: str | None
    b2c_short_code: str
    c2b_short_code: str
    command: str


@dataclass(frozen=True, slots=True)
class SmsSettings:
    """[sms]. `price` is a part's."""

    url: str
    user: str
    api_key: str = field(repr=False)
    sender: str
    price: Money


@dataclass(frozen=True, slots=True)
class ChargeSettings:
    """[charges]: what we charge, and who pays M-Pesa's fees (docs/partners.md)."""

    system_fees: tuple[FeeTerms, ...]
    mpesa_fee_paid_by: MpesaFeePayer
    b2c_tariff: B2cTariff
    c2b_bouquet: Bouquet
    c2b_fee_paid_by: MpesaFeePayer
    low_balance: Money


@dataclass(frozen=True, slots=True)
class PartnerFile:
    """A partner as described, every value checked and in its one written form. The repr shows no secret, name or phone."""

    name: str
    display_name: str
    mifos: MifosSettings
    mpesa: MpesaSettings
    sms: SmsSettings
    charges: ChargeSettings
    collections: CollectionSettings
    contacts: tuple[Contact, ...]


def load_partner_file(path: Path) -> PartnerFile:
    """The partner described in the file, with the files it names (relative to it) read. Raises InvalidInput."""
    try:
        described = parse_partner_file(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"the partner file {path} cannot be read: {error.strerror}") from error
    return with_files(described, path.parent)


def with_files(described: PartnerFile, folder: Path) -> PartnerFile:
    """The same with the files that it names read, relative to `folder`; unchanged if it names none. Raises InvalidInput.

    These are the server's CA, and the certificate that the initiator's password is encrypted with.
    """
    return _with_security_credential(_with_ca(described, folder), folder)


def _with_ca(described: PartnerFile, folder: Path) -> PartnerFile:
    if described.mifos.ca_file is None:
        return described
    path = folder / described.mifos.ca_file
    where = f"[mifos] ca_file: {path}"
    try:
        pem = path.read_text(encoding="ascii")
    except OSError as error:
        raise InvalidInput(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidInput(f"{where} is not a PEM file; convert it with: openssl x509 -inform der -in FILE -out ca.pem") from None
    try:
        load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidInput(f"{where} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    return replace(described, mifos=replace(described.mifos, ca_pem=pem))


def _with_security_credential(described: PartnerFile, folder: Path) -> PartnerFile:
    if described.mpesa.certificate is None:
        return described
    try:
        made = security_credential(described.mpesa.security_credential, read_certificate(folder / described.mpesa.certificate))
    except InvalidInput as error:
        raise InvalidInput(f"[mpesa] certificate: {error}") from error
    return replace(described, mpesa=replace(described.mpesa, security_credential=made, certificate=None))


def parse_partner_file(content: str | bytes) -> PartnerFile:
    """The partner that TOML `content` describes.

    Raises InvalidInput: for broken TOML with its line and column; else with a line a fault, each naming table, key, what is
    wrong and what to write. Reads no other file: see `load_partner_file` for `ca_file`.
    """
    return partner_from_tables(_toml(content))


def partner_from_tables(tables: Mapping[str, Any]) -> PartnerFile:
    """The partner that these tables (as TOML gives them) describe. Raises InvalidInput as `parse_partner_file`."""
    faults: list[str] = []
    expected = (*_TABLES, "collections", "[contacts]")
    faults.extend(_unknown(tables, {*_TABLES, "collections", "contacts"}, "table [{}]", expected))
    values: dict[str, dict[str, Any]] = {}
    for table in _TABLES:
        fields = [each for each in FIELDS if each.table == table]
        if table == "charges":
            values[table] = _read_charges(tables.get(table), fields, faults)
        else:
            values[table] = _read_table(tables.get(table), f"[{table}]", fields, faults)
    collections = _read_collections(tables.get("collections", {}), faults)
    contacts = _read_contacts(tables.get("contacts"), faults)
    if faults:
        raise InvalidInput("the partner file is not right:\n" + "\n".join(f"  {fault}" for fault in faults))
    return PartnerFile(
        **values["partner"],
        mifos=MifosSettings(**values["mifos"]),
        mpesa=MpesaSettings(**values["mpesa"]),
        sms=SmsSettings(**values["sms"]),
        charges=ChargeSettings(**values["charges"]),
        collections=collections,
        contacts=tuple(contacts),
    )


def _toml(content: str | bytes) -> dict[str, Any]:
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"the partner file is larger than {_MOST_BYTES // 1024} KiB: is it the right file?")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")  # Windows editors write a mark in front
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1 if isinstance(content, bytes) else 1
        raise InvalidInput(f"the partner file is not UTF-8 text (line {line}): save it as UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # `from None`: the cause may carry the document, and with it the secrets.
        raise InvalidInput(f'the partner file is not TOML: {error}. Text stands in quotes: key = "value"') from None
    except (ValueError, RecursionError):
        raise InvalidInput("the partner file is not TOML that can be read: a number too long or lists too deep") from None


def _read_table(raw: Any, where: str, fields: list[Field], faults: list[str]) -> dict[str, Any]:
    if raw is None:
        needed = ", ".join(each.key for each in fields if each.required)
        faults.append(f"{where} is missing; write it with {needed}")
        return {}
    if not isinstance(raw, dict):
        faults.append(f"{where} is not a table; write {where} on a line of its own and its keys below it")
        return {}
    faults.extend(_unknown(raw, {each.key for each in fields}, where + " key {}", [each.key for each in fields]))
    values: dict[str, Any] = {}
    for each in fields:
        if each.key not in raw:
            if each.required:
                faults.append(f"{where} {each.key} is missing: {each.what}; write {each.key} = {each.example}")
            values[each.key] = each.default
            continue
        try:
            values[each.key] = each.read(raw[each.key])
        except InvalidInput as error:
            faults.append(f"{where} {each.key}: {error} (for example {each.key} = {each.example})")
    return values


def _read_charges(raw: Any, fields: list[Field], faults: list[str]) -> dict[str, Any]:
    """[charges] with its fees: `system_fee` is short for a flat fee of every disbursement."""
    listed: Any = []
    if isinstance(raw, dict) and "system_fees" in raw:
        listed = raw["system_fees"]
        raw = {key: value for key, value in raw.items() if key != "system_fees"}
        fields = [replace(each, default=None) if each.key == "system_fee" else each for each in fields]
    values = _read_table(raw, "[charges]", fields, faults)
    flat = values.pop("system_fee", None)
    fees = [FeeTerms("disbursement", flat=flat)] if isinstance(flat, Money) else []
    if not isinstance(listed, list):
        faults.append("[charges.system_fees] is one table; write [[charges.system_fees]] with two brackets, once a fee")
        listed = []
    for number, each in enumerate(listed, 1):
        where = f"[[charges.system_fees]] number {number}"
        terms = _read_fee(each, where, faults)
        if terms is not None and (terms.service, terms.product_id) in [(fee.service, fee.product_id) for fee in fees]:
            faults.append(f"{where}: a fee of the same service and product stands above; remove one")
        elif terms is not None:
            fees.append(terms)
    return {**values, "system_fees": tuple(fees)}


def _read_fee(raw: Any, where: str, faults: list[str]) -> FeeTerms | None:
    before = len(faults)
    values = _read_table(raw, where, list(SYSTEM_FEE_FIELDS), faults)
    if len(faults) > before:
        return None
    try:
        return FeeTerms(
            service=values["service"],
            product_id=values["product"],
            flat=values["flat"],
            rate_basis_points=values["percent"],
            least=values["min"],
            most=values["max"],
        )
    except InvalidInput as error:
        faults.append(f"{where}: {error}")
        return None


def _read_collections(raw: Any, faults: list[str]) -> CollectionSettings:
    before = len(faults)
    values = _read_table(raw, "[collections]", list(COLLECTION_FIELDS), faults)
    try:
        return CollectionSettings() if len(faults) > before else CollectionSettings(**values)
    except InvalidInput as error:
        faults.append(f"[collections]: {error}")
        return CollectionSettings()


def _read_contacts(raw: Any, faults: list[str]) -> list[Contact]:
    if raw is None:
        raw = []
    if not isinstance(raw, list):
        faults.append("[contacts] is one table; write [[contacts]] with two brackets, once a person")
        return []
    contacts: list[Contact] = []
    for number, each in enumerate(raw, 1):
        before = len(faults)
        values = _read_table(each, f"[[contacts]] number {number}", list(CONTACT_FIELDS), faults)
        if len(faults) == before:
            contact = Contact(**values)
            if (contact.role, contact.phone) in [(other.role, other.phone) for other in contacts]:
                faults.append(f"[[contacts]] number {number}: the same role and phone stand above; remove one")
            contacts.append(contact)
    if not any(isinstance(each, dict) and each.get("role") == "operations" for each in raw):
        faults.append('[[contacts]]: nobody has role = "operations"; write at least one: somebody must be told of a short wallet')
    return contacts


def _unknown(found: Iterable[str], known: set[str], name: str, expected: Iterable[str]) -> list[str]:
    return [
        f"{name.format(each[:60] if each.isprintable() else repr(each[:60]))} is not known; it may hold {', '.join(expected)}"
        for each in found
        if each not in known
    ]
