"""What readers decide without a database: the base a balance is counted from, the names of accounts, tables as files."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import openpyxl
import pyarrow.parquet as pq
import pytest

from vault_core.errors import ConfigurationError, InvalidInput, NotFound
from vault_core.ledger.account_names import MEANINGS, account_name, account_named
from vault_core.ledger.as_of import KnownClosing, nearest_base
from vault_core.ledger.chart import CHART, AccountRef
from vault_core.ledger.table_files import TableColumn, table_file
from vault_core.money import Money

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ALPHA = UUID(int=7)
NAMES = {ALPHA: "alpha", UUID(int=8): "beta"}

COLUMNS = (
    TableColumn("at", "moment", "when"),
    TableColumn("leg", "count", "which"),
    TableColumn("amount", "cents", "how much"),
    TableColumn("words", "text", "what"),
)
ROWS = [
    (datetime(2026, 11, 24, 21, 30, 0, 5, tzinfo=UTC), 1, Money(-1_234_50), "=1+1"),
    (None, None, None, None),
    (NOW, 2, Money(10**15), 'a "b", c\nd'),
]


def test_without_a_closing_a_balance_is_counted_back_from_the_present() -> None:
    base = nearest_base(NOW - 300 * DAY, [], NOW)
    assert (base.closing, base.low, base.sign) == (None, NOW - 300 * DAY, -1)


def test_the_nearest_of_the_closings_and_the_present_is_the_base() -> None:
    before, after = KnownClosing(3, NOW - 20 * DAY), KnownClosing(4, NOW - 10 * DAY)
    late, early = nearest_base(NOW - 12 * DAY, [before, after], NOW), nearest_base(NOW - 19 * DAY, [before, after], NOW)
    assert (late.closing, late.low, late.high, late.sign) == (4, NOW - 12 * DAY, NOW - 10 * DAY, -1)
    assert (early.closing, early.low, early.high, early.sign) == (3, NOW - 20 * DAY, NOW - 19 * DAY, 1)
    assert nearest_base(NOW - DAY, [after], NOW).closing is None
    assert nearest_base(NOW - 8 * DAY, [after], NOW).closing == 4
    assert nearest_base(NOW + DAY, [after], NOW).closing is None


def test_an_instant_that_was_closed_is_its_closing() -> None:
    base = nearest_base(NOW - DAY, [KnownClosing(9, NOW - DAY)], NOW)
    assert (base.closing, base.low, base.high) == (9, NOW - DAY, NOW - DAY)


def test_accounts_have_names_and_names_have_accounts() -> None:
    for name, ref in {"alpha/wallet": AccountRef(ALPHA, "wallet"), "house/fees:mpesa": AccountRef(None, "fees:mpesa")}.items():
        assert account_named(name, NAMES) == ref
        assert account_name(ref, NAMES) == name
    assert account_name(AccountRef(UUID(int=9), "wallet"), NAMES) == f"{UUID(int=9)}/wallet"
    assert account_named("house/wallet", {ALPHA: "house"}) == AccountRef(ALPHA, "wallet")  # a partner may be called so


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("wallet", InvalidInput, "OWNER/ACCOUNT"),
        ("/wallet", InvalidInput, "OWNER/ACCOUNT"),
        ("gamma/wallet", NotFound, "belong to: house, alpha, beta"),
        ("alpha/fees:mpesa", NotFound, "it has: wallet, b2c_float"),
        ("house/wallet", NotFound, "it has: bank:settlement, fees:mpesa"),
        ("alpha/walet", NotFound, "no account 'walet'"),
    ],
)
def test_an_unknown_account_is_told_with_those_that_are_known(name: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        account_named(name, NAMES)


def test_every_account_of_the_chart_says_what_it_means() -> None:
    assert set(MEANINGS) == set(CHART)


def write(path: Path) -> bytes:
    with table_file(path, COLUMNS, workbook=True) as row:
        for one in ROWS:
            row(one)
    return path.read_bytes()


@pytest.mark.parametrize("ending", ["csv", "parquet", "xlsx"])
def test_the_same_rows_give_the_same_file_and_nothing_is_left_beside_it(tmp_path: Path, ending: str) -> None:
    assert write(tmp_path / f"a.{ending}") == write(tmp_path / f"b.{ending}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{ending}", f"b.{ending}"]


def test_a_csv_has_decimal_amounts_and_nairobi_times(tmp_path: Path) -> None:
    write(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["at", "leg", "amount", "words"],
        ["2026-11-25T00:30:00.000005+03:00", "1", "-1234.50", "=1+1"],
        ["", "", "", ""],
        ["2026-11-24T15:00:00.000000+03:00", "2", "10000000000000.00", 'a "b", c\nd'],
    ]


def test_a_parquet_has_integer_cents_and_says_what_its_columns_mean(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == ["at", "leg", "amount_cents", "words"]
    assert table.to_pylist()[0] == {"at": ROWS[0][0], "leg": 1, "amount_cents": -123_450, "words": "=1+1"}
    assert table.schema.field("words").metadata == {b"means": b"what"}
    assert str(table.schema.field("amount_cents").type) == "int64"


def test_a_table_of_no_rows_is_a_file_with_its_columns(tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "xlsx"):
        with table_file(tmp_path / f"t.{ending}", COLUMNS, workbook=True):
            pass
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 0
    assert (tmp_path / "t.csv").read_text() == "at,leg,amount,words\n"


def test_a_workbook_has_shillings_and_no_text_of_it_is_a_formula(tmp_path: Path) -> None:
    write(tmp_path / "t.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx")["lines"]
    assert [cell.value for cell in sheet[1]] == ["at", "leg", "amount (KES)", "words"]
    assert (sheet["B2"].value, sheet["C2"].value, sheet["D2"].value, sheet["D2"].data_type) == (1, -1234.5, "=1+1", "s")


def test_another_ending_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"can be \.csv, \.parquet$"), table_file(tmp_path / "t.xlsx", COLUMNS, workbook=False):
        pass


def test_a_table_that_breaks_off_leaves_the_file_that_stood_there(tmp_path: Path) -> None:
    before = write(tmp_path / "t.csv")
    too_few = ROWS[0][:2]
    with pytest.raises(ValueError, match="shorter"), table_file(tmp_path / "t.csv", COLUMNS, workbook=False) as row:
        row(too_few)
    assert (tmp_path / "t.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "xlsx"):
        path = tmp_path / "none" / f"t.{ending}"
        with pytest.raises(ConfigurationError, match="cannot be written"), table_file(path, COLUMNS, workbook=True):
            pass
