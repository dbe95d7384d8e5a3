"""Figure files: reproducible bytes, fallback fonts for characters that DejaVu Sans lacks."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FaceFlags
from matplotlib.text import Text

from palm_core import InputError
from palm_core.plugin import one_line, write_atomically
from palm_eval.figures.style import drawing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OWN = "DejaVu Sans"
# A font of boxes for every character, and fonts with nonstandard encodings.
_NO_FALLBACK = ("Last Resort", "LastResort", "STIXNonUnicode", "STIXSize", "cm")
_SHOWN = 8


class GlyphWarning(UserWarning):
    """A file has boxes in place of characters that no installed font has."""


def missing_note(figures: Iterable[Figure]) -> str:
    """A sentence on characters of these figures that no installed font has, or ""."""
    lacking = "".join(sorted(set().union(*map(_lacking, figures))))
    _, left = _families(lacking)
    if not left:
        return ""
    few = ", ".join(repr(character) for character in left[:_SHOWN])
    many = f", … ({len(left)} characters)" if len(left) > _SHOWN else ""
    return (
        f"no font on this machine has {few}{many}: boxes in pdf and png; "
        "in svg the reader's fonts show them"
    )


@contextmanager
def with_fallbacks(figure: Figure, use: bool = True) -> Iterator[None]:
    """Context manager: use fallback fonts for characters that DejaVu Sans lacks."""
    lacking = _lacking(figure) if use else ""
    families, _ = _families(lacking)
    changed = []
    if families:
        for text in _texts(figure):
            if set(text.get_text()) & set(lacking):
                changed.append((text, text.get_fontfamily()))
                text.set_fontfamily([*text.get_fontfamily(), *families])
    try:
        yield
    finally:
        for text, before in changed:
            text.set_fontfamily(before)


def _texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text)]


def _lacking(figure: Figure) -> str:
    """The characters that DejaVu Sans lacks, each once, in order."""
    used = {character for text in _texts(figure) for character in text.get_text()}
    own = _characters(font_manager.findfont(_OWN, fallback_to_default=True))
    # Line breaks and the like are not drawn.
    return "".join(sorted(c for c in used if ord(c) not in own and c.isprintable()))


@cache
def _families(lacking: str) -> tuple[tuple[str, ...], str]:
    """Fallback fonts for as many of these characters as possible, and the characters left."""
    left, families = lacking, []
    while left:
        has = {name: _held(path, left) for name, path in _fonts()}
        best = max(has, key=lambda name: len(has[name]), default=None)
        if best is None or not has[best]:
            break
        families.append(best)
        left = "".join(c for c in left if c not in has[best])
    return tuple(families), left


def _held(path: str, characters: str) -> str:
    known = _characters(path)
    return "".join(c for c in characters if ord(c) in known)


@cache
def _fonts() -> list[tuple[str, str]]:
    """(family, file) of the machine's upright regular fonts, in order of their names."""
    found: dict[str, str] = {}
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        plain = font.style == "normal" and font.weight in {400, "normal", "regular"}
        if plain and not font.name.startswith(_NO_FALLBACK):
            found.setdefault(font.name, font.fname)
    return list(found.items())


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        font = font_manager.get_font(path)
        # Bitmap emoji fonts cannot be drawn.
        return frozenset(font.get_charmap() if FaceFlags.SCALABLE in font.face_flags else ())
    except (OSError, RuntimeError):  # a missing or damaged font
        return frozenset()


# Metadata that depend on the date or on versions.
_METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
#: The metadata key of the description, by format.
_DESCRIPTION = {"svg": "Description", "pdf": "Subject", "png": "Description"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A figure with its texts.

    Args:
        figure: matplotlib's.
        title: a few words.
        caption: contents and reading instructions, for all readers.
        description: its contents in numbers, as alternative text.
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
    """Write the figure to ``path``, in the format of its ending: .svg, .pdf or .png.

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
