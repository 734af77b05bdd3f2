"""Kenyan mobile numbers: one written form, `2547XXXXXXXX` or `2541XXXXXXXX` (reference/bank_sms_ledger.md section 5.4)."""

import re

from vault_core.errors import InvalidInput

_SEPARATORS = re.compile(r"[\s().\-]")
_NORMAL = re.compile(r"254[17]\d{8}")
_VISIBLE = 3


def normalise_phone(text: str) -> str:
    """The one written form of a Kenyan mobile number.

    Takes 07.., 7.., +2547.., 002547.., 25407.. with spaces, dots, dashes and brackets. Raises InvalidInput for anything
    else, spreadsheet notation like 2.547E+11 above all: its digits are lost and must not be guessed.
    """
    if not text.isascii():
        raise InvalidInput("the phone number has characters that are not ASCII digits")
    digits = _SEPARATORS.sub("", text)
    if digits.startswith("+"):
        digits = digits[1:]
    elif digits.startswith("00"):
        digits = digits[2:]
    if re.fullmatch(r"0[17]\d{8}", digits):
        digits = "254" + digits[1:]
    elif re.fullmatch(r"[17]\d{8}", digits):
        digits = "254" + digits
    elif re.fullmatch(r"2540[17]\d{8}", digits):
        digits = "254" + digits[4:]
    if not _NORMAL.fullmatch(digits):
        raise InvalidInput(f"{mask_phone(text)} is not a Kenyan mobile number (expected 07.., 01.., +2547.. or +2541..)")
    return digits


def mask_phone(text: str) -> str:
    """The number as it may stand in logs and on screens: the last three digits only."""
    digits = re.sub(r"\D", "", text)
    return f"***{digits[-_VISIBLE:]}" if len(digits) > _VISIBLE * 2 else "***"
