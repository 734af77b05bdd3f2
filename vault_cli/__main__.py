"""`python -m vault_cli`: what `./vault` hands over to."""

from vault_cli.main import main

main()
