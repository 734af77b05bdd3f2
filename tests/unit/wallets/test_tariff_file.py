"""Every way in which a price list file can be wrong, in both forms, and what it is told."""

from datetime import date

import pytest

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.wallets.new_tariff import NewBand, NewTariff
from vault_core.wallets.tariff_file import load_tariff_file, parse_tariff

TOML = """\
# The next list.
provider = "safaricom"
product = "b2c"
valid_from = 2027-01-01
source = "form of 2026"
amounts = "shillings"
excise_percent = "15"
excise_included = true
rounding = "half_up_cent"

[[bands]]
from = "1"
to = "100"
fee = "0"

[[bands]]
from = 101
to = 1500
fee = "5.50"
confirmed = false
note = "carried on"
"""
CSV = """\
provider,product,valid_from,valid_to,source,note,amounts,excise_percent,excise_included,rounding,from,to,fee,customer_fee,percent,confirmed,band_note
safaricom,b2c,2027-01-01,,form of 2026,,shillings,15,true,half_up_cent,1,100,0,,,,
,,,,,,,,,,101,1500,5.50,,,false,carried on
"""
EXPECTED = NewTariff(
    provider="safaricom",
    product="b2c",
    valid_from=date(2027, 1, 1),
    valid_to=None,
    source="form of 2026",
    note="",
    step=Money(100),
    excise_rate_basis_points=1_500,
    excise_included=True,
    rounding="half_up_cent",
    bands=(
        NewBand(Money(1_00), Money(100_00)),
        NewBand(Money(101_00), Money(1_500_00), fee=Money(5_50), confirmed=False, note="carried on"),
    ),
)


def refusal(content: str | bytes, name: str = "next.toml") -> str:
    with pytest.raises(InvalidInput) as refused:
        parse_tariff(name, content if isinstance(content, bytes) else content.encode())
    return str(refused.value)


@pytest.mark.parametrize(("name", "content"), [("next.toml", TOML), ("next.csv", CSV)])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_both_forms_read_as_the_same_list(name: str, content: str, mark: bytes, line_end: str) -> None:
    assert parse_tariff(name, mark + content.replace("\n", line_end).encode()) == EXPECTED


