"""Make ``tests/golden/runs`` with the installed palm: python tests/golden/make_runs.py.

The committed runs stay as they are: later versions have to read them. A new format of runs
gets further runs beside them, under new names.
"""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).parent
RUNS = {  # name → task, variables
    "grid": ("grid", {}),
    "adaptive": ("adaptive", {}),
    "failing": ("failing", {"GOLDEN_FAIL": "1"}),
    "killed": ("failing", {"GOLDEN_KILL": "6"}),
}
# Remove host names, process ids and the paths in tracebacks; small pages for small files.
FORGET = """
UPDATE session SET host = 'elsewhere', pid = 1;
UPDATE attempt SET detail = 'Traceback' WHERE detail IS NOT NULL;
PRAGMA journal_mode = DELETE;
PRAGMA page_size = 512;
VACUUM;
PRAGMA journal_mode = WAL;
"""


def make(folder: Path, name: str) -> None:
    """Build one run in ``folder`` and copy it without locks and logs."""
    task, variables = RUNS[name]
    run = folder / "runs" / name
    build = ("palm", "build", f"tasks/{task}.toml", "--out", run)
    subprocess.run(
        build, cwd=folder, env=os.environ | variables, check="GOLDEN_KILL" not in variables
    )
    with closing(sqlite3.connect(run / "ledger.sqlite", isolation_level=None)) as ledger:
        ledger.executescript(FORGET)
    kept = HERE / "runs" / name
    unkept = shutil.ignore_patterns("lock", "logs", "reserve", "*-wal", "*-shm")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(run, kept, ignore=unkept)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        shutil.copytree(HERE / "tasks", Path(made) / "tasks")
        for each in RUNS:
            make(Path(made), each)
        table = "tasks/models.csv --maximize helpful safe --minimize cost --epsilon 0.05"
        select = ("palm", "select", *table.split(), "--save", HERE / "runs" / "selection.json")
        subprocess.run(select, cwd=made, check=True)
