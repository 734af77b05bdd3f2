"""The one error tree of vault_core.

    VaultError
    |-- PermanentError            trying again changes nothing: a person or a program must change something
    |   |-- InvalidInput          a value from outside is malformed; the message says what, where and what to do
    |   |-- ConfigurationError    a setting, a key or a file of this installation is missing or wrong
    |   |-- NotFound              the named partner, loan, event ... does not exist
    |   |-- Conflict              the same key was used with another body, or the state forbids the act
    |   |   |-- KeyReused         an idempotency key came again with another body
    |   |   `-- PeriodClosed      a person's posting is dated in a period that is closed
    |   |-- InsufficientFunds     a hold asks for more than is available
    |   |-- SealBroken            a sealed value cannot be opened: wrong key, wrong row or damaged bytes
    |   `-- RemoteRefusal         an outside system answered and refused for good
    |       |-- LoginRefused      user, password, tenant or key was refused
    |       `-- NotUnderstood     the answer is not what the documented interface sends (HTML, other shape)
    `-- TransientError            the same call may succeed later
        |-- Unreachable           no connection, a TLS failure or a time-out before an answer
        |-- RemoteBusy            an outside system asked to come back later (429, 503, 409 lock, spike arrest)
        `-- DatabaseBusy          a deadlock or serialisation failure outlasted its bounded retries

A call that moves money never raises to say how it went: it returns an `Outcome` (vault_core/outcome.py), because
"we don't know" is an answer there. These errors are for everything else.
"""


class VaultError(Exception):
    """Anything Payment Vault raises on purpose."""


class PermanentError(VaultError):
    """Trying again changes nothing."""


class InvalidInput(PermanentError):
    """A value from outside is malformed."""


class ConfigurationError(PermanentError):
    """A setting, key or file of this installation is missing or wrong."""


class NotFound(PermanentError):
    """The named thing does not exist."""


class Conflict(PermanentError):
    """The same key was used with another body, or the state forbids the act."""


class KeyReused(Conflict):
    """An idempotency key came again with another body."""


class PeriodClosed(Conflict):
    """A person's posting is dated in a period that is closed."""


class InsufficientFunds(PermanentError):
    """A hold asks for more than is available."""


class SealBroken(PermanentError):
    """A sealed value cannot be opened."""


class RemoteRefusal(PermanentError):
    """An outside system answered and refused for good.

    `code` is the outside system's own code (or the HTTP status as text), `status` the HTTP status or None.
    """

    def __init__(self, message: str, *, code: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class LoginRefused(RemoteRefusal):
    """User, password, tenant or key was refused."""


class NotUnderstood(RemoteRefusal):
    """The answer is not what the documented interface sends."""


class TransientError(VaultError):
    """The same call may succeed later."""


class Unreachable(TransientError):
    """No connection, a TLS failure or a time-out before an answer."""


class RemoteBusy(TransientError):
    """An outside system asked to come back later."""


class DatabaseBusy(TransientError):
    """A deadlock or serialisation failure outlasted its bounded retries."""
