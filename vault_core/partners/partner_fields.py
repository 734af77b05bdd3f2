"""Every value a partner is made of: where it stands in the TOML file, how it is read, what to write there.

One list for the file and for the questions of `vault partner add`. A reader takes the raw value and raises InvalidInput with
what is wrong and what to write; it never repeats a secret.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.collection_settings import OVERPAYMENTS, SWITCH, WORDS, CollectionSettings, read_prefixes, read_rules
from vault_core.partners.system_fees import BASIS_POINTS, SERVICES
from vault_core.phones import normalise_phone

REQUIRED = object()
MIFOS_API_PATH = "/fineract-provider/api/v1"
B2C_COMMANDS = ("BusinessPayment", "SalaryPayment", "PromotionPayment")
FEE_PAYERS = ("wallet", "short_code")
B2C_TARIFFS = ("b2c", "b2c_withdrawal_paid")
BOUQUETS = ("business", "mgao", "customer")
CONTACT_ROLES = ("operations", "finance")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,40}")  # as the check of partners.name
_SHORT_CODE = re.compile(r"[0-9]{5,7}")
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?", re.ASCII)
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SENDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,10}|[0-9]{1,15}")  # GSM: 11 characters, or digits
_MOST_SHILLINGS = 10**9  # far above any price; keeps a slip of the keyboard out of the ledger
_MOST_CHARACTERS = 4000

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One value. `default` is REQUIRED where it must be given. `what` says what it is, `example` what to write."""

    table: str
    key: str
    read: Reader
    what: str
    example: str
    secret: bool = False
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        """Whether the file must have it."""
        return self.default is REQUIRED


def read_text(value: Any) -> str:
    """One line of text, trimmed."""
    return _line(value).strip()


def read_secret(value: Any) -> str:
    """One line, kept exactly as written."""
    line = _line(value)
    if line != line.strip():
        raise InvalidInput("begins or ends with a space; write it exactly as it was issued")
    return line


def read_name(value: Any) -> str:
    """The short name used in commands."""
    name = read_text(value)
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name[:50]!r} is not a name for commands; write 2 to 41 lower-case letters, digits and dashes")
    return name


def read_url(value: Any) -> str:
    """An http(s) URL without user, query and final slash."""
    text = read_text(value)
    try:
        parts = urlsplit(text)
        port_is_right = parts.port != 0
    except ValueError as error:
        raise InvalidInput(f"is not a URL ({error}); write it like https://host or https://host:8443/path") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_right or re.search(r"[\s\\]", text):
        raise InvalidInput("is not an http or https URL; write it like https://host or https://host:8443/path")
    if "@" in parts.netloc:
        raise InvalidInput("holds a user or password; write the URL without them, they have keys of their own")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise InvalidInput("has a ? or # part; write the URL without it")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def read_mifos_url(value: Any) -> str:
    """The API root of a Mifos X server, completed where only the host or the context path is given."""
    url = read_url(value)
    path = urlsplit(url).path
    if path.endswith("/api/v1"):
        return url
    if not path:
        return url + MIFOS_API_PATH
    if path.endswith("/fineract-provider"):
        return f"{url}/api/v1"
    raise InvalidInput(f"does not end like a Mifos X API; write it like https://host{MIFOS_API_PATH}")


def read_tenant(value: Any) -> str:
    """A Mifos X tenant identifier: it travels in a header."""
    tenant = read_text(value)
    if not _TENANT.fullmatch(tenant):
        raise InvalidInput('is not a tenant identifier; write letters, digits, dashes and dots, usually "default"')
    return tenant


def read_user(value: Any) -> str:
    """A user name that Basic authentication can carry."""
    user = read_text(value)
    if ":" in user:
        raise InvalidInput("has a colon, which Basic authentication cannot carry; use a user name without it")
    return user


def read_short_code(value: Any) -> str:
    """An M-Pesa short code."""
    code = str(value) if type(value) is int and 0 <= value < 10**7 else read_text(value)
    if not _SHORT_CODE.fullmatch(code):
        raise InvalidInput(f"{code[:20]!r} is not a short code; write its 5 to 7 digits in quotes")
    return code


def read_sender(value: Any) -> str:
    """An SMS sender ID as GSM carries it."""
    sender = read_text(value)
    if not _SENDER.fullmatch(sender):
        raise InvalidInput(f"{sender[:40]!r} is not a sender ID; write at most 11 letters, digits, spaces, dots and dashes")
    return sender


