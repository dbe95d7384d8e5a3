"""Text made fit to stand in a table: in a terminal, in Markdown, in LaTeX."""

from __future__ import annotations

import re

from palm_core.text import one_line

# No note of ours is so long; a name may be.
_LONGEST = 10_000


def plain(text: str) -> str:
    """``text`` on one line, with its controls escaped."""
    return one_line(text, _LONGEST)


def markdown(text: str) -> str:
    """``text`` with what Markdown reads as markup escaped, on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|~#&])", r"\\\1", plain(text))
    # At the beginning of a line these would be a list.
    return re.sub(r"^(\d*)([-+.)])(?=\s)", r"\1\\\2", escaped)


# Longer ones first: a formula is not to be taken apart.
_LATEX = {
    "ε(P)": r"$\varepsilon(P)$",
    "δ(P)": r"$\delta(P)$",
    "μ'": r"$\mu'$",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # After \\ these would be arguments of it.
    "[": "{[}",
    "*": "{*}",
    "α": r"$\alpha$",
    "δ": r"$\delta$",
    "ε": r"$\varepsilon$",
    "μ": r"$\mu$",
    "∞": r"$\infty$",
    "–": "--",
    "−": "$-$",
}
_LATEX_PATTERN = re.compile("|".join(map(re.escape, _LATEX)))


def latex(text: str) -> str:
    """``text`` with what LaTeX reads as commands escaped, on one line."""
    return _LATEX_PATTERN.sub(lambda found: _LATEX[found[0]], plain(text))
