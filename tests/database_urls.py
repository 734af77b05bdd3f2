"""The two addresses of a test's database: the owner's, who made its tables, and the one that the product's processes have."""

from vault_core.database import APP_ROLE


def app_url(owner_url: str) -> str:
    """The address of the same database for the application's login."""
    return owner_url.replace("//postgres@", f"//{APP_ROLE}@")
