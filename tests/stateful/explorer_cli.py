"""Run the explorer: `python tests/stateful/explorer_cli.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as under pytest, tests/ is where packages are found

from stateful.explorer.cli import main

if __name__ == "__main__":
    sys.exit(main())
