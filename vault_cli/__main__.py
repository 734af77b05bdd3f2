"""`python -m vault_cli`: what `./vault` hands over to."""

import sys

if sys.argv[1:2] == ["halt"]:
    from vault_cli.halt_alone import main
else:
    from vault_cli.main import main

main()
