"""Run benchmarks one after the other, then make the page: ``python benchmarks --help``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from common.documents import FOLDER, load
from common.drawing import draw
from common.page import NAMES, PAGE, PICTURE, declared, make

HERE = Path(__file__).parent


def main() -> None:
    """Run what is asked for; a benchmark that fails does not keep the others from running."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks",
        description="Run the benchmarks named, or all, and make docs/benchmarks.md out of what "
        "was measured, now and before.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="small instances; this is the default")
    how.add_argument("--full", action="store_true", help="everything; some take an hour")
    how.add_argument("--page", action="store_true", help="run nothing, make the page only")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"{unknown[0]!r}: must be one of {', '.join(NAMES)}")
    failed = []
    for name in () if given.page else given.names or NAMES:
        print(f"\n━━ {name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--results", str(FOLDER)]
        if subprocess.run([*command, *([] if given.full else ["--quick"])], check=False).returncode:
            failed.append(name)
    PAGE.write_text(make(), encoding="utf-8")
    PICTURE.write_bytes(draw(declared(), load()))
    print(f"\nwritten: {PAGE.relative_to(HERE.parent)}, {PICTURE.relative_to(HERE.parent)}")
    kept = [name for name, document in load().items() if not document.quick]
    if kept and not given.full:
        print(f"The page shows the whole runs of {', '.join(kept)}, as long as there are any.")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
