"""The command line: `vecstone`, or `python -m vecstone`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Runs the command line with the arguments of this process; returns the exit code."""
    from ._core import run_command_line

    # Python would only take note of Ctrl-C, and act when the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code: int = run_command_line([_command(), *sys.argv[1:]])
    return code


def _command() -> str:
    """The file of the command, which `vecstone demo` starts again: PATH may not lead to it."""
    if os.path.basename(sys.argv[0]).startswith("vecstone"):
        return os.path.abspath(sys.argv[0])
    beside = os.path.join(os.path.dirname(sys.executable), "vecstone")
    return beside if os.path.exists(beside) else "vecstone"


if __name__ == "__main__":
    sys.exit(main())
