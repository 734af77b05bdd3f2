import logging

from vault_core.runtime import open_runtime
from vault_core.settings import read_settings


async def test_a_process_does_not_log_the_urls_it_calls():
    logging.getLogger("httpx").setLevel(logging.INFO)
    settings = read_settings(
        {
            "VAULT_DATABASE_URL": "postgresql://nobody@/nothing",
            "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "VAULT_MASTER_KEY": "k:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        }
    )
    async with open_runtime(settings):
        assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
