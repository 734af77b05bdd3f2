"""The running installation, which most commands work on."""

import os

from local_stack.home import exists, home_of
from local_stack.plan import process_environment


def use_installation() -> None:
    """Gives this command the addresses that the installation's processes have, if there is one. Raises ConfigurationError."""
    home = home_of(os.environ)
    if exists(home):
        os.environ.update(process_environment(home, os.environ))
