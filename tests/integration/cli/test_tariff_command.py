"""`vault tariff` as a person runs it: exit codes, what is printed, the JSON's keys."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vault_core.wallets.tariff_file import load_tariff_file

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "vault_core" / "wallets" / "price_lists"
NEXT = """\
provider = "safaricom"
product = "b2c"
valid_from = 2031-01-01
source = "form of 2030"
amounts = "shillings"
excise_percent = "15"
excise_included = true
rounding = "half_up_cent"

[[bands]]
from = "1"
to = "1500"
fee = "6"

[[bands]]
from = "1501"
to = "250000"
fee = "14"
confirmed = false
note = "carried on"
"""

Vault = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vault(database_url: str, tmp_path: Path) -> Vault:
    environment = {
        "PATH": os.environ["PATH"],
        "VAULT_HOME": str(tmp_path / "home"),
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
        "NO_COLOR": "1",
        "COLUMNS": "250",
    }

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "import typer; from vault_cli import tariff; tariff.app()", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def next_list(tmp_path: Path) -> Path:
    file = tmp_path / "next.toml"
    file.write_text(NEXT, encoding="utf-8")
    return file


def test_the_next_list_is_tried_imported_compared_and_taken_back(vault: Vault, next_list: Path) -> None:
    tried = vault("import", next_list, "--dry-run")
    assert (tried.returncode, tried.stderr) == (0, "")
    assert "safaricom b2c of 2031-01-01 would be imported, with 2 bands" in tried.stdout
    assert "1 unconfirmed: no source states them" in tried.stdout
    assert "the list of 2023-08-01 would be ended by it" in tried.stdout
    assert "101 to 1500: 5 -> 6" in tried.stdout
    assert "dry run: nothing was changed" in tried.stdout
    assert "2031" not in vault("list").stdout

    done = json.loads(vault("import", next_list, "--json").stdout)
    assert (done["ended"], done["repeated"], done["dry_run"], done["unconfirmed_bands"]) == ("2023-08-01", False, False, 1)
    assert {"what": "101 to 1500", "before": "5", "after": "6"} in done["changes"]
    assert "stands already with the same content: nothing changed" in vault("import", next_list).stdout

    compared = vault("diff", "safaricom", "b2c", "2030-12-31", "2031-01-01")
    assert compared.returncode == 1
    assert "differences to safaricom b2c of 2023-08-01:" in compared.stdout

    next_list.write_text(NEXT.replace('"14"', '"15"'), encoding="utf-8")
    refused = vault("import", next_list)
    assert refused.returncode == 4
    assert "1501 to 250000: 14, unconfirmed (carried on) -> 15, unconfirmed (carried on)" in refused.stderr
    assert vault("diff", next_list).returncode == 1

    back = vault("withdraw", "safaricom", "b2c", "2031-01-01", "--reason", "wrong fee")
    assert back.returncode == 0
    assert "the list of 2023-08-01 holds on until further notice" in back.stdout
    assert vault("import", next_list).returncode == 0


def test_what_is_shipped_does_not_differ_from_its_files(vault: Vault) -> None:
    for name in ("safaricom_b2c_2023-08-01.toml", "safaricom_c2b_mgao_2023-08-01.toml"):
        same = vault("diff", SHIPPED / name)
        assert (same.returncode, same.stderr) == (0, "")
        assert "no difference to safaricom" in same.stdout


def test_unconfirmed_bands_are_shown_so(vault: Vault) -> None:
    listed = vault("list", "--on", "2026-11-24").stdout
    assert listed.count("1 unconfirmed") == 3
    shown = vault("show", "safaricom", "b2c", "--on", "2026-11-24").stdout
    (line,) = [line for line in shown.splitlines() if "unconfirmed" in line]
    assert "150,001.00" in line
    assert "the form stops at 150,000" in line


def test_a_customers_part_is_shown_where_there_is_one(vault: Vault) -> None:
    assert "customer pays" in vault("show", "safaricom", "c2b_mgao").stdout
    assert "customer pays" not in vault("show", "safaricom", "b2c").stdout


def test_the_json_of_list_and_show_has_its_documented_keys(vault: Vault) -> None:
    (listed,) = json.loads(vault("list", "--product", "b2c", "--json").stdout)
    assert list(listed) == [
        "provider", "product", "valid_from", "valid_to", "bands", "unconfirmed_bands", "excise_basis_points", "excise_included",
        "rounding", "source", "note", "imported_by",
    ]  # fmt: skip
    shown = json.loads(vault("show", "safaricom", "b2c", "--json").stdout)
    assert list(shown["bands"][0]) == [
        "id", "from_cents", "to_cents", "fee_cents", "customer_fee_cents", "rate_basis_points", "confirmed", "note",
    ]  # fmt: skip
    assert len(shown["bands"]) == listed["bands"] == 14


@pytest.mark.parametrize("form", ["toml", "csv"])
def test_a_list_is_written_out_as_the_file_that_it_came_from(vault: Vault, tmp_path: Path, form: str) -> None:
    written = tmp_path / f"out.{form}"
    written.write_text(vault("show", "safaricom", "c2b_mgao", "--as", form).stdout, encoding="utf-8")
    assert load_tariff_file(written) == load_tariff_file(SHIPPED / "safaricom_c2b_mgao_2023-08-01.toml")


def test_a_list_is_ended_and_days_after_it_have_none(vault: Vault) -> None:
    ended = vault("end", "safaricom", "c2b_mgao", "2031-01-01", "--reason", "product gone", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["valid_to"]) == (0, "2031-01-01")
    assert vault("show", "safaricom", "c2b_mgao", "--on", "2030-12-31").returncode == 0
    after = vault("show", "safaricom", "c2b_mgao", "--on", "2031-01-01")
    assert after.returncode == 4
    assert "no safaricom c2b_mgao tariff holds on 2031-01-01" in after.stderr


def test_a_wrong_file_day_or_number_of_words_ends_with_2(vault: Vault, next_list: Path) -> None:
    next_list.write_text(NEXT.replace('from = "1501"', 'from = "1601"'), encoding="utf-8")
    for arguments in (["import", next_list], ["diff", next_list]):
        refused = vault(*arguments)
        assert refused.returncode == 2
        assert "next.toml:15: this band leaves a gap from 1501 to 1600" in refused.stderr
    assert vault("list", "--on", "24.11.2026").returncode == 2
    assert vault("diff", "safaricom", "b2c").returncode == 2
    assert vault("diff", "safaricom", "b2c", "2026-11-24", "soon").returncode == 2
