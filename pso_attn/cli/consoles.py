"""The terminal: results on stdout, progress on stderr, and what a closed pipe means for each."""

from rich.console import Console


class Results(Console):
    """Stdout; once nobody reads it any more, BrokenPipeError ends the command."""

    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to whoever started the command."""
        raise BrokenPipeError


class Side(Console):
    """Stderr; once nobody reads it any more it is silent, since progress is not the work."""

    def on_broken_pipe(self) -> None:
        """Say nothing from now on."""
        self.quiet = True
