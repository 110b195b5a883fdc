"""LangChain's own suite for vector stores has to pass as a whole: 25 tests, none skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = Path(__file__).parent / "tests" / "test_langchain_standard.py"
command = [sys.executable, "-m", "pytest", "-c", SUITE.parents[1] / "pyproject.toml", "-ra", SUITE]
done = subprocess.run(command, capture_output=True, text=True)
last = done.stdout.strip().splitlines()[-1]
print(f"LangChain's suite: {last}")
if done.returncode != 0 or "25 passed" not in last or "skipped" in last or "xfailed" in last:
    print(done.stdout)
    sys.exit(1)
