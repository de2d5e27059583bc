"""Writes docs/rules.md anew: `python -m orchestrator.cli.rules_page docs/rules.md`."""

import sys
from pathlib import Path

from orchestrator.rules.page import page


def main() -> None:
    """Write the page of rules to the file that is named."""
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
