import typer
from typer.testing import CliRunner

from vault_cli.bench import bench, names

app = typer.Typer()
app.command()(bench)


def test_every_benchmark_is_listed_with_what_it_measures():
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    assert "callback_acknowledgement: How many callbacks" in done.stdout
    assert names() == sorted(names())


def test_an_unknown_benchmark_is_told_with_the_known_ones():
    done = CliRunner().invoke(app, ["nonsense"])
    assert done.exit_code == 2
    assert "callback_acknowledgement" in done.stderr
