"""Asking for a partner value by value, each checked as it is given; secrets are not shown."""

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.partner_fields import CONTACT_FIELDS, CONTACT_ROLES, FIELDS, Field
from vault_core.partners.partner_file import PartnerFile, partner_from_tables, with_files


class Answers:
    """A partner as answered, table by table; a table can be asked for again."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tables: dict[str, Any] = {}

    def ask_all(self) -> None:
        """Asks for everything. A wrong answer is asked for again. Raises typer.Abort when the input ends."""
        for table in dict.fromkeys(each.table for each in FIELDS):
            self.ask(table)
        self._tables["contacts"] = _ask_for_contacts(self._console)

    def ask(self, table: str) -> None:
        """Asks for the values of one table, in the place of those answered before."""
        self._console.print(f"\n[bold]{table}[/]")
        answers = {each.key: _ask(self._console, each) for each in FIELDS if each.table == table}
        self._tables[table] = {key: answer for key, answer in answers.items() if answer}

    def described(self) -> PartnerFile:
        """The partner these answers describe. Files are looked for from the current folder. Raises InvalidInput."""
        return with_files(partner_from_tables(self._tables), Path.cwd())


def _ask_for_contacts(console: Console) -> list[dict[str, str]]:
    contacts: list[dict[str, str]] = []
    console.print("\n[bold]contacts[/]: people of the partner to text, at least one for operations")
    role, name, phone = CONTACT_FIELDS
    while True:
        if not contacts:
            given_role = CONTACT_ROLES[0]
        elif typer.confirm("one more person?", default=False):
            given_role = _ask(console, role)
        else:
            return contacts
        contacts.append({"role": given_role, "name": _ask(console, name), "phone": _ask(console, phone)})


def _ask(console: Console, asked: Field) -> str:
    hint = "" if asked.secret else f" [{asked.example.strip(chr(34))}]" if asked.required else ""
    default: Any = None if asked.required else _written(asked.default)
    while True:
        answer: str = typer.prompt(
            f"{asked.what}{' (optional)' if asked.default is None else f', e.g.{hint}' if hint else ''}",
            default=default,
            hide_input=asked.secret,
            show_default=bool(default),
        )
        if not answer and not asked.required:
            return ""
        try:
            asked.read(answer)
        except InvalidInput as error:
            console.print(f"[red]{escape(asked.key)}: {escape(str(error))}[/]", highlight=False)
        else:
            return answer


def _written(default: Any) -> str:
    if default is None:
        return ""
    return str(default.as_decimal()) if isinstance(default, Money) else str(default)
