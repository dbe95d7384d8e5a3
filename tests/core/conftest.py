"""The oracles and rules of these tests stand beside them, also for worker processes.

What tests of all commands share, whichever package brings them, lies in tests/commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in map(str, (HERE, HERE.parent / "commands")):
    if folder not in sys.path:  # at the end; worker processes inherit it
        sys.path.append(folder)
