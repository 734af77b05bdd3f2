"""How many parts a text is sent in: GSM-7 or UCS-2 (3GPP 23.038, 23.040)."""

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("^{}\\[~]|€\f")  # two units each, never split over two parts


def part_count(text: str) -> int:
    """The parts of `text`; none for an empty one."""
    if not text:
        return 0
    if all(sign in _BASIC or sign in _EXTENSION for sign in text):
        return _parts([2 if sign in _EXTENSION else 1 for sign in text], single=160, joined=153)
    return _parts([2 if ord(sign) > 0xFFFF else 1 for sign in text], single=70, joined=67)


def _parts(units: list[int], *, single: int, joined: int) -> int:
    if sum(units) <= single:
        return 1
    parts, used = 1, 0
    for unit in units:
        if used + unit > joined:
            parts, used = parts + 1, 0
        used += unit
    return parts
