"""Write a table of 40 made-up models: larger ones help more, cost more, refuse less.

Usage: python make_models.py [models.csv]
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path


def rows() -> list[dict[str, object]]:
    """Return the models, the same ones each time."""
    rng = random.Random(7)
    made: list[dict[str, object]] = []
    for number in range(40):
        size = rng.uniform(0, 1)  # 0: the smallest model, 1: the largest
        caution = rng.uniform(0, 1)  # how much it was trained to refuse
        made.append(
            {
                "model": f"model-{number:02d}",
                "helpful": round(35 + 45 * size**0.6 - 25 * caution**2 + rng.gauss(0, 3), 1),
                "safe": round(55 + 38 * caution**0.7 - 6 * size + rng.gauss(0, 3), 1),
                "cost": round(0.1 + 9.9 * size**2.2 + rng.uniform(0, 0.2), 2),
            }
        )
    return made


def main() -> None:
    """Write the table where the command line says."""
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "models.csv")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["model", "helpful", "safe", "cost"])
        writer.writeheader()
        writer.writerows(rows())
    print(f"{file}: {len(rows())} models")


if __name__ == "__main__":
    main()
