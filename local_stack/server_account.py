"""The account PostgreSQL runs as. It refuses to run as root, so root's commands start it as somebody who owns nothing else.

Nothing is installed and no account is made: an existing one is used, and it is let through to its data with the smallest right
there is, an access-control entry for that one account to pass (not to list or read) the folders above.
"""

import os
import pwd
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vault_core.errors import ConfigurationError

_CANDIDATES = ("postgres", "pgserver", "nobody")
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
# Tags of a POSIX access-control list entry, as the kernel stores them (linux/posix_acl_xattr.h).
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_PASS = 1


@dataclass(frozen=True, slots=True)
class Account:
    """A system account to run PostgreSQL as."""

    name: str
    uid: int
    gid: int


def account_for(data: Path, environment: Mapping[str, str]) -> Account | None:
    """The account that owns or will own the data folder `data`; None when we are not root and so run it as ourselves.

    VAULT_POSTGRES_ACCOUNT chooses it for new data. Raises ConfigurationError if data is there that somebody else owns, or no
    account fits.
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise ConfigurationError(f"{data} belongs to {_name_of(owner)}, not to you: run `./vault` as the user who made it")
        return None
    if owner:
        return _account(_name_of(owner))
    chosen = environment.get("VAULT_POSTGRES_ACCOUNT")
    for name in (chosen,) if chosen else _CANDIDATES:
        try:
            return _account(name)
        except KeyError:
            continue
    raise ConfigurationError(
        f"PostgreSQL does not run as root and there is no account {chosen or ', '.join(_CANDIDATES)} to run it as: "
        "name an existing one in VAULT_POSTGRES_ACCOUNT, or run `./vault` as an ordinary user"
    )


def let_through(account: Account, folder: Path) -> None:
    """Lets `account` pass every folder above `folder`. Changes only those it cannot pass yet; needs root."""
    for above in folder.absolute().parents:
        status = above.stat()
        if not _can_pass(account, status):
            _grant_pass(account, above, stat.S_IMODE(status.st_mode))


def let_read(account: Account, program: Path) -> None:
    """Lets `account` pass to and read the whole folder `program`, for when it was installed under a strict umask."""
    let_through(account, program)
    for place, _folders, files in os.walk(program):
        _add_mode(Path(place), 0o055)
        for name in files:
            path = Path(place) / name
            if not path.is_symlink():
                _add_mode(path, 0o055 if path.stat().st_mode & stat.S_IXUSR else 0o044)


def _account(name: str) -> Account:
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise ConfigurationError(f"PostgreSQL's data belongs to user number {uid}, which this system does not know") from error


def _can_pass(account: Account, status: os.stat_result) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _grant_pass(account: Account, folder: Path, mode: int) -> None:
    try:
        os.setxattr(folder, _ACL, acl_with_pass(_read_acl(folder), mode, account.uid))
    except (OSError, AttributeError):  # a file system, or a system, without such entries
        _add_mode(folder, stat.S_IXOTH)


def _read_acl(folder: Path) -> bytes | None:
    try:
        return os.getxattr(folder, _ACL)
    except OSError:
        return None


def acl_with_pass(acl: bytes | None, mode: int, uid: int) -> bytes:
    """The access-control list `acl` (None: only the permission bits `mode`) with the right to pass added for `uid`."""
    if acl is None:
        entries = {
            (_USER_OBJ, _NO_ID): mode >> 6 & 7,
            (_GROUP_OBJ, _NO_ID): mode >> 3 & 7,
            (_OTHER, _NO_ID): mode & 7,
        }
    else:
        entries = {(tag, who): rights for tag, rights, who in struct.iter_unpack("<HHI", acl[4:])}
    entries[_USER, uid] = entries.get((_USER, uid), 0) | _PASS
    group_class = entries[_GROUP_OBJ, _NO_ID] if (_MASK, _NO_ID) not in entries else entries[_MASK, _NO_ID]
    entries[_MASK, _NO_ID] = group_class | _PASS
    body = b"".join(struct.pack("<HHI", tag, rights, who) for (tag, who), rights in sorted(entries.items()))
    return struct.pack("<I", _ACL_VERSION) + body


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)
