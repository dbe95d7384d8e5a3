"""What tests of several packages share, the tiny models, lies in tests/language."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SHARED = str(Path(__file__).parent.parent / "language")
if SHARED not in sys.path:  # at the end
    sys.path.append(SHARED)
