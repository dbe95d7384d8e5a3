"""Entry point of ``palm`` and ``python -m palm_core``."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line; if its dependencies are missing, print how to install them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the encoding may have no ε
            stream.reconfigure(errors="backslashreplace")
    try:
        from palm_core.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"cyclopts", "rich"}:
            raise
        # Not "palm-core[cli]": the name is not registered on a package index yet.
        sys.stderr.write(
            "palm: the command line needs two more packages (the extra palm-core[cli]): "
            'python -m pip install "cyclopts>=5.4,<6" "rich>=14"\n'
        )
        raise SystemExit(2) from None
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
