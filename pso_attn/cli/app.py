"""The table of commands."""

from typing import Annotated

import typer

from pso_attn import __version__
from pso_attn.cli import (
    catalog_commands,
    compare_commands,
    model_commands,
    run_commands,
    search_commands,
    trust_commands,
)

app = typer.Typer(
    name="pso-attn",
    help="Tune attention with particle swarm optimisation; the swarm trains as one batched job.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Tune attention with particle swarm optimisation; the swarm trains as one batched job."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


for command in (
    search_commands.search,
    search_commands.resume,
    compare_commands.compare,
    trust_commands.report,
    trust_commands.confirm,
    model_commands.train,
    model_commands.export,
    model_commands.predict,
    trust_commands.verify,
    run_commands.runs,
    run_commands.show,
    run_commands.best,
    run_commands.watch,
    run_commands.delete,
    run_commands.dashboard,
    catalog_commands.spaces,
    catalog_commands.tasks,
    catalog_commands.knobs,
    catalog_commands.samplers,
):
    app.command()(command)
