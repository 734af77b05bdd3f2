import os
import stat
import struct

import pytest

from local_stack.server_account import Account, account_for, acl_with_pass, let_through

USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20


def _entries(acl: bytes) -> dict[tuple[int, int], int]:
    return {(tag, who): rights for tag, rights, who in struct.iter_unpack("<HHI", acl[4:])}


def test_a_private_folder_gains_one_entry_to_pass_and_nothing_for_others() -> None:
    entries = _entries(acl_with_pass(None, 0o700, 101))
    assert entries[USER, 101] == 1
    assert entries[OTHER, 0xFFFFFFFF] == 0
    assert entries[GROUP_OBJ, 0xFFFFFFFF] == 0
    assert entries[MASK, 0xFFFFFFFF] == 1


def test_entries_that_are_there_stay() -> None:
    once = acl_with_pass(None, 0o750, 101)
    twice = _entries(acl_with_pass(once, 0o750, 102))
    assert twice[USER, 101] == 1
    assert twice[USER, 102] == 1
    assert twice[GROUP_OBJ, 0xFFFFFFFF] == 5
    assert twice[MASK, 0xFFFFFFFF] == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lets another account through")
def test_an_account_passes_private_folders_but_cannot_list_them(tmp_path) -> None:
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    outer.chmod(0o700)
    account = Account("nobody", 65534, 65534)
    let_through(account, outer / "inner")
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setgroups([])
            os.setuid(65534)
            (outer / "inner").stat()
            try:
                list(outer.iterdir())
            except PermissionError:
                os._exit(0)
            os._exit(2)
        except OSError:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stat.S_IMODE(outer.stat().st_mode) & stat.S_IRWXO == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="others run PostgreSQL as themselves")
def test_data_that_is_there_is_run_by_its_owner(tmp_path) -> None:
    os.chown(tmp_path, 65534, 65534)
    account = account_for(tmp_path, {})
    assert account is not None
    assert account.uid == 65534