FAULTS = {  # what is replaced in TOML, by what, the line it is told of, what is told
    "an unknown field": ('source = "form', 'sauce = "x"\nsource = "form', 5, "field 'sauce' is not known; it may have provider"),
    "an unknown field of a band": ('fee = "0"', 'fees = "0"\nfee = "0"', 14, "field 'fees' is not known"),
    "a missing field": ('product = "b2c"\n', "", 1, 'product is missing; write for example product = "b2c"'),
    "a missing end of a band": ('to = "100"\n', "", 11, "this band's to is missing"),
    "neither fee nor percent": ('fee = "0"\n', "", 11, "both a fee and a percent, or neither"),
    "both fee and percent": ('fee = "0"', 'fee = "0"\npercent = "15"', 11, "both a fee and a percent, or neither"),
    "a rate with a customer's part": ('fee = "0"', 'percent = "15"\ncustomer_fee = "1"', 11, "has no customer's part"),
    "a float": ('fee = "0"', "fee = 0.5", 14, "fee 0.5 is not exact; write a whole number, or decimal text in quotes"),
    "not a number": ('fee = "0"', "fee = nan", 14, "is not exact"),
    "a flag as an amount": ('fee = "0"', "fee = false", 14, "fee False is not exact"),
    "a list as an amount": ('fee = "0"', 'fee = [\n"0"\n]', 14, "is not an amount"),
    "a separator in an amount": ('to = "100"', 'to = "1,00"', 13, "to '1,00' is not an amount in shillings"),
    "a third decimal": ('fee = "5.50"', 'fee = "5.505"', 19, "fee '5.505' is not an amount in shillings"),
    "a negative fee": ('fee = "5.50"', 'fee = "-5"', 19, "fee '-5' is negative; no fee or amount is"),
    "a negative amount": ("from = 101", "from = -1", 17, "is negative"),
    "cents among whole shillings": ('to = "100"', 'to = "100.50"', 11, "has cents in `from` or `to`; write whole shillings"),
    "fee with cents, rounded to shillings": ("half_up_cent", "up_shilling", 16, "has a fee with cents"),
    "a gap": ("from = 101", "from = 150", 16, "leaves a gap from 101 to 149 that no band covers; begin it at 101"),
    "an overlap": ("from = 101", "from = 60", 16, "overlaps the one before from 60 to 100; begin it at 101"),
    "unsorted bands": ('from = "1"\nto = "100"', 'from = "2000"\nto = "2100"', 16, "sort the bands by `from`"),
    "the same band twice": ("from = 101", "from = 1", 16, "not after the one before (1)"),
    "a band that ends before it begins": ("to = 1500", "to = 50", 16, "ends at 50, before it begins at 101"),
    "unconfirmed without a reason": ('note = "carried on"\n', "", 16, "is unconfirmed; write a note that says why"),
    "a day that is none": ("2027-01-01", '"2027-02-30"', 4, "valid_from '2027-02-30' is not a day"),
    "a day in another order": ("2027-01-01", '"01/01/2027"', 4, "is not a day; write it as year-month-day"),
    "a week": ("2027-01-01", '"2027-W01-1"', 4, "is not a day"),
    "a moment for a day": ("2027-01-01", "2027-01-01T00:00:00Z", 4, "is not a day"),
    "an end before the beginning": ("source", "valid_to = 2026-12-31\nsource", 5, "valid_to is not after valid_from"),
    "an end on the beginning": ("source", "valid_to = 2027-01-01\nsource", 5, "valid_to is not after valid_from"),
    "an unknown rounding": ("half_up_cent", "bankers", 9, "'bankers' is not a rounding; write one of half_up_cent"),
    "an unknown unit": ('"shillings"', '"pounds"', 6, 'is neither "shillings"'),
    "a percentage above a hundred": ('"15"', '"101"', 7, "is not a percentage from 0 to 100"),
    "a percentage with a sign": ('"15"', '"15 %"', 7, "is not a percentage"),
    "a flag that is none": ("excise_included = true", "excise_included = 1", 8, "is neither true nor false"),
    "a name in capitals": ('"safaricom"', '"Safaricom"', 2, "is not a name; write small letters"),
    "an empty source": ('"form of 2026"', '" "', 5, "is not a line of text"),
    "a source of many lines": ('"form of 2026"', '"""form\nof 2026"""', 5, "is not a line of text"),
    "one bracket for bands": ("[[bands]]\nfrom = 101", "[band]\nfrom = 101", 16, "only [[bands]] stands in brackets"),
    "an unknown table": ("# The next list.", "[excise]", 1, "only [[bands]] stands in brackets"),
    "bands as one value": ("# The next list.", "bonds = [{from = 1}]", 1, "field 'bonds' is not known"),
}


@pytest.mark.parametrize(("old", "new", "line", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_told_with_file_line_and_remedy(old: str, new: str, line: int, told: str) -> None:
    assert old in TOML
    message = refusal(TOML.replace(old, new, 1))
    assert any(part.startswith(f"  next.toml:{line}: ") and told in part for part in message.splitlines()), message


def test_the_line_of_a_value_that_follows_a_long_text_is_right() -> None:
    long_text = 'note = """\na = [\n[[bands]]\n\\"""\n"""'
    message = refusal(TOML.replace("# The next list.", long_text, 1).replace('fee = "5.50"', "fee = 5.5", 1))
    assert "next.toml:1: note" in message
    assert "next.toml:23: this band's fee 5.5" in message


def test_all_faults_are_told_at_once_in_the_order_of_their_lines() -> None:
    wrong = TOML.replace('"15"', '"150"', 1).replace('fee = "0"', "fee = 0.1", 1).replace('product = "b2c"\n', "", 1)
    lines = [int(part.split(":")[1]) for part in refusal(wrong).splitlines()[1:]]
    assert lines == [1, 6, 13]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('provider = "a"\nprovider = "b"\n', "line 2"),
        ("provider = safaricom\n", "line 1"),
        ('provider = "a\n', "line 1"),
        (f"excise_percent = {'9' * 5_000}\n", "a number too long"),
    ],
    ids=["a key twice", "no quotes", "an open string", "a number too long"],
)
def test_what_is_not_toml_is_told_with_its_line(content: str, told: str) -> None:
    assert told in refusal(content)


