"""From what a command raises to a sentence on stderr and an exit code."""

import contextlib
import functools
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import NoReturn, ParamSpec

import typer

from pso_attn.cli.output import others_on_stderr
from pso_attn.errors import PsoAttnError, is_interrupt

P = ParamSpec("P")

TRACEBACK = "PSO_ATTN_TRACEBACK"
INTERRUPTED = 130


def catch_signals() -> None:
    """Make SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread.

    A SIGHUP that is ignored already, as under `nohup`, stays ignored.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
            continue
        signal.signal(number, _interrupt)


def mend_streams() -> None:
    """Make stdout and stderr take any text, whatever their encoding, and whether open or not.

    Where one is closed, the next file that opens would get its number, and what is printed.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open as long as we run
        else:
            stream.reconfigure(errors="replace")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Return the command such that a person's mistake gives one sentence and an exit code.

    Anything unforeseen gives one line, and its traceback where PSO_ATTN_TRACEBACK is set. Stdout
    has what the command emits, and nothing of what others print.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with others_on_stderr():
                command(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.BadParameter):
            raise
        except BrokenPipeError:  # whoever read the output has enough of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (Exception, KeyboardInterrupt) as error:
            if is_interrupt(error):  # whatever a question or an import made of it
                _fail("interrupted", INTERRUPTED)
            if isinstance(error, typer.Abort):
                raise
            if isinstance(error, PsoAttnError):
                _fail(str(error), error.exit_code)
            words = str(error).strip().splitlines()
            _fail(
                f"{type(error).__name__}: {words[0] if words else 'no message'} "
                f"(unforeseen; set {TRACEBACK}=1 for the traceback)",
                1,
            )

    return run


@contextlib.contextmanager
def interruptible(command: Callable[[], str | None]) -> Iterator[None]:
    """Print the command that goes on, if there is one, where a signal ends the block."""
    try:
        yield
    except typer.Exit:
        raise
    except BaseException as error:
        again = command() if is_interrupt(error) else None
        if again is None:
            raise
        say(f"interrupted; go on with: {again}")
        raise typer.Exit(INTERRUPTED) from None


def this_command(renamed: Mapping[str, str] | None = None) -> str:
    """Return the command line that this process was started with; renamed: words by new ones."""
    new = renamed or {}
    return shlex.join(["pso-attn", *(new.get(word, word) for word in sys.argv[1:])])


def say(text: str) -> None:
    """Write a line to stderr, if anybody listens."""
    with contextlib.suppress(OSError):
        typer.echo(text, err=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(sentence: str, exit_code: int) -> NoReturn:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    say(f"error: {' '.join(sentence.split())}")
    raise typer.Exit(exit_code) from None
