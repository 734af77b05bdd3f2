"""Chance that depends on what a thing is, never on when it came.

Every draw is a hash of the seed and of names that stay the same from run to run, so that the same seed gives the same
business outcome however the calls interleave.
"""

import hashlib

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def draw(seed: int, *names: object) -> int:
    """A 64-bit number that `names` always get under `seed`."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def fraction(seed: int, *names: object) -> float:
    """A number in [0, 1) that `names` always get under `seed`."""
    return draw(seed, *names) / 2**64


def letters(seed: int, length: int, *names: object) -> str:
    """`length` capitals and digits that `names` always get under `seed`."""
    number = int.from_bytes(hashlib.sha256("\x1f".join([str(seed), *(str(name) for name in names)]).encode()).digest(), "big")
    signs = []
    for _ in range(length):
        number, rest = divmod(number, len(_LETTERS))
        signs.append(_LETTERS[rest])
    return "".join(signs)
