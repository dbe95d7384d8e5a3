"""Says which model of this folder serves a weight vector of the objectives best.

On the command line, an objective left out weighs 0::

    python route.py brevity=0.7,helpfulness=0.3

and in Python, which needs nothing but its standard library::

    from route import model_for
    model_for({"brevity": 0.7, "helpfulness": 0.3})

``routing.json`` beside this file has the rule: the model with the largest Σ_i w_i·value_i, of
equals the one that is listed first.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUM_TOLERANCE = 1e-6


def load_routing(file: str | Path | None = None) -> dict[str, Any]:
    """The contents of ``routing.json``, by default of the one beside this file."""
    found = Path(__file__).with_name("routing.json") if file is None else Path(file)
    return dict(json.loads(found.read_text(encoding="utf-8")))


def model_for(
    weights: Mapping[str, float] | Sequence[float], routing: Mapping[str, Any] | None = None
) -> str:
    """The name of the model for ``weights``.

    Args:
        weights: by objective, or one for each in the order of ``routing["objectives"]``;
            not negative, adding to 1.
        routing: as :func:`load_routing` returns it, which is the default.

    Raises:
        ValueError: weights that are none; the message is one line.
    """
    return str(entry_for(weights, routing)["name"])


def entry_for(
    weights: Mapping[str, float] | Sequence[float], routing: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All that ``routing`` says of that model, its port too; see :func:`model_for`."""
    table = load_routing() if routing is None else routing
    asked = _checked(weights, list(table["objectives"]))
    worth = [
        sum(w * value for w, value in zip(asked, model["values"], strict=True))
        for model in table["models"]
    ]
    return dict(table["models"][worth.index(max(worth))])


def _checked(weights: Mapping[str, float] | Sequence[float], objectives: list[str]) -> list[float]:
    """One weight for each objective; a sum of nearly 1 needs no more, its best is the same."""
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in objectives:
                raise ValueError(f"weights: no objective {name!r}, must be {_listed(objectives)}")
        weights = [weights.get(name, 0.0) for name in objectives]
    asked = [float(weight) for weight in weights]
    if len(asked) != len(objectives):
        raise ValueError(f"weights: {len(asked)}, must be one for each of {_listed(objectives)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in asked):
        raise ValueError(f"weights: {asked} must be finite and not negative")
    total = sum(asked)
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise ValueError(f"weights: {asked} add to {total:g}, must add to 1")
    return asked


def _read(text: str) -> dict[str, float]:
    """Weights from "name=value,name=value"."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        name = name.strip()
        if not equals or name in found:
            raise ValueError(f"weights: {part!r} must be name=value, without duplicates")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"weights: {value!r} must be a number") from None
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def main(arguments: Sequence[str]) -> int:
    """Print the model's name, or with --port where it is heard; 2 where the weights are none."""
    wanted = "port" if "--port" in arguments else "name"
    given = [argument for argument in arguments if argument != "--port"]
    try:
        if len(given) != 1:
            raise ValueError("must be one weight vector, as brevity=0.7,helpfulness=0.3")
        print(entry_for(_read(given[0]))[wanted])
    except ValueError as error:
        sys.stderr.write(f"route.py: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
