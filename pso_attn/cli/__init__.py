"""The command line: parse, call the library, print.

Results go to stdout, progress to stderr. Nothing heavy is imported until a command runs.
"""

import sys


def main() -> None:
    """Run the command that the arguments name, and exit with its code.

    0 done, 1 failure, 2 usage or configuration, 3 budget spent and nothing completed,
    130 interrupted and resumable.
    """
    from pso_attn.cli.guard import catch_signals, mend_streams
    from pso_attn.unanswered import exit_past

    mend_streams()
    catch_signals()
    try:
        from pso_attn.cli.app import app

        app()
    except SystemExit as end:
        exit_past(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    except KeyboardInterrupt:  # before or after a command, where there is nothing to resume
        sys.exit(130)
