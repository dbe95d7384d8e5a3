"""Figures as files: the same bytes each time, with what they show in words."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from palm_core import InputError
from palm_core.files import write_atomically
from palm_core.text import one_line
from palm_eval.figures.fonts import GlyphWarning, missing_note, with_fallbacks
from palm_eval.figures.style import drawing

# What would differ from one day, or one version, to the next.
_METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
#: Where each kind of file keeps the description.
_DESCRIPTION = {"svg": "Description", "pdf": "Subject", "png": "Description"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A figure, and what to say of it.

    Args:
        figure: matplotlib's.
        title: a few words.
        caption: how to read it and what is shown, for everyone.
        description: what it shows in numbers, for readers who cannot see it (alt text).
    """

    figure: Figure
    title: str
    caption: str
    description: str


def render(figure: Figure | Drawn, kind: str = "svg") -> bytes:
    """The figure as "svg", "pdf" or "png" (200 dots an inch), the same bytes each time.

    No date and no version is written; of a :class:`Drawn` the title and the description
    are. Text is kept as text in SVG and PDF. In PDF and PNG characters that DejaVu Sans
    lacks are taken from other fonts of the machine, with a ``GlyphWarning`` where none has
    them; in SVG the reader's fonts draw them.

    Raises:
        InputError: another kind, or something that is not a figure.
    """
    drawn = figure.figure if isinstance(figure, Drawn) else figure
    if not isinstance(drawn, Figure):
        raise InputError(f"figure: {type(figure).__name__} given, must be a matplotlib Figure")
    if kind not in _METADATA:
        raise InputError(f"kind = {kind!r}: must be svg, pdf or png")
    metadata = dict(_METADATA[kind])
    if isinstance(figure, Drawn):
        metadata["Title"] = one_line(figure.title)
        metadata[_DESCRIPTION[kind]] = one_line(figure.description, len(figure.description))
    buffer = io.BytesIO()
    missing = "" if kind == "svg" else missing_note([drawn])
    with drawing(), with_fallbacks(drawn, kind != "svg"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn.savefig(buffer, format=kind, dpi=200, metadata=metadata, bbox_inches="tight")
    if missing:
        warnings.warn(missing, GlyphWarning, stacklevel=2)
    return buffer.getvalue()


def save(figure: Figure | Drawn, path: str | Path) -> Path:
    """Write the figure to ``path``, whose ending says how: .svg, .pdf or .png.

    Raises:
        InputError: another ending, or something that is not a figure.
        WorkError: the file cannot be written.
    """
    file = Path(path)
    kind = file.suffix.lower().removeprefix(".")
    if kind not in _METADATA:
        raise InputError(f"path = {str(path)!r}: must end in .svg, .pdf or .png")
    write_atomically(file, render(figure, kind))
    return file
