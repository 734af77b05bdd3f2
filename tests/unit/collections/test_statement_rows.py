import csv
import io
from datetime import UTC, datetime

import pytest
import xlsxwriter

from vault_core.collections.statement_file import read_statement
from vault_core.collections.statement_rules import BadRow, NoPayment, StatementPayment, read_row
from vault_core.errors import InvalidInput
from vault_core.money import Money

COLUMNS = (
    "Receipt No.,Completion Time,Initiation Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Balance Confirmed,"
    "Reason Type,Other Party Info,Linked Transaction ID,A/C No.,Currency"
)
HEAD = "Organization,UMOJA\nShort Code,600100\nAccount,Utility Account\n\n"
ROW = {
    "receipt": "SKE7AB12C3",
    "at": "2026-11-20 10:15:00",
    "details": "Pay Bill from 25471****126 - JANE DOE Acc. 0012",
    "status": "Completed",
    "paid_in": "1,500.00",
    "withdrawn": "",
    "balance": "9,150.50",
    "reason": "Pay Bill Online",
    "party": "25471****126 - JANE DOE",
    "reference": " 0012 ",
    "currency": "KES",
}


def cells(**changes):
    one = ROW | changes
    return [
        one["receipt"], one["at"], one["at"], one["details"], one["status"], one["paid_in"], one["withdrawn"], one["balance"], "true",
        one["reason"], one["party"], "", one["reference"], one["currency"],
    ]  # fmt: skip


def line(**changes):
    return ",".join(f'"{cell}"' for cell in cells(**changes))


def read(content, short_code="600100"):
    return [read_row(row) for row in read_statement(content if isinstance(content, bytes) else content.encode(), short_code)]


def test_a_customers_payment_is_read_whole():
    assert read(f"{HEAD}{COLUMNS}\n{line()}\n") == [
        StatementPayment(
            line=6,
            receipt="SKE7AB12C3",
            amount=Money(1_500_00),
            at=datetime(2026, 11, 20, 7, 15, tzinfo=UTC),
            balance=Money(9_150_50),
            reference="0012",
            phone="25471****126",
            payer_name="JANE DOE",
        )
    ]


def test_an_old_download_is_read_by_its_own_columns():
    content = (
        "M-PESA statement\nReceipt,Date,Details,Status,Withdrawn,Paid In,Balance,Balance Confirmed,Transaction Type,Other Party Info,"
        'Transaction Party Details\nY29DW12700,2009-08-26 12:39:42,x,Completed,,200.00,"520,499.00",true,Pay Utility,'
        "0722926212 - CYNTHIA,LN1\n"
    )
    [payment] = read(content)
    assert (payment.receipt, payment.amount, payment.reference, payment.phone) == (
        "Y29DW12700",
        Money(200_00),
        "LN1",
        "0722926212",
    )


def test_the_same_rows_are_read_from_a_workbook_with_numbers_and_dates_in_its_cells():
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"default_date_format": "yyyy-mm-dd hh:mm:ss"}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Short Code", 600100])
        sheet.write_row(2, 0, COLUMNS.split(","))
        sheet.write_row(3, 0, cells(paid_in=1500.1, balance=9150.55))
        sheet.write_datetime(3, 1, datetime(2026, 11, 20, 10, 15))  # noqa: DTZ001 - a sheet's cells have no zone
    [payment] = read(file.getvalue())
    assert (payment.line, payment.amount, payment.balance) == (4, Money(1_500_10), Money(9_150_55))
    assert payment.at == datetime(2026, 11, 20, 7, 15, tzinfo=UTC)


# The portal's own layout, as an importer of real downloads reads it: six lines about the account, thirteen columns, days first.
PORTAL = [
    ["Account Holder:", "UMOJA CREDIT LTD"],
    ["Short Code:", "600100"],
    ["Account:", "Utility Account"],
    ["Time Period:", "", "From 10-11-2026 00:00:00", "", "To 20-11-2026 23:59:59"],
    ["Operator:", "jdoe", "", "", "", "Date of Report: 20-11-2026 12:36:39"],
    ["Opening Balance:", "0.00", "Closing Balance:", "8,700.00", "Available Balance:", "8,700.00", "Total Paid In:", "10,700.00"],
    COLUMNS.removesuffix(",Currency").split(","),
]
KINDS = ["Pay Utility", "Pay Bill Online", "Standing Order Pay Bill", "Pay Utility with OD via STK", "Pay Utility with OD Online"]


