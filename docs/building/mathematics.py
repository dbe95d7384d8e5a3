"""Formulas in LaTeX as MathML, which browsers show without scripts or fonts from elsewhere."""

from __future__ import annotations

from latex2mathml.converter import convert

# Markdown would read these characters of a formula as its own.
_SPECIAL = {ord(character): f"&#{ord(character)};" for character in r"*_`[]\~^|"}


def as_mathml(latex: str, *, display: bool) -> str:
    """The formula as an element that Markdown leaves alone."""
    made = convert(latex.strip(), display="block" if display else "inline")
    return f'<span class="formula">{made.translate(_SPECIAL)}</span>'
