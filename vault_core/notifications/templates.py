"""The texts, by template and language, and how values are put into them.

Every text stays in the GSM 7-bit alphabet, because one letter outside it would more than double the parts and their price:
values (names above all) are transliterated, and cut so that the length of a text is bounded by its template.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from vault_core.errors import InvalidInput
from vault_core.notifications.segments import GSM7_CHARACTERS, parts

DEFAULT_LANGUAGE = "en"
_LONGEST_VALUE = 60
_LONGEST_WHOLE = 480  # a top-up page under the longest portal address that settings take; the shares of one payment

# Written by keyboards and spreadsheets in names and amounts; none of these decomposes into a GSM-7 letter by itself.
_LOOKALIKES = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u0060": "'", "\u00b4": "'", "\u02bc": "'", "\u02b9": "'",
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"',
        "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
        "\u0142": "l", "\u0141": "L", "\u0111": "d", "\u0110": "D", "\u0131": "i", "\u0153": "oe", "\u0152": "OE", "\u00f0": "d",
        "\u00d0": "D", "\u00fe": "th", "\u00de": "Th", "\u2026": "...",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Template:
    """A text in each language it has. `{partner}` is always the partner's display name; the other fields are its values.

    `whole` are the fields that hold a link: it would be dead if it were cut as other values are.
    """

    name: str
    texts: Mapping[str, str]
    whole: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        """The values the caller must give."""
        named = {field for text in self.texts.values() for _, field, _, _ in Formatter().parse(text) if field}
        return frozenset(named - {"partner"})


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        # To the client whose loan was paid.
        Template(
            "loan_disbursed",
            {
                "en": "Dear {client_name}, {amount} of your loan {account} was sent to your M-Pesa. Receipt {receipt}. {partner}",
            },
        ),
        # To the partner's people.
        Template(
            "disbursement_done",
            {"en": "Loan {account} of {client_name}: {amount} paid. M-Pesa receipt {receipt}. Charges {charges}. {partner}"},
        ),
        Template("disbursement_failed", {"en": "Loan {account}: {amount} was NOT paid. {reason} {partner}"}),
        Template(
            "payouts_stopped",
            {
                "en": "{partner}: loan payouts are stopped, M-Pesa refuses your short code or its API user: {reason}. "
                "Nothing is lost: they go on once it is mended.",
            },
        ),
        Template(
            "float_short",
            {
                "en": "{partner}: loans wait, M-Pesa short code {short_code} has too little float: {waiting} for {needed}, "
                "{missing} missing. Buy float: they go by themselves once M-Pesa shows it.",
            },
        ),
        Template(
            "wallet_short",
            {
                "en": "{partner}: loans wait. Payment Vault wallet {available}, charges need {needed}: {missing} missing. "
                "Recommended top-up {top_up}. {pay_in}",
            },
            whole=frozenset({"pay_in"}),
        ),
        Template(
            "wallet_low",
            {
                "en": "{partner}: Payment Vault wallet {available}, under your {threshold}. "
                "Recommended top-up {top_up}. {pay_in}",
            },
            whole=frozenset({"pay_in"}),
        ),
        # Parts of the two above.
        Template("top_up_page", {"en": "Top up: {link}"}, whole=frozenset({"link"})),
        Template("pay_in_by_bank", {"en": "Pay in by bank transfer, quoting {name}."}),
        # To the client whose payment was posted.
        Template(
            "payment_received",
            {"en": "Received {amount} for {kind} {account}. Receipt {receipt}. New balance {balance}. Thank you. {partner}"},
        ),
        # The same where Mifos X did not tell the balance.
        Template(
            "payment_received_plain",
            {"en": "Received {amount} for {kind} {account}. Receipt {receipt}. Thank you. {partner}"},
        ),
        # The same for one that several accounts share: of each one sentence of the next.
        Template(
            "payment_shared",
            {"en": "Received {amount}. Receipt {receipt}: {shares}. Thank you. {partner}"},
            whole=frozenset({"shares"}),
        ),
        Template("payment_share", {"en": "{amount} for {kind} {account}, new balance {balance}"}),
        Template("payment_share_of_another", {"en": "{amount} for {kind} {account}"}),
    )
}


def render(template: str, values: Mapping[str, str], *, partner: str, language: str = DEFAULT_LANGUAGE) -> str:
    """The text of `template` with `values`, wholly in GSM-7. Values it does not use are ignored.

    A language it does not have falls back to English. Raises InvalidInput for an unknown template or a missing value.
    """
    known = TEMPLATES.get(template)
    if known is None:
        raise InvalidInput(f"no message template {template!r}: known are {', '.join(sorted(TEMPLATES))}")
    missing = known.fields - values.keys()
    if missing:
        raise InvalidInput(f"message template {template!r} lacks the values {', '.join(sorted(missing))}")
    text = known.texts.get(language) or known.texts[DEFAULT_LANGUAGE]
    plain = {
        name: plain_value(value, _LONGEST_WHOLE if name in known.whole else _LONGEST_VALUE)
        for name, value in {**values, "partner": partner}.items()
    }
    return text.format_map(plain).strip()


def parts_of(template: str, values: Mapping[str, str], *, partner: str = "", language: str = DEFAULT_LANGUAGE) -> int:
    """The parts that the text would take: for the SMS reserve, before there is a message.

    Without `partner` the longest display name is assumed. Raises as `render` does.
    """
    return parts(render(template, values, partner=partner or "X" * _LONGEST_VALUE, language=language))


def plain_value(value: str, longest: int = _LONGEST_VALUE) -> str:
    """`value` on one line, in GSM-7 only, at most `longest` characters: accents are dropped, what has no likeness becomes '?'."""
    alike = value.translate(_LOOKALIKES)
    kept = "".join(character if character in GSM7_CHARACTERS else _likeness(character) for character in alike)
    return " ".join(kept.split())[:longest].rstrip()


def _likeness(character: str) -> str:
    if character.isspace():
        return " "
    letters = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
    if letters and all(letter in GSM7_CHARACTERS for letter in letters):
        return "".join(letters)
    return "" if unicodedata.combining(character) else "?"
