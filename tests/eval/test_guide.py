"""What docs/guides/evaluation.md shows in Python, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from palm_eval.testing import check_metric

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "evaluation.md"


def test_the_guides_examples_run() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)
    check_metric(names["mean_regret"])
    assert names["scores"].mean.tolist() == [0.5, -2.0]
