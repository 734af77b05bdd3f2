"""The commands in processes of their own, on this test's database, run by whom a test says."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

ROOT = Path(__file__).parents[3]
# Who logged in is the machine's word; a test that needs two people says so here.
_APP = """
import os
import typer
from vault_cli import session, verify, wallet
if "TEST_LOGIN" in os.environ:
    session._login_number = lambda *_: int(os.environ["TEST_LOGIN"])
app = typer.Typer()
app.add_typer(wallet.app, name="wallet")
app.command("verify")(verify.verify)
app()
"""

Vault = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vault(database_url: str, tmp_path: Path) -> Vault:
    """Runs `vault ...`; `login` is the user number of the person, of those that every system has."""
    environment = {
        "PATH": os.environ["PATH"],
        "VAULT_HOME": str(tmp_path),
        "VAULT_DATABASE_URL": database_url,
        "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
        "NO_COLOR": "1",
    }

    def run(*arguments: str, login: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", _APP, *arguments],
            cwd=ROOT,
            env=environment | ({} if login is None else {"TEST_LOGIN": str(login)}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def partner(owner_url: str) -> str:
    """The name of a partner with an empty wallet."""
    owner = create_engine(owner_url)
    with owner.begin() as connection:
        connection.execute(
            text(
                """
                INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator,
                    b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
                VALUES (:id, 'alpha', 'Alpha', 'u', 't', 'm', 'u', 'i', '1', '2', 'u', 's', 's', now(), now())
                """
            ),
            {"id": uuid4()},
        )
    owner.dispose()
    return "alpha"