def read_amount(value: Any) -> Money:
    """Shillings, zero or more: decimal text or a whole number. A TOML float has already lost cents and is refused."""
    if isinstance(value, float):
        raise InvalidInput('is a floating-point number, which cannot hold cents exactly; put it in quotes, like "0.80"')
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInput('is not an amount; write shillings in quotes, like "50.00"')
    if isinstance(value, int) and not 0 <= value <= _MOST_SHILLINGS:
        raise InvalidInput(f"is out of bounds; write shillings from 0 to {_MOST_SHILLINGS}")
    amount = Money.parse(value)
    if not 0 <= amount.cents <= _MOST_SHILLINGS * 100:
        raise InvalidInput(f"is out of bounds; write shillings from 0 to {_MOST_SHILLINGS}")
    return amount


def read_percent(value: Any) -> int:
    """A percentage with at most two decimals, as basis points."""
    if isinstance(value, float):
        raise InvalidInput('is a floating-point number; put it in quotes, like "0.5"')
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInput('is not a percentage; write it in quotes, like "0.5"')
    if not _PERCENT.fullmatch(text := str(value).strip()):
        raise InvalidInput(f'{text[:20]!r} is not a percentage of at most two decimals; write it like "0.5"')
    whole, _, part = text.partition(".")
    basis_points = int(whole) * 100 + int(part.ljust(2, "0") or 0)
    if basis_points > BASIS_POINTS:
        raise InvalidInput("is more than 100")
    return basis_points


def read_product(value: Any) -> int:
    """The id of a loan product in Mifos X."""
    if type(value) is not int or not 0 < value < 2**62:
        raise InvalidInput("is not the id of a loan product; write the number that Mifos X shows, without quotes")
    return value


def read_phone(value: Any) -> str:
    """A Kenyan mobile number, normalised."""
    if type(value) is int:
        raise InvalidInput('is a bare number; put it in quotes, like "0712345678", so that its zero is kept')
    return normalise_phone(read_text(value))


def one_of(*choices: str) -> Reader:
    """A reader of one of `choices`."""

    def read(value: Any) -> str:
        choice = read_text(value)
        if choice not in choices:
            raise InvalidInput(f"{choice[:40]!r} is none of the choices; write one of {', '.join(choices)}")
        return choice

    return read


def _line(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"is a {_toml_type(value)}, not text; put it in quotes")
    if not value.strip():
        raise InvalidInput("is empty")
    if len(value) > _MOST_CHARACTERS:
        raise InvalidInput(f"is longer than {_MOST_CHARACTERS} characters")
    if not value.isprintable():
        raise InvalidInput("has a line break or another character that cannot be printed; write it on one line")
    return value


def _toml_type(value: Any) -> str:
    names = {bool: "true/false value", int: "number", float: "number", list: "list", dict: "table"}
    return names.get(type(value), "date or time")


