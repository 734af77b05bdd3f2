"""Two people at one machine, each with a login of their own: the whole `vault` command, and the machine's own word on who acts."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_stack.home import REPOSITORY
from tests.integration.disbursements.conftest import loan
from tests.integration.disbursements.test_resolving import EVIDENCE, LARGE, with_a_person

NO_LOGIN = str(2**32 - 1)
ASHA, BARASA = 1, 2  # numbers of users that every system has


# Root without a login of the kernel's is whoever called sudo (vault_cli/session.py): so root can act as two people here.
@pytest.mark.skipif(
    os.getuid() != 0 or Path("/proc/self/loginuid").read_text(encoding="ascii").strip() != NO_LOGIN,
    reason="the machine says who is logged in, and it is one person",
)
async def test_one_login_cannot_approve_what_it_proposed_and_another_can(open_day, database_url: str, tmp_path: Path) -> None:
    async def vault(login: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"], "VAULT_HOME": str(tmp_path / "home"), "VAULT_DATABASE_URL": database_url,
            "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1", "NO_COLOR": "1", "SUDO_UID": str(login), "LOGNAME": "somebody-else",
            "VAULT_MASTER_KEY": f"test:{base64.b64encode(b'0123456789abcdef0123456789abcdef').decode()}",
        }  # fmt: skip
        command = [sys.executable, "-m", "vault_cli", "disbursements", *arguments]
        run = subprocess.run
        return await asyncio.to_thread(run, command, check=False, capture_output=True, text=True, env=environment, cwd=REPOSITORY)

    async with open_day([loan(1, LARGE)]) as day:
        await with_a_person(day)
        proposed = await vault(ASHA, "resolve", "1", "--paid", "UKO1234567", "--evidence", EVIDENCE, "--yes")
        assert (proposed.returncode, "needs a second person" in proposed.stdout) == (0, True), proposed.stderr
        own = await vault(ASHA, "approve", "1", "--yes")
        assert (own.returncode, "another login" in own.stderr) == (4, True)
        assert await day.states() == {1: "needs_review"}
        approved = await vault(BARASA, "approve", "1", "--json")
        assert json.loads(approved.stdout)["state"] == "applied", approved.stderr
        (row,) = await day.rows("SELECT proposed_by, decided_by FROM disbursement_resolutions")
        assert row["proposed_by"] != row["decided_by"]
        assert "somebody-else" not in row["proposed_by"] + row["decided_by"]
