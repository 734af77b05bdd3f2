"""One thing that a proof found wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names the rule in snake_case, `where` the row it is broken at, `what` says in one line what is wrong."""

    check: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: {self.what}"
