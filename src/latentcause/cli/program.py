"""The program ``latentcause`` itself: its groups of commands, and how an expected error is told."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import latentcause

# What can go wrong with what a user brings; anything else is a fault of ours and shows its traceback.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)


class Commands(TyperGroup):
    """Shows an expected error as one line and ends with exit code 2; with --debug, its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            if ctx.params.get("debug"):
                raise
            from latentcause.console import show_error

            missing = error.filename if isinstance(error, FileNotFoundError) else None
            show_error(f"there is no file {missing}" if missing else str(error))
            raise typer.Exit(2) from None


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """The entry point. A polite request to stop (SIGTERM) unwinds like Ctrl-C does, so nothing half-written is left."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"latentcause {latentcause.__version__}")
        raise typer.Exit


@app.callback()
def latentcause_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Recover the latent causes behind data from several experiments, with error bars, and answer do(...) questions."""
