"""The `vault` command and its groups.

Exit codes: 0 done; 1 a check failed or an outside system refused; 2 the command or a value in it is wrong; 3 a setting, key or
file of this installation is wrong; 4 the named thing does not exist, or its state forbids the act; 5 something could not be
reached.
"""

import typer

from vault_cli import (
    bench,
    cases,
    charges,
    collect,
    collection_aliases,
    collection_validations,
    collections,
    demo,
    disbursements,
    halt,
    inbox,
    ledger,
    lock,
    partner,
    partner_collections,
    partner_feeds,
    stack,
    statement_import,
    tariff,
    testing,
    verify,
    wallet,
)
from vault_cli.installation import use_installation
from vault_cli.session import run_line

# Groups and commands that work on the running installation: they get its addresses as its processes do.
_ON_THE_INSTALLATION = (
    "partner",
    "wallet",
    "ledger",
    "tariff",
    "charges",
    "halt",
    "disbursements",
    "collect",
    "collections",
    "inbox",
    "cases",
    "verify",
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold secrets
    add_completion=False,
    help="Payment Vault: moves loan money in Kenya between lenders' Mifos X and M-Pesa, with a ledger that proves itself.",
)


@app.callback()
def _settle(context: typer.Context) -> None:
    if context.invoked_subcommand in _ON_THE_INSTALLATION:
        use_installation()


app.command()(demo.demo)
stack.register(app)
app.add_typer(partner.app, name="partner")
partner.app.command()(partner_collections.collections)
partner.app.command("register-pull")(partner_feeds.register_pull_command)
partner.app.command("text-core-payments")(partner_feeds.text_core_payments)
app.add_typer(wallet.app, name="wallet")
app.add_typer(ledger.app, name="ledger")
app.add_typer(tariff.app, name="tariff")
app.add_typer(charges.app, name="charges")
app.add_typer(disbursements.app, name="disbursements")
app.command()(halt.halt)
app.add_typer(collect.app, name="collect")
app.add_typer(collections.app, name="collections")
collections.app.command()(collection_validations.validations)
for command in (collection_aliases.aliases, collection_aliases.alias, collection_aliases.unalias):
    collections.app.command()(command)
collections.app.command("import-statement")(statement_import.import_statement_command)
app.add_typer(inbox.app, name="inbox")
app.add_typer(cases.app, name="cases")
app.command()(verify.verify)
app.command(context_settings=bench.PASSES_OPTIONS_ON)(bench.bench)
testing.register(app)
lock.register(app)


def main() -> None:
    """Runs the command line. An error that is meant for a person is printed as one message, without a traceback."""
    run_line(lambda: app(prog_name="vault"))
