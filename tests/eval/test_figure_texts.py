"""What figures say in words, and the characters and descriptions of their files."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image

from palm_core import InputError, PolicySet, serving_intervals, serving_shares, size_gap_curve
from palm_eval import figures
from palm_eval.figures import Drawn
from palm_eval.figures import output as fonts
from palm_eval.figures.output import GlyphWarning, missing_note, with_fallbacks
from palm_eval.figures.style import listed

PAIR = PolicySet(
    [[1.0, 0.0], [0.8, 0.7], [0.3, 0.3], [0.0, 1.0]],
    names=list("abcd"),
    objectives=["helpful", "brief"],
)
# In STIXGeneral, which comes with matplotlib, not in DejaVu Sans.
RARE = "\u210a"
# A character for private use: no font has it, or each its own.
NOWHERE = "\ue7ff\U0010fffd"


def figure_of(text: str) -> Figure:
    drawn = Figure(figsize=(2, 1))
    drawn.text(0.1, 0.5, text)
    return drawn


def drawn_of(text: str = "plain") -> Drawn:
    return Drawn(figure=figure_of(text), title="A title", caption="x", description="Shows 1 & <2>.")


# --- files --------------------------------------------------------------------------


def test_svg_says_what_it_shows() -> None:
    tree = ET.fromstring(figures.render(drawn_of()))
    assert tree.findtext("{http://www.w3.org/2000/svg}title") == "A title"
    (described,) = tree.iter("{http://purl.org/dc/elements/1.1/}description")
    assert "".join(described.itertext()).strip() == "Shows 1 & <2>."


def test_png_and_pdf_say_what_they_show(tmp_path: Path) -> None:
    file = figures.save(drawn_of(), tmp_path / "x.png")
    with Image.open(file) as image:
        assert image.info["Title"] == "A title"
        assert image.info["Description"] == "Shows 1 & <2>."
    data = figures.render(drawn_of(), "pdf")
    assert b"/Title (A title)" in data
    assert b"/Subject (Shows 1 & <2>.)" in data
    assert figures.render(drawn_of(), "pdf") == data


# --- characters ---------------------------------------------------------------------


def test_characters_come_from_another_font_where_one_has_them() -> None:
    assert missing_note([figure_of(f"a{RARE}")]) == ""
    plain = figure_of(f"a{RARE}")
    (text,) = plain.texts
    before = text.get_fontfamily()
    with with_fallbacks(plain):
        assert len(text.get_fontfamily()) > len(before)
    assert text.get_fontfamily() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.render(plain, "pdf")
        shown = figures.render(plain, "png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts, "_families", lambda lacking: ((), lacking))
        with pytest.warns(GlyphWarning, match=f"no font on this machine has '{RARE}'"):
            assert figures.render(plain, "png") != shown


def test_what_no_font_has_is_told_but_for_svg() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert NOWHERE[0] in figures.render(figure_of(NOWHERE)).decode()


def test_many_missing_characters_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_fonts", list)
    fonts._families.cache_clear()
    try:
        text = "".join(chr(0x4E00 + i) for i in range(12))
        said = missing_note([figure_of(text[:7]), figure_of(text[3:])])
        assert said.startswith("no font on this machine has '一', '丁', ")
        assert said.count("'") == 17  # eight characters, and the reader's fonts
        assert "… (12 characters): boxes in pdf and png; in svg the reader's fonts" in said
        with pytest.warns(GlyphWarning, match="boxes in pdf and png"):
            figures.render(drawn_of("二"), "png")
    finally:
        fonts._families.cache_clear()


def test_fonts_of_boxes_are_no_help() -> None:
    assert fonts._fonts()
    for name, path in fonts._fonts():
        assert "resort" not in name.lower()
        assert FT2Font(path).family_name


# --- descriptions -------------------------------------------------------------------


def test_usage_of_two_objectives_is_told_by_weights() -> None:
    styles = figures.policy_styles(["d", "b"], PAIR)
    said = figures.usage_description({"portfolio": PAIR, "two": PAIR.subset([0, 3])}, styles)
    ends = serving_intervals(PAIR)
    assert said == (
        "Portfolio, best policy by weight of helpful: "
        f"policy 1 (d) from 0.00 to {ends[3, 1]:.2f}; "
        f"policy 2 (b) from {ends[1, 0]:.2f} to {ends[1, 1]:.2f}; "
        f"policy 3 (a) from {ends[0, 0]:.2f} to 1.00; 1 serves none. "
        "Two, best policy by weight of helpful: policy 1 (d) from 0.00 to 0.50; "
        "policy 3 (a) from 0.50 to 1.00."
    )


@pytest.mark.parametrize("d", [3, 4])
def test_usage_of_more_objectives_is_told_by_shares(d: int) -> None:
    group = PolicySet(np.vstack([np.eye(d) + 0.1, 0.7 * np.ones((1, d))]))
    said = figures.usage_description({"all": group}, figures.policy_styles(group))
    told = {int(n): float(s) for n, s in re.findall(r"policy (\d+) \([^)]*\) ([\d.]+) %", said)}
    shares = serving_shares(group)
    assert told == {i + 1: pytest.approx(100 * s, abs=0.051) for i, s in enumerate(shares)}
    assert list(told.values()) == sorted(told.values(), reverse=True)


def test_curve_and_front_and_cells_and_weights_are_told() -> None:
    curve = size_gap_curve(PAIR)
    said = figures.curve_description(
        curve, intervals={1: (0.1, 0.4)}, certificate=0.02, baselines={"uniform": [(2, 0.5)]}
    )
    assert said.startswith("Gap by number of policies, 1: 30.0 % (between 10.0 % and 40.0 %); 2: ")
    assert "Uniform, 2: 50.0 %." in said
    assert said.endswith("at most 2 %.")
    styles = figures.policy_styles(["b"])
    assert figures.front_description(PAIR.subset([1]), PAIR, styles) == (
        "4 policies, 3 of them best at some weights. "
        "The portfolio: policy 1 (b) helpful 0.8, brief 0.7."
    )
    cells = figures.cells_description({"ends": np.eye(2)}, epsilon=0.0, delta=0.25)
    assert cells == "With ε' = 0 and δ' = 0.25. Ends: 2 weights cover 50 % of all."
    asked = figures.weights_description(
        np.eye(2), {"b": [0.0, 1.0]}, objectives=PAIR.objectives, styles=styles
    )
    assert asked == (
        "2 weights were asked for. The portfolio's policies are those of: "
        "policy 1 (b) helpful 0.00, brief 1.00."
    )
    grid = figures.grids_description(1.0, 0.25, 2, smallest=1 / 16)
    assert re.findall(r"(\d+) weights", grid) == ["9", "5", "7"]


def test_of_many_parts_the_first_are_told() -> None:
    assert listed(list("ab"), "letters") == "a; b"
    assert listed(list("abcdefghijkl"), "letters").endswith("i; j; and 2 more letters")


def test_a_drawn_figure_must_hold_a_figure() -> None:
    wrong = Drawn(figure="x", title="", caption="", description="")
    with pytest.raises(InputError, match="must be a matplotlib Figure"):
        figures.render(wrong)
