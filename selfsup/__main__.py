"""`selfsup VERB key=value …`, the same as `python -m selfsup.VERB key=value …`."""

from __future__ import annotations

import importlib
import sys

VERBS = ("train", "prepare", "extract", "embed", "evaluate", "stream", "report", "export")


def main() -> None:
    """Hands the rest of the command line to the verb's own main."""
    verb = sys.argv[1] if len(sys.argv) > 1 else None
    if verb not in VERBS:
        given = f"unknown verb {verb!r}; " if verb not in (None, "-h", "--help") else ""
        sys.exit(f"{given}usage: selfsup {' | '.join(VERBS)} key=value …   (selfsup {VERBS[0]} --help lists the keys)")
    del sys.argv[1]
    importlib.import_module(f"selfsup.{verb}").main()


if __name__ == "__main__":
    main()