FIELDS = (
    Field("partner", "name", read_name, "short name, used in commands", '"umoja-credit"'),
    Field("partner", "display_name", read_text, "name as clients and reports show it", '"Umoja Credit Ltd"'),
    Field("mifos", "url", read_mifos_url, "the Mifos X API", f'"https://mifos.example.co.ke{MIFOS_API_PATH}"'),
    Field("mifos", "tenant", read_tenant, "Mifos X tenant identifier", '"default"'),
    Field("mifos", "user", read_user, "Mifos X user for Payment Vault", '"paymentvault"'),
    Field("mifos", "password", read_secret, "password of that user", '"..."', secret=True),
    Field(
        "mifos", "ca_file", read_text, "PEM file of the authority that signed the server's certificate", '"ca.pem"', default=None
    ),
    Field("mpesa", "url", read_url, "M-Pesa Daraja API", '"https://api.safaricom.co.ke"'),
    Field("mpesa", "consumer_key", read_secret, "consumer key of the Daraja app", '"..."', secret=True),
    Field("mpesa", "consumer_secret", read_secret, "consumer secret of the Daraja app", '"..."', secret=True),
    Field("mpesa", "initiator", read_text, "name of the B2C API initiator", '"vaultapi"'),
    Field(
        "mpesa",
        "security_credential",
        read_secret,
        "initiator password encrypted with Safaricom's certificate (or, with `certificate`, the password itself)",
        '"..."',
        secret=True,
    ),
    Field(
        "mpesa",
        "certificate",
        read_text,
        "Safaricom's certificate file, if security_credential is the password itself",
        '"ProductionCertificate.cer"',
        default=None,
    ),
    Field("mpesa", "b2c_short_code", read_short_code, "short code that pays loans out", '"3000001"'),
    Field("mpesa", "c2b_short_code", read_short_code, "pay bill that clients repay to", '"600001"'),
    Field("mpesa", "command", one_of(*B2C_COMMANDS), "B2C command", '"BusinessPayment"', default=B2C_COMMANDS[0]),
    Field("sms", "url", read_url, "SMS gateway (AirTouch API)", '"https://client.airtouch.co.ke:9012"'),
    Field("sms", "user", read_text, "user at the SMS gateway", '"umoja"'),
    Field("sms", "api_key", read_secret, "API key at the SMS gateway", '"..."', secret=True),
    Field("sms", "sender", read_sender, "sender ID registered for the partner", '"UMOJA"'),
    Field("sms", "price", read_amount, "what a message part is charged, in shillings", '"0.80"'),
    Field("charges", "system_fee", read_amount, "our fee a disbursement, in shillings", '"50.00"'),
    Field("charges", "mpesa_fee_paid_by", one_of(*FEE_PAYERS), "who pays M-Pesa's B2C fee", '"wallet"', default=FEE_PAYERS[0]),
    Field(
        "charges", "b2c_tariff", one_of(*B2C_TARIFFS), "M-Pesa's B2C price list for the partner", '"b2c"', default=B2C_TARIFFS[0]
    ),
    Field("charges", "c2b_bouquet", one_of(*BOUQUETS), "the pay bill's bouquet at M-Pesa", '"business"', default=BOUQUETS[0]),
    Field(
        "charges",
        "c2b_fee_paid_by",
        one_of(*FEE_PAYERS),
        "who pays the business's part of M-Pesa's pay bill fee",
        '"short_code"',
        default=FEE_PAYERS[1],
    ),
    Field(
        "charges",
        "low_balance",
        read_amount,
        "wallet balance below which `wallet show` says LOW, in shillings",
        '"5000"',
        default=Money(0),
    ),
)
SYSTEM_FEE_FIELDS = (
    Field("charges.system_fees", "service", one_of(*SERVICES), "what is charged", '"disbursement"'),
    Field("charges.system_fees", "product", read_product, "loan product (its id in Mifos X) it is for", "3", default=None),
    Field("charges.system_fees", "flat", read_amount, "the fee, in shillings", '"20.00"', default=Money(0)),
    Field("charges.system_fees", "percent", read_percent, "percentage of the amount, besides", '"0.5"', default=0),
    Field("charges.system_fees", "min", read_amount, "least fee, in shillings", '"10.00"', default=Money(0)),
    Field("charges.system_fees", "max", read_amount, "greatest fee, in shillings", '"100.00"', default=None),
)
_COLLECTED = CollectionSettings()
COLLECTION_FIELDS = (
    Field(
        "collections",
        "match_rules",
        read_rules,
        "how a payment's account is found, in order",
        '["alias", "loan_number+savings_number+external_id", "prefix", "phone"]',
        default=_COLLECTED.match_rules,
    ),
    Field("collections", "prefixes", read_prefixes, "what a prefix names", '{ L = "loan" }', default=_COLLECTED.prefixes),
    Field("collections", "validation", one_of(*SWITCH), "answering M-Pesa's questions", '"on"', default=_COLLECTED.validation),
    Field("collections", "when_unknown", one_of(*WORDS), "where it cannot be told", '"accept"', default=_COLLECTED.when_unknown),
    Field(
        "collections",
        "closed_accounts",
        one_of(*WORDS),
        "payments to accounts that take none",
        '"refuse"',
        default=_COLLECTED.closed_accounts,
    ),
    Field("collections", "least", read_amount, "least payment, in shillings", '"10"', default=None),
    Field("collections", "most", read_amount, "greatest payment, in shillings", '"250000"', default=None),
    Field(
        "collections",
        "overpayment",
        one_of(*OVERPAYMENTS),
        "what is done with more than is owed on a loan",
        '"post_all"',
        default=_COLLECTED.overpayment,
    ),
    Field(
        "collections",
        "assign_alone_up_to",
        read_amount,
        "what one person may assign or move alone, in shillings",
        '"50000"',
        default=None,
    ),
)
CONTACT_FIELDS = (
    Field("contacts", "role", one_of(*CONTACT_ROLES), "what the person is told about", '"operations"'),
    Field("contacts", "name", read_text, "the person's name", '"Achieng Otieno"'),
    Field("contacts", "phone", read_phone, "the person's mobile number", '"0712345678"'),
)
