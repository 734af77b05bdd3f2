"""The TOML form of a price list: the list's fields first, then a [[bands]] table a band (docs/tariffs.md)."""

import json
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from vault_core.errors import InvalidInput
from vault_core.wallets.new_tariff import NewBand, NewTariff, amount_text, amounts_text, percent_text
from vault_core.wallets.tariff_fields import Cell, WrittenBand, WrittenTariff


def read_toml(content: str) -> WrittenTariff:
    """The list that `content` writes, each value with its line. Raises InvalidInput where it is not TOML, naming the line."""
    content = content.replace("\r\n", "\n")
    _parse(content)  # as a whole: what only shows there, such as a key written twice
    written = WrittenTariff()
    table: dict[str, Cell] | None = written.head
    for line, is_header, values in _statements(content):
        if not is_header:
            if table is not None:
                table |= {key: Cell(value, line) for key, value in values.items()}
        elif values == {"bands": [{}]}:
            written.bands.append(WrittenBand(line))
            table = written.bands[-1].cells
        else:
            written.faults.append(
                (line, "only [[bands]] stands in brackets, two on each side; the list's own fields come before it")
            )
            table = None  # what follows belongs to the table that is refused
    return written


def _statements(content: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """Each statement of a whole TOML document: its first line, whether it is a table's header, what it reads as by itself.

    tomllib tells no lines. But a statement ends with its line unless a string or array goes on, and then what there is of it
    does not parse: so the shortest run of lines that parses is the statement.
    """
    first, pending = 1, ""
    for number, line in enumerate(content.split("\n"), 1):
        pending = f"{pending}\n{line}" if pending else line
        try:
            values = tomllib.loads(pending, parse_float=Decimal)
        except tomllib.TOMLDecodeError:
            continue
        if values:
            yield first, pending.lstrip().startswith("["), values
        first, pending = number + 1, ""


def _parse(content: str) -> None:
    try:
        tomllib.loads(content, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f'is not TOML: {error}. Text stands in quotes: key = "value"') from None
    except (ValueError, RecursionError):
        raise InvalidInput("is not TOML that can be read: a number too long or lists too deep") from None


def write_toml(tariff: NewTariff) -> str:
    """The list as a file that reads back as the same list."""
    head = [
        ("provider", _quoted(tariff.provider)),
        ("product", _quoted(tariff.product)),
        ("valid_from", str(tariff.valid_from)),
        ("valid_to", str(tariff.valid_to) if tariff.valid_to else None),
        ("source", _quoted(tariff.source)),
        ("note", _quoted(tariff.note) if tariff.note else None),
        ("amounts", _quoted(amounts_text(tariff.step))),
        ("excise_percent", _quoted(percent_text(tariff.excise_rate_basis_points))),
        ("excise_included", _flag(tariff.excise_included)),
        ("rounding", _quoted(tariff.rounding)),
    ]
    tables = [_table(head), *(f"[[bands]]\n{_table(_band_fields(band))}" for band in tariff.bands)]
    return "\n".join(tables)


def _band_fields(band: NewBand) -> list[tuple[str, str | None]]:
    return [
        ("from", _quoted(amount_text(band.low))),
        ("to", _quoted(amount_text(band.high))),
        ("fee", None if band.rate_basis_points else _quoted(amount_text(band.fee))),
        ("customer_fee", _quoted(amount_text(band.customer_fee)) if band.customer_fee else None),
        ("percent", _quoted(percent_text(band.rate_basis_points)) if band.rate_basis_points else None),
        ("confirmed", None if band.confirmed else "false"),
        ("note", _quoted(band.note) if band.note else None),
    ]


def _table(fields: list[tuple[str, str | None]]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in fields if value is not None)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # printable text: JSON and TOML quote it alike


def _flag(value: bool) -> str:  # noqa: FBT001 - it writes one
    return "true" if value else "false"