def portal_rows():
    paid = [
        cells(receipt=f"TKA5AY9DL{n}", at=f"1{n}-11-2026 10:15:00", reason=kind, reference="0012")[:13]
        for n, kind in enumerate(KINDS)
    ]
    out = cells(receipt="TKA5AY9DLX", at="19-11-2026 17:00:00", paid_in="", withdrawn="-2,000.00", reference="")[:13]
    out[3], out[9] = "Funds Transfer", "Utility Account to Organization Settlement Account"
    return [*PORTAL, *reversed(paid), out, ["", "", "", "Totals", "", "7,500.00", "-2,000.00"]]


def assert_portal(rows):
    payments = [one for one in rows if isinstance(one, StatementPayment)]
    assert [one.receipt for one in payments] == [f"TKA5AY9DL{n}" for n in (4, 3, 2, 1, 0)]
    assert payments[-1].at == datetime(2026, 11, 10, 7, 15, tzinfo=UTC)
    assert {(one.amount, one.reference, one.phone, one.payer_name) for one in payments} == {
        (Money(1_500_00), "0012", "25471****126", "JANE DOE")
    }
    others = [one.kind for one in rows if isinstance(one, NoPayment)]
    assert others == ["Utility Account to Organization Settlement Account", "lines of no transaction"]
    assert len(rows) == len(payments) + len(others)


def test_the_portals_own_download_is_read_with_all_that_stands_around_its_rows():
    text = io.StringIO(newline="")
    csv.writer(text).writerows(portal_rows())
    assert_portal(read(text.getvalue()))
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet("Organization Statement")
        for place, row in enumerate(portal_rows()):
            sheet.write_row(place, 0, row)
    assert_portal(read(file.getvalue()))


def test_kind_and_reference_are_read_from_the_details_where_their_columns_are_missing_or_empty():
    [first] = read(
        f"{HEAD}{COLUMNS}\n{line(reason='', reference='', details='Pay Bill from 25471****126 - J DOE Acc. school fee')}\n"
    )
    assert isinstance(first, StatementPayment)
    assert first.reference == "school fee"
    payerless = line(reason="", reference="", details="Pay Bill Online Acc. school fee")
    [second] = read(f"{HEAD}{COLUMNS}\n{payerless}\n")
    assert isinstance(second, StatementPayment)
    assert second.reference == "school fee"
    short = "Receipt No.,Completion Time,Initiation Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Other Party Info"
    row = 'SKE7AB12C3,22-09-2026 14:03:11,x,"Pay Bill from 2547****678 - Acc. R-000001",Completed,"1,053.00",,1.00,2547****678 - ANN'
    charge = "SKE7AB12C4,22-09-2026 14:05:00,x,Pay Bill Charge,Completed,1.00,,0.00,"
    payment, passed = read(f"{short}\n{row}\n{charge}\n")
    assert (payment.reference, payment.amount, type(passed)) == ("R-000001", Money(1_053_00), NoPayment)


