"""A price list file, TOML or CSV, read into a NewTariff or refused with every fault in it: where, what, and what to do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vault_core.errors import InvalidInput
from vault_core.money import ZERO
from vault_core.wallets.new_tariff import NewBand, NewTariff, band_faults
from vault_core.wallets.tariff_csv import read_csv
from vault_core.wallets.tariff_fields import BAND, HEAD, Cell, Field, WrittenBand, WrittenTariff
from vault_core.wallets.tariff_toml import read_toml

_MOST_BYTES = 256 * 1024
_FORMS = {".toml": read_toml, ".csv": read_csv}

Faults = list[tuple[int, str]]


def load_tariff_file(path: Path) -> NewTariff:
    """The price list in the file. Raises InvalidInput, also where it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"the price list {path} cannot be read: {error.strerror}") from error
    return parse_tariff(path.name, content)


def parse_tariff(name: str, content: bytes) -> NewTariff:
    """The price list that `content` writes; `name` says by its ending, .toml or .csv, in which form.

    Raises InvalidInput with a line a fault: `name:line: what is wrong; what to do`.
    """
    read = _FORMS.get(Path(name).suffix.lower())
    if read is None:
        raise InvalidInput(f"{name} is neither a .toml nor a .csv file: name it by its form")
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"{name} is larger than {_MOST_BYTES // 1024} KiB: is it the right file?")
    try:
        text = content.decode("utf-8-sig")  # spreadsheets write a mark in front
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{name}:{line}: not UTF-8 text; save it as UTF-8") from None
    try:
        written = read(text)
    except InvalidInput as error:
        raise InvalidInput(f"{name} {error}") from None
    return _build(name, written)


def _build(name: str, written: WrittenTariff) -> NewTariff:
    faults = list(written.faults)
    head = _read_fields(written.head, HEAD, 1, "", faults)
    if head.get("valid_from") and head.get("valid_to") and head["valid_to"] <= head["valid_from"]:
        faults.append(
            (
                written.head["valid_to"].line,
                "valid_to is not after valid_from: it is the first day on which the list no longer holds",
            )
        )
    bands = [_read_band(band, faults) for band in written.bands]
    if not bands and not written.faults:
        faults.append((1, "there is no band; write at least one"))
    whole = [band for band in bands if band is not None]
    if len(whole) == len(bands) and head.get("amounts") and head.get("rounding"):
        for place, fault in band_faults(whole, head["amounts"], head["rounding"]):
            faults.append((written.bands[place].line, f"this band {fault}"))
    if faults:
        lines = "\n".join(f"  {name}:{line}: {fault}" for line, fault in sorted(faults))
        raise InvalidInput(f"the price list is not right:\n{lines}")
    step, excise = head.pop("amounts"), head.pop("excise_percent")
    return NewTariff(**head, step=step, excise_rate_basis_points=excise, bands=tuple(whole))


def _read_band(written: WrittenBand, faults: Faults) -> NewBand | None:
    """The band, or None if a field of it is missing or wrong."""
    before = len(faults)
    values = _read_fields(written.cells, BAND, written.line, "this band's ", faults)
    if len(faults) > before:
        return None
    if (values["fee"] is None) == (values["percent"] is None):
        faults.append((written.line, 'this band has both a fee and a percent, or neither; write one (fee = "0" if it is free)'))
    elif values["percent"] is not None and values["customer_fee"]:
        faults.append((written.line, "this band has a percent and a customer_fee; a band by rate has no customer's part"))
    if not values["confirmed"] and not values["note"]:
        faults.append((written.line, "this band is unconfirmed; write a note that says why"))
    return NewBand(
        low=values["from"],
        high=values["to"],
        fee=values["fee"] or ZERO,
        customer_fee=values["customer_fee"],
        rate_basis_points=values["percent"] or 0,
        confirmed=values["confirmed"],
        note=values["note"],
    )


def _read_fields(cells: Mapping[str, Cell], fields: Mapping[str, Field], line: int, of: str, faults: Faults) -> dict[str, Any]:
    """The value of each field; None for one that is wrong or, if it is required, missing."""
    for key in cells:
        if key not in fields:
            faults.append((cells[key].line, f"{of}field {_shown(key)} is not known; it may have {', '.join(fields)}"))
    values: dict[str, Any] = {}
    for key, field in fields.items():
        values[key] = field.default
        if key in cells:
            try:
                values[key] = field.read(cells[key].value)
            except InvalidInput as error:
                values[key] = None
                faults.append(
                    (cells[key].line, f"{of}{key} {_shown(cells[key].value)} {error}, for example {key} = {field.example}")
                )
        elif field.required:
            faults.append((line, f"{of}{key} is missing; write for example {key} = {field.example}"))
    return values


def _shown(value: Any) -> str:
    return repr(value[:60]) if isinstance(value, str) else str(value)[:60]
