"""Descriptions of figures, from the data they draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_eval.figures.style import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_eval.figures.style import PolicyStyle

# Nobody listens to a hundred numbers.
_MOST = 10


def listed(parts: Sequence[str], what: str) -> str:
    """The parts in one row; of many the first ten and how many more there are of ``what``."""
    if len(parts) <= _MOST:
        return "; ".join(parts)
    return f"{'; '.join(parts[:_MOST])}; and {len(parts) - _MOST} more {what}"


def policy(name: str, styles: Mapping[str, PolicyStyle]) -> str:
    """A policy as it stands in the key: "policy 2 (concise)"."""
    return f"policy {styles[name].number} ({shown(name)})"


def percent(share: float) -> str:
    """0.1234 as "12.3 %"; below a tenth of a per cent with two digits."""
    size = 100 * share
    return f"{size:.1f} %" if size >= 0.1 or size == 0 else f"{size:.2g} %"


def upright(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]