@pytest.mark.parametrize(
    "told", ["Short Code:,600101", "Shortcode: 600101 - UMOJA", "Paybill,600101", "Organization Short Code,600101"]
)
def test_a_statement_of_another_pay_bill_is_refused_however_it_is_labelled(told):
    assert read(f"{told.replace('600101', '600100')}\n{COLUMNS}\n") == []
    with pytest.raises(InvalidInput, match="is of short code '600101"):
        read(f"{told}\n{COLUMNS}\n")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"paid_in": "", "withdrawn": "-1,500.00", "reason": "Business Payment to Customer via API"}, "Business Payment"),
        ({"reason": "Pay Bill Charge", "paid_in": "", "withdrawn": "-10.00"}, "Pay Bill Charge"),
        ({"reason": "Pay Bill Reversal"}, "Pay Bill Reversal"),
        ({"reason": "Organization Settlement Transfer"}, "Organization Settlement"),
        ({"reason": "Business Pay Bill"}, "Business Pay Bill"),
        ({"reason": "Business Buy Goods"}, "Business Buy Goods"),
        ({"reason": "Organization Pay Bill Online"}, "Organization Pay Bill"),
        ({"reason": "Merchant to Merchant Payment Online"}, "Merchant to Merchant"),
        ({"reason": "B2B Pay Bill"}, "B2B Pay Bill"),
        ({"reason": "", "details": "Business Pay Bill from 600999 - UMOJA OTHER Acc. 0012"}, "of no stated kind"),
        ({"status": "Declined"}, "declined transactions"),
        ({"status": "Cancelled", "at": ""}, "cancelled transactions"),
    ],
)
def test_what_is_no_payment_of_a_customer_is_passed_by_in_the_statements_words(changes, kind):
    [other] = read(f"{HEAD}{COLUMNS}\n{line(**changes)}\n")
    assert isinstance(other, NoPayment)
    assert kind in other.kind


def test_a_customers_payment_is_one_whatever_the_lender_and_the_payer_are_called():
    details = "Pay Bill from 25471****126 - BUSINESS ANN Acc. ORGANIZATION TRANSFER"
    to = "Pay Bill to 600100 - UMOJA BUSINESS CREDIT Acc. 0012"
    for changes in ({"reason": "", "details": details}, {"reason": "", "details": to}):
        [payment] = read(f"{HEAD}{COLUMNS}\n{line(**changes)}\n")
        assert isinstance(payment, StatementPayment), changes


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"receipt": ""}, "'' is no receipt number"),
        ({"receipt": "2.5E+11"}, "is no receipt number"),
        ({"at": "yesterday"}, "completion time is 'yesterday'"),
        ({"at": "2026-02-30 10:00:00"}, "completion time"),
        ({"at": "1999-02-20 10:00:00"}, "before M-Pesa began"),
        ({"paid_in": "1.5E+3"}, "paid in: amount '1.5E+3' is not a plain decimal"),
        ({"paid_in": "10.005"}, "fraction of a cent"),
        ({"paid_in": "15,00"}, "paid in: amount '15,00' has a comma that stands between no thousands"),
        ({"paid_in": "1,50,000.00"}, "has a comma that stands between no thousands"),
        ({"paid_in": "", "withdrawn": ""}, "neither money paid in nor withdrawn"),
        ({"status": ""}, "no transaction status"),
        ({"currency": "USD"}, "not KES"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line_and_cause_without_phone_or_name(changes, cause):
    good, bad = read(f"{HEAD}{COLUMNS}\n{line()}\n{line(**changes)}\n")
    assert isinstance(good, StatementPayment)
    assert isinstance(bad, BadRow)
    assert bad.line == 7
    assert cause in bad.cause
    assert "JANE" not in bad.cause
    assert "126" not in bad.cause


def test_a_row_that_was_cut_off_is_bad_and_an_empty_line_is_nothing():
    [bad] = read(f'{HEAD}{COLUMNS}\n\n{line()[:60]}"\n\n,,,\n')
    assert bad.cause == "it has fewer cells than there are columns"


def test_a_balance_that_cannot_be_read_does_not_cost_the_payment():
    [payment] = read(f"{HEAD}{COLUMNS}\n{line(balance='n/a')}\n")
    assert payment.balance is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has the column Receipt No."),
        (b"a,b\nc,d\n", "no line of the first 2 has the column"),
        (b"\n" * 100, "no line of the first 40"),
        (b"Short Code,600101\n", "line 1: the statement is of short code '600101', the partner's pay bill is 600100"),
        (COLUMNS.replace("Paid In", "In").encode(), "line 1 has the columns of a statement but lacks: paid in"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel file"),
        (b"PK\x03\x04rest", "cannot be read as XLSX"),
        (b"Receipt No.\xff\n", "line 1: the file is neither UTF-8 text nor XLSX"),
        (b"a\x00b", "NUL"),
        (f'{COLUMNS}\n"unclosed'.encode(), "the file is not CSV from here on"),
    ],
)
def test_another_file_is_refused_with_the_line(content, why):
    with pytest.raises(InvalidInput, match=why):
        read(content)
