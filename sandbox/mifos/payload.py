"""Checks on the body of a command, with Fineract's words for what is wrong."""

from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sandbox.mifos.amounts import cents_of, decimal_of
from sandbox.mifos.errors import Fault, not_found, unsupported_parameters, validation
from sandbox.mifos.host import MifosHost, PaymentDetail, PaymentType

_DATE_FORMATS = {"yyyy-MM-dd": "%Y-%m-%d", "dd MMMM yyyy": "%d %B %Y", "dd/MM/yyyy": "%d/%m/%Y"}
PAYMENT_TEXTS = ("accountNumber", "checkNumber", "routingCode", "receiptNumber", "bankNumber")
_LONGEST_TEXT = 50
LONGEST_EXTERNAL_ID = 100


class Payload:
    """The body of one command; `resource` is the middle of its message codes."""

    def __init__(self, body: dict[str, Any], resource: str) -> None:
        self.body = body
        self.resource = resource
        self.faults: list[Fault] = []

    def only(self, names: Collection[str]) -> None:
        """Refuses every other key: the server never ignores one."""
        unknown = [name for name in self.body if name not in names]
        if unknown:
            raise unsupported_parameters(unknown)

    def day(self, name: str) -> date | None:
        """A required date; notes what is wrong with it."""
        value = self.body.get(name)
        if value in (None, ""):
            self._blank(name)
            return None
        missing = [key for key in ("dateFormat", "locale") if not self.body.get(key)]
        for key in missing:
            text = f"The parameter `{name}` requires a `{key}` parameter to be passed with it."
            self.faults.append(Fault(text, f"validation.msg.missing.{key}.parameter", name))
        if missing:
            return None
        try:
            return datetime.strptime(str(value), _DATE_FORMATS[str(self.body["dateFormat"])]).date()  # noqa: DTZ007 - a day has no zone
        except (KeyError, ValueError):
            pattern, locale = self.body["dateFormat"], self.body["locale"]
            text = f"The parameter `{name}` is invalid based on the dateFormat: `{pattern}` and locale: `{locale}` provided:"
            self.faults.append(Fault(text, "validation.msg.invalid.dateFormat.format", name, ({}, pattern)))
            return None

    def amount(self, name: str, *, required: bool, resource: str | None = None) -> Decimal | None:
        """An amount above zero; notes what is wrong with it."""
        value = self.body.get(name)
        if value in (None, ""):
            if required:
                self._blank(name)
            return None
        decimal = decimal_of(value)
        if decimal is None:
            locale = self.body.get("locale")
            text = f"The parameter `{name}` has value: {value} which is invalid decimal value for provided locale of [{locale}]."
            self.faults.append(Fault(text, "validation.msg.invalid.decimal.format", name, (str(value), locale), value=str(value)))
        elif decimal <= 0:
            text = f"The parameter `{name}` must be greater than 0."
            code = f"validation.msg.{resource or self.resource}.{name}.not.greater.than.zero"
            self.faults.append(Fault(text, code, name, (float(decimal), 0)))
        return decimal

    def cents(self, name: str) -> int:
        """A required amount in cents; 0 where it is noted as wrong."""
        decimal = self.amount(name, required=True)
        return 0 if decimal is None else cents_of(decimal)

    def texts(self) -> None:
        """The payment texts, fifty characters each."""
        for name in PAYMENT_TEXTS:
            value = str(self.body.get(name) or "")
            if len(value) > _LONGEST_TEXT:
                text = f"The parameter `{name}` exceeds max length of {_LONGEST_TEXT}."
                code = f"validation.msg.{self.resource}.{name}.exceeds.max.length"
                self.faults.append(Fault(text, code, name, (_LONGEST_TEXT, value)))

    def required(self, name: str) -> None:
        """Notes when `name` is missing."""
        if self.body.get(name) in (None, ""):
            self._blank(name)

    def check(self) -> None:
        """Raises what was noted."""
        if self.faults:
            raise validation(*self.faults)

    def detail(self, host: MifosHost) -> PaymentDetail | None:
        """How it was paid, or None when the body says nothing about it. Raises 404 for an unknown payment type."""
        texts = [str(self.body.get(name) or "") for name in PAYMENT_TEXTS]
        kind: PaymentType | None = None
        if self.body.get("paymentTypeId") is not None:
            kind = _payment_type(host, self.body["paymentTypeId"])
        if kind is None and not any(texts):
            return None
        return PaymentDetail(kind, *texts)

    def echo(self, *names: str) -> dict[str, Any]:
        """The keys of `names` that were given, as `changes` repeats them."""
        return {name: self.body[name] for name in names if self.body.get(name) not in (None, "")}

    def _blank(self, name: str) -> None:
        text = f"The parameter `{name}` is mandatory."
        self.faults.append(Fault(text, f"validation.msg.{self.resource}.{name}.cannot.be.blank", name, ({},)))


def _payment_type(host: MifosHost, value: Any) -> PaymentType:
    number = decimal_of(value)
    found = host.payment_types.get(int(number)) if number is not None else None
    if found is None:
        text = f"PaymentType with {value} does not exist"
        raise not_found(Fault(text, "error.msg.payment.type.invalid", "id", (value,)))
    return found
