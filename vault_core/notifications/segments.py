"""How many parts a text is sent, and paid for, in (3GPP TS 23.038; reference/bank_sms_ledger.md section 2.3).

GSM-7 fits 160 units in a single message and 153 in each part of a longer one; the ten extension characters take two units and
do not split across parts. One character outside GSM-7 turns the whole text into UCS-2: 70 and 67 units, surrogate pairs unsplit.
"""

from collections.abc import Iterable

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
GSM7_CHARACTERS = _BASIC | _EXTENSION

_GSM7_SINGLE, _GSM7_PART = 160, 153
_UCS2_SINGLE, _UCS2_PART = 70, 67
_LAST_BMP = 0xFFFF


def is_gsm7(text: str) -> bool:
    """Whether `text` can be sent in the GSM 7-bit alphabet with its extension table."""
    return all(character in GSM7_CHARACTERS for character in text)


def units(text: str) -> int:
    """The septets (GSM-7) or UTF-16 code units (UCS-2) that `text` takes."""
    return sum(_widths(text))


def parts(text: str) -> int:
    """The messages that `text` is sent in; 0 for an empty text."""
    single, in_a_part = (_GSM7_SINGLE, _GSM7_PART) if is_gsm7(text) else (_UCS2_SINGLE, _UCS2_PART)
    total = units(text)
    if total <= single:
        return 1 if total else 0
    count, room = 0, 0
    for width in _widths(text):
        if width > room:
            count, room = count + 1, in_a_part
        room -= width
    return count


def _widths(text: str) -> Iterable[int]:
    if is_gsm7(text):
        return (2 if character in _EXTENSION else 1 for character in text)
    return (2 if ord(character) > _LAST_BMP else 1 for character in text)
