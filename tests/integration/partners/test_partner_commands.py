"""`vault partner ...` from the command line to the database and back."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from tests.unit.partners.test_security_credential import KEY as INITIATORS_KEY
from tests.unit.partners.test_security_credential import certificate
from vault_cli.partner import app

KEY = f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}"


@pytest.fixture
def vault(database_url, monkeypatch):
    """Runs a command; gives its result."""
    for name, value in {
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:9",
        "VAULT_MASTER_KEY": KEY,
        "VAULT_PUBLIC_URL": "http://127.0.0.1:8000",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments, given=None: CliRunner().invoke(app, list(arguments), input=given)


@pytest.fixture
def partner_file(tmp_path, outside):
    sample = (Path(__file__).parents[2] / "data" / "partners" / "umoja.toml").read_text()
    sample = sample.replace("https://mifos.example.co.ke", outside.url).replace("https://api.safaricom.co.ke", outside.url)
    path = tmp_path / "partner.toml"
    path.write_text(sample)
    return str(path)


def test_a_partner_is_added_shown_limited_paused_and_resumed(vault, partner_file):
    added = vault("add", partner_file)
    assert added.exit_code == 0, added.stderr
    assert "Biashara" in added.stdout
    shown = json.loads(vault("show", "umoja-credit", "--json").stdout)
    assert shown["capabilities"] == {
        "status_filter": True,
        "idempotency": True,
        "loan_external_ids": True,
        "savings_external_ids": True,
        "version": None,
        "external_id_paths": True,
    }
    assert {"c2b_validation", "c2b_confirmation", "b2c_result", "b2c_timeout", "mifos_hook"} <= shown["callback_urls"].keys()
    assert shown["contacts"] == [{"role": "operations", "name": "A. P.", "phone": "***678"}]
    assert (
        vault("enable", "umoja-credit", "Biashara", "--min", "1000", "--max", "50000", "--daily-limit", "2000000").exit_code == 0
    )
    products = json.loads(vault("products", "umoja-credit", "--refresh", "--json").stdout)
    assert (products[0]["enabled"], products[0]["min_cents"], products[0]["daily_limit_cents"]) == (True, 100_000, 200_000_000)
    assert vault("disable", "umoja-credit", "1").exit_code == 0
    assert vault("pause", "umoja-credit", "--reason", "audit").exit_code == 0
    assert json.loads(vault("list", "--json").stdout)[0]["state_reason"] == "audit"
    assert "paused: audit" in vault("show", "umoja-credit").stdout
    assert vault("resume", "umoja-credit").exit_code == 0
    assert vault("hook", "umoja-credit").exit_code == 0
    assert vault("register-urls", "umoja-credit").exit_code == 0


def test_a_partner_can_be_added_by_answering_and_a_wrong_answer_is_asked_again(vault, outside):
    answers = [
        "Umoja Credit", "umoja-credit", "Umoja Credit Ltd", f"{outside.url}", "default", "paymentvault", "planted-mifos-password", "",
        outside.url, "key", "secret", "vaultapi", "credential", "", "3000001", "600001", "", outside.url, "umoja", "apikey", "UMOJA", "0.80",
        "50", "", "", "", "", "", "Achieng Planted", "0712345678", "n",
    ]  # fmt: skip
    done = vault("add", given="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    assert "'Umoja Credit' is not a name for commands" in done.stdout
    assert "planted-mifos-password" not in done.output
    assert json.loads(vault("list", "--json").stdout)[0]["name"] == "umoja-credit"


def test_a_refused_login_asks_for_mifos_again_and_keeps_the_other_answers(vault, outside):
    mifos = [f"{outside.url}", "default", "paymentvault"]
    rest = [
        outside.url, "key", "secret", "vaultapi", "credential", "", "3000001", "600001", "", outside.url, "umoja", "apikey", "UMOJA", "0.80",
        "50", "", "", "", "", "", "Achieng Planted", "0712345678", "n",
    ]  # fmt: skip
    wrong = ["umoja-credit", "Umoja Credit Ltd", *mifos, "wrong", "", *rest]
    given_up = vault("add", given="\n".join([*wrong, "n"]) + "\n")
    assert (given_up.exit_code, "Check [mifos] user" in given_up.stderr) == (1, True)
    done = vault("add", given="\n".join([*wrong, "y", *mifos, "planted-mifos-password", ""]) + "\n")
    assert done.exit_code == 0, done.output
    assert "Check [mifos] user" in done.stdout


def test_an_upgraded_mifos_is_probed_anew(vault, partner_file):
    vault("add", partner_file)
    assert vault("probe", "umoja-credit").exit_code == 0
    assert "status_filter yes" in vault("probe", "umoja-credit").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nobody"], 4, "there is no partner nobody; partners: none yet"),
        (["add", "/nowhere.toml"], 2, "cannot be read"),
        (["set-secret", "nobody", "pin"], 2, "there is no credential 'pin'"),
        (["pause", "nobody", "--reason", "r"], 4, "there is no partner nobody"),
    ],
)
def test_a_failure_is_one_message_with_its_exit_code(vault, arguments, code, said):
    done = vault(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_a_refused_login_ends_with_its_own_exit_code(vault, partner_file, outside):
    outside.password = "another"
    done = vault("add", partner_file)
    assert done.exit_code == 1
    assert "Check [mifos] user 'paymentvault' and its password" in done.stderr


def test_a_new_password_is_tried_before_it_is_kept(vault, partner_file, outside):
    vault("add", partner_file)
    outside.password = "planted-new-password"
    wrong = vault("set-secret", "umoja-credit", "mifos_password", given="planted-wrong-password\n")
    assert (wrong.exit_code, "refused the login" in wrong.stderr) == (1, True)
    right = vault("set-secret", "umoja-credit", "mifos_password", given="planted-new-password\n")
    assert right.exit_code == 0
    assert "planted" not in right.output
    assert vault("products", "umoja-credit", "--refresh").exit_code == 0


def test_a_new_initiator_password_is_encrypted_here_and_kept_as_m_pesa_takes_it(vault, partner_file, tmp_path, monkeypatch):
    kept = []

    async def keep(_runtime, _partner_id, purpose, secret, *, actor):  # noqa: ARG001 - as it is called
        kept.append((purpose, secret))

    vault("add", partner_file)
    (tmp_path / "prod.cer").write_bytes(certificate(INITIATORS_KEY, Encoding.PEM))
    arguments = ("set-secret", "umoja-credit", "mpesa_security_credential", "--certificate", str(tmp_path / "prod.cer"))
    monkeypatch.setattr("vault_cli.partner.replace_credential", keep)
    done = vault(*arguments, given="planted-password\n")
    assert (done.exit_code, "planted" in done.output) == (0, False)
    ((purpose, secret),) = kept
    assert purpose == "mpesa_security_credential"
    assert INITIATORS_KEY.decrypt(base64.b64decode(secret), PKCS1v15()) == b"planted-password"
    assert vault("set-secret", "umoja-credit", "sms_api_key", "--certificate", "prod.cer", given="x\n").exit_code == 2


def test_another_master_key_is_a_message_not_a_traceback(vault, partner_file, monkeypatch):
    vault("add", partner_file)
    monkeypatch.setenv("VAULT_MASTER_KEY", f"other:{base64.b64encode(b'x' * 32).decode()}")
    done = vault("show", "umoja-credit")
    assert (done.exit_code, "bring that key back" in done.stderr) == (3, True)


def test_a_database_that_is_down_is_a_message_not_a_traceback(vault, monkeypatch):
    monkeypatch.setenv("VAULT_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    done = vault("list")
    assert (done.exit_code, "the database does not answer" in done.stderr) == (5, True)


def test_a_secret_for_signed_hooks_is_set_and_taken_back_and_no_other_is_taken_back(vault, partner_file):
    vault("add", partner_file)
    short = vault("set-secret", "umoja-credit", "hook_secret", given="planted-short\n")
    assert (short.exit_code, "at least 32 characters" in short.stderr, "planted" in short.output) == (2, True, False)
    assert vault("set-secret", "umoja-credit", "hook_secret", given="planted" * 8 + "\n").exit_code == 0
    assert "hook_secret" in vault("show", "umoja-credit").stdout
    for said in ("is removed", "was not set"):
        assert said in vault("set-secret", "umoja-credit", "hook_secret", "--remove").stdout
    assert vault("set-secret", "umoja-credit", "mifos_password", "--remove").exit_code == 2
