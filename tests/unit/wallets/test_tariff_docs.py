import re
from pathlib import Path

from vault_core.wallets.tariff_csv import COLUMNS
from vault_core.wallets.tariff_fields import BAND, HEAD
from vault_core.wallets.tariff_file import parse_tariff

PAGE = (Path(__file__).parents[3] / "docs" / "tariffs.md").read_text(encoding="utf-8")


def example(form: str) -> bytes:
    (found,) = re.findall(rf"```{form}\n(.*?)```", PAGE, re.DOTALL)
    return found.encode()


def test_the_documented_examples_are_one_list_in_two_forms_but_for_the_note() -> None:
    toml, csv = (parse_tariff(f"next.{form}", example(form)) for form in ("toml", "csv"))
    assert len(toml.bands) == 3
    assert toml.bands == csv.bands
    assert (toml.source, toml.valid_from, toml.step) == (csv.source, csv.valid_from, csv.step)


def test_every_field_is_documented() -> None:
    for name in (*HEAD, *BAND, *COLUMNS):
        assert re.search(rf"\b{name}\b", PAGE), name
