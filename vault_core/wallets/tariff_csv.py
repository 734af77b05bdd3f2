"""The CSV form of a price list: a row a band, the list's own columns in the first row (docs/tariffs.md)."""

import csv
import io
from collections.abc import Iterator

from vault_core.errors import InvalidInput
from vault_core.wallets.new_tariff import NewTariff, amount_text, amounts_text, percent_text
from vault_core.wallets.tariff_fields import BAND, HEAD, Cell, WrittenBand, WrittenTariff

_BAND_NOTE = "band_note"  # `note` is the list's
_BAND_COLUMNS = {_BAND_NOTE if name == "note" else name: name for name in BAND}
COLUMNS = (*HEAD, *_BAND_COLUMNS)


def read_csv(content: str) -> WrittenTariff:
    """The list that `content` writes, each value with its line. Raises InvalidInput where it is not such a table."""
    rows = _rows(content)
    line, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    written = WrittenTariff(faults=[(line, fault) for fault in _header_faults(names)])
    if written.faults:
        return written
    for line, row in rows:
        if len(row) != len(names):
            written.faults.append(
                (line, f"has {len(row)} cells where the header has {len(names)}; put text with commas in quotes")
            )
            continue
        cells = {name: Cell(value.strip(), line) for name, value in zip(names, row, strict=True) if value.strip()}
        written.bands.append(WrittenBand(line, {_BAND_COLUMNS[name]: cells[name] for name in cells if name in _BAND_COLUMNS}))
        for name in (name for name in cells if name in HEAD):
            known = written.head.setdefault(name, cells[name])
            if known.value != cells[name].value:
                written.faults.append(
                    (
                        line,
                        f"{name} is {cells[name].value!r} here and {known.value!r} above; one file is one list: leave it empty",
                    )
                )
    return written


def _rows(content: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    first = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield first, row
            first = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"is not CSV: line {first}: {error}") from None


def _header_faults(names: list[str]) -> Iterator[str]:
    if len(names) == 1 and ";" in names[0]:
        yield "the columns are parted by semicolons; save the table with commas"
        return
    for place, name in enumerate(names):
        if name not in COLUMNS:
            yield f"column {name!r} is not known; there may be {', '.join(COLUMNS)}"
        elif name in names[:place]:
            yield f"column {name!r} stands twice; remove one"
    for name in COLUMNS:
        needed = HEAD[name].required if name in HEAD else BAND[_BAND_COLUMNS[name]].required
        if needed and name not in names:
            yield f"column {name!r} is missing"


def write_csv(tariff: NewTariff) -> str:
    """The list as a table that reads back as the same list."""
    head = [
        tariff.provider,
        tariff.product,
        str(tariff.valid_from),
        str(tariff.valid_to or ""),
        tariff.source,
        tariff.note,
        amounts_text(tariff.step),
        percent_text(tariff.excise_rate_basis_points),
        str(tariff.excise_included).lower(),
        tariff.rounding,
    ]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, band in enumerate(tariff.bands):
        rate = band.rate_basis_points
        writer.writerow(
            [
                *(head if place == 0 else [""] * len(head)),
                amount_text(band.low),
                amount_text(band.high),
                "" if rate else amount_text(band.fee),
                amount_text(band.customer_fee),
                percent_text(rate) if rate else "",
                str(band.confirmed).lower(),
                band.note,
            ]
        )
    return table.getvalue()
