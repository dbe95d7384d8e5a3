"""What tests of several packages share lies in tests/language and tests/commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for shared in ("language", "commands"):
    folder = str(Path(__file__).parent.parent / shared)
    if folder not in sys.path:  # at the end
        sys.path.append(folder)