def test_a_list_without_bands_is_refused() -> None:
    assert "there is no band" in refusal(TOML[: TOML.index("[[bands]]")])


CSV_FAULTS = {
    "an unknown column": ("band_note", "remark", 1, "column 'remark' is not known; there may be provider"),
    "a column twice": ("customer_fee,percent", "fee,percent", 1, "column 'fee' stands twice"),
    "a missing column": (",from,", ",band_note,", 1, "column 'from' is missing"),
    "semicolons": ("provider,product", "provider;product", 1, "is not known"),
    "a row too long": (",5.50,", ",5,50,", 3, "has 18 cells where the header has 17; put text with commas in quotes"),
    "another list in a row": ("\n,,,", "\n,b2b,,", 3, "product is 'b2b' here and 'b2c' above; one file is one list"),
    "a missing value": ("safaricom,b2c,2027-01-01", "safaricom,b2c,", 1, "valid_from is missing"),
    "a negative fee": ("5.50", "-5", 3, "fee '-5' is negative"),
    "a gap": (",101,", ",150,", 3, "leaves a gap from 101 to 149"),
    "a wrong date": ("2027-01-01", "1/1/2027", 2, "valid_from '1/1/2027' is not a day"),
    "a wrong flag": ("15,true", "15,yes", 2, "excise_included 'yes' is neither true nor false"),
    "a number as a spreadsheet writes it": ("1500,5.50", "1.5E+03,5.50", 3, "to '1.5E+03' is not an amount"),
}


@pytest.mark.parametrize(("old", "new", "line", "told"), CSV_FAULTS.values(), ids=CSV_FAULTS.keys())
def test_a_fault_in_a_table_is_told_with_its_line(old: str, new: str, line: int, told: str) -> None:
    assert old in CSV
    message = refusal(CSV.replace(old, new, 1), "next.csv")
    assert any(part.startswith(f"  next.csv:{line}: ") and told in part for part in message.splitlines()), message


def test_a_table_with_semicolons_is_told_so() -> None:
    assert "the columns are parted by semicolons" in refusal(CSV.replace(",", ";"), "next.csv")


def test_an_open_quote_in_a_table_is_told_with_its_line() -> None:
    assert "line 3" in refusal(CSV.replace("carried on", '"carried on'), "next.csv")


def test_the_line_of_a_row_after_a_text_of_two_lines_is_its_own() -> None:
    two_lines = CSV.replace("carried on\n", '"carried\non"\n,,,,,,,,,,1501,x,9,,,,\n')
    assert "next.csv:5: this band's to 'x'" in refusal(two_lines, "next.csv")


def test_an_empty_table_is_refused() -> None:
    assert "column 'provider' is missing" in refusal("", "next.csv")


def test_rows_without_a_value_are_passed_over() -> None:
    assert parse_tariff("next.csv", (CSV + ",,,,,,,,,,,,,,,,\n\n").encode()) == EXPECTED


def test_a_file_that_is_no_text_names_the_line() -> None:
    assert refusal(b"provider = 'a'\n# caf\xe9\n") == "next.toml:2: not UTF-8 text; save it as UTF-8"


def test_a_file_of_another_form_or_size_or_none_is_refused(tmp_path) -> None:
    assert "neither a .toml nor a .csv file" in refusal("", "prices.xlsx")
    assert "larger than 256 KiB" in refusal("#" * (256 * 1024 + 1))
    with pytest.raises(InvalidInput, match=r"absent.toml cannot be read: No such file"):
        load_tariff_file(tmp_path / "absent.toml")
