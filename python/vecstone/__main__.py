"""The command line: `vecstone`, or `python -m vecstone`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Runs the command line with the arguments of this process; returns the exit code."""
    from ._core import run_command_line

    # Python would only take note of Ctrl-C, and act when the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code: int = run_command_line(["vecstone", *sys.argv[1:]])
    return code


if __name__ == "__main__":
    sys.exit(main())
