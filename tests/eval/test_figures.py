"""The figures: what they draw, compared with palm-core, not with pixels."""

import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon, Rectangle

import palm_core as palm
from palm_core import InputError, PolicySet
from palm_eval import figures
from palm_eval.figures.cells import cell_of, uncovered
from palm_eval.figures.front import apart
from palm_eval.figures.style import CORNERS
from palm_eval.plugin import share
from palm_eval.polygons import serving_cells

NAMES = ("helpful", "brief", "safe")
PAIR = PolicySet([[1.0, 0.0], [0.8, 0.7], [0.3, 0.3], [0.0, 1.0]], names=list("abcd"))
TRIPLE = PolicySet(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0.1, 0.1, 0.1]],
    names=list("vwxyz"),
    objectives=NAMES,
)


def front(m, d, seed):
    """Rewards (m, d), many of them supported: points near a sphere."""
    points = np.abs(np.random.default_rng(seed).normal(size=(m, d))) + 1e-3
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def barycentric(drawn):
    """The weights (n, 3) of the corners of a drawn polygon or path, without the closing one."""
    points = (drawn.get_path() if hasattr(drawn, "get_path") else drawn).vertices[:-1]
    return np.linalg.solve(
        np.vstack([CORNERS.T, np.ones(3)]), np.vstack([points.T, np.ones(len(points))])
    ).T


def labelled(axes, kind, label=None):
    return [
        artist
        for artist in axes.get_children()
        if isinstance(artist, kind) and label in {None, artist.get_label()}
    ]


def texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


# --- styles -------------------------------------------------------------------------


def test_a_policy_has_one_style_and_the_first_56_differ_in_grey_too():
    styles = figures.policy_styles([str(i) for i in range(60)], ["3", "new"])
    assert [style.number for style in styles.values()] == list(range(1, 62))
    first = list(styles.values())[:56]
    assert len({(style.colour, style.hatch) for style in first}) == 56
    assert len({(style.colour, style.marker) for style in first}) == 56
    assert all(a.hatch != b.hatch for a, b in pairwise(first))


def test_the_same_colour_in_every_figure():
    styles = figures.policy_styles(["d", "z"], PAIR)
    bars = figures.usage_figure({"all": PAIR}, styles=styles).axes[0]
    points = figures.front_figure(PAIR, PAIR, styles=styles).axes[0]
    for name in "abd":
        (bar,) = labelled(bars, Rectangle, name)
        (point,) = labelled(points, mpl.lines.Line2D, name)
        assert to_hex(bar.get_facecolor()).upper() == styles[name].colour
        assert point.get_color() == styles[name].colour
        assert bar.get_hatch() == styles[name].hatch
        assert point.get_marker() == styles[name].marker


def test_styles_must_know_every_policy():
    with pytest.raises(InputError, match="styles: none for policy 'b'"):
        figures.usage_figure({"all": PAIR}, styles=figures.policy_styles(["a"]))
    with pytest.raises(InputError, match="3 is no name"):
        figures.policy_styles([3])


# --- files --------------------------------------------------------------------------


def every_figure():
    curve = palm.size_gap_curve(PAIR)
    yield figures.usage_figure({"PALM": PAIR, "half": PAIR.subset([0, 3])})
    yield figures.usage_figure({"PALM": TRIPLE})
    yield figures.front_figure(PAIR.subset([0, 1]), PAIR)
    yield figures.front_figure(TRIPLE, TRIPLE)
    yield figures.grids_figure(0.5, 0.2)
    yield figures.grids_figure(0.5, 0.2, objectives=NAMES, smallest=0.1)
    yield figures.curve_figure(curve, certificate=0.1, baselines={"Uniform": [(1, 0.4)]})
    yield figures.cells_figure({"random": palm.sample_weights(9, 3), "corners": np.eye(3)})
    four = PolicySet(np.eye(4))
    yield figures.front_figure(four, four)
    yield figures.weights_figure(np.eye(2), {"a": [1, 0]}, objectives=NAMES[:2])


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_figures import digests
print(digests())
"""


def digests():
    found = dict(enumerate(every_figure()))
    wanted = [(1, "svg"), (0, "pdf"), (7, "png"), (8, "svg"), (9, "pdf")]
    return " ".join(
        hashlib.sha256(figures.render(found[place], kind)).hexdigest() for place, kind in wanted
    )


def test_another_process_writes_the_same_bytes(request):
    run = [sys.executable, "-W", "error", "-c", SCRIPT, str(request.path.parent)]
    other = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert other.split() == digests().split()


def test_svg_is_xml_with_text_as_text_and_no_date():
    for figure in every_figure():
        data = figures.render(figure)
        tree = ET.fromstring(data)
        words = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
        assert len(words) >= 5
        assert b"<dc:date>" not in data
        assert mpl.__version__.encode() not in data


def test_awkward_names_are_shown_as_they_are(tmp_path):
    names = ["_hidden", "$\\frac{1}$ <b>&", "a" * 300, "二"]
    policies = PolicySet(PAIR.rewards, names=names, objectives=["r$1$", "<x>"])
    figure = figures.usage_figure({"_P$": policies})
    file = figures.save(figure, tmp_path / "usage.svg")
    words = [node.text for node in ET.parse(file).iter("{http://www.w3.org/2000/svg}text")]
    assert "1  _hidden" in words
    assert "2  $\\frac{1}$ <b>&" in words
    assert "_P$" in words
    assert max(map(len, words)) < 80
    curve = figures.curve_figure(palm.size_gap_curve(PAIR), baselines={"_best $x$": [(1, 0.4)]})
    assert " _best $x$" in [text.get_text() for text in curve.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize(
    ("ending", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_save_writes_what_the_ending_says(tmp_path, ending, start):
    figure = figures.grids_figure(0.5, 0.2)
    file = figures.save(figure, tmp_path / f"grid.{ending}")
    assert file.read_bytes().startswith(start)


def test_save_refuses_other_endings_and_other_things(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.svg, \.pdf or \.png"):
        figures.save(figures.grids_figure(0.5, 0.2), tmp_path / "grid.jpg")
    with pytest.raises(InputError, match="must be svg, pdf or png"):
        figures.render(figures.grids_figure(0.5, 0.2), "jpg")
    with pytest.raises(InputError, match="must be a matplotlib Figure"):
        figures.render("figure")
    assert list(tmp_path.iterdir()) == []


def test_the_users_settings_neither_matter_nor_change():
    plain = figures.render(figures.grids_figure(0.5, 0.2))
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "xtick.major.size": 20}):
        before = dict(mpl.rcParams)
        assert figures.render(figures.grids_figure(0.5, 0.2)) == plain
        assert dict(mpl.rcParams) == before


def test_pyplot_is_not_loaded_and_palm_eval_stays_light():
    code = (
        "import sys, palm_eval; assert 'matplotlib' not in sys.modules\n"
        "from palm_eval import figures; figures.render(figures.grids_figure(0.5, 0.2))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Figure 1: cells ----------------------------------------------------------------


def covers(weights, v, epsilon, delta, slack=0.0):
    return (np.abs(weights - v) <= epsilon * v + delta + slack).all(axis=-1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.2, 0.4, 1.0, 1.7]),
    st.sampled_from([0.0, 0.0125, 0.1]),
)
def test_a_cell_holds_exactly_what_its_weights_cover(seed, epsilon, delta):
    weights = palm.sample_weights(1, 3, seed=seed)[0]
    cell = cell_of(weights, epsilon=epsilon, delta=delta)
    assert all(covers(weights, corner, epsilon, delta, 1e-12) for corner in cell)
    lattice = palm.uniform_lattice(3, 60)
    covered = covers(weights, lattice, epsilon, delta).mean()
    assert share(cell) == pytest.approx(covered, abs=0.05)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25))
def test_uncovered_pieces_are_the_rest_of_the_simplex(seed, k):
    weights = palm.sample_weights(k, 3, seed=seed)
    pieces = uncovered(weights, epsilon=0.4, delta=0.0125)
    # Inner points of the pieces are covered by none ...
    for piece in pieces:
        assert not covers(weights, piece.mean(axis=0), 0.4, 0.0125, -1e-12).any()
    # ... and their area is what sampled weights find.
    sample = palm.sample_weights(4000, 3, seed=seed + 1)
    found = np.mean([covers(weights, v, 0.4, 0.0125).any() for v in sample])
    share = figures.covered_share(weights, epsilon=0.4, delta=0.0125)
    assert share == pytest.approx(found, abs=0.04)


def test_lemma_a1_the_grid_covers_everything():
    grid = palm.construct_grid(3, 0.8, 0.15)
    assert figures.covered_share(grid, epsilon=0.8, delta=3 * 0.15) == 1.0
    assert figures.covered_share(np.eye(3), epsilon=0.0, delta=0.1) == pytest.approx(0.03)


def test_cells_figure_draws_each_cell_and_each_gap():
    sets = {
        "random": palm.sample_weights(12, 3),
        "corners": np.eye(3),
        "grid": palm.construct_grid(3, 1.0, 0.25),
    }
    figure = figures.cells_figure(sets, objectives=NAMES)
    assert len(figure.axes) == 3
    for axes, (title, rows) in zip(figure.axes, sets.items(), strict=True):
        (cells,) = labelled(axes, PolyCollection, "cells")
        assert len(cells.get_paths()) == len(rows)
        for path, row in zip(cells.get_paths(), rows, strict=True):
            np.testing.assert_allclose(
                barycentric(path), cell_of(row, epsilon=0.4, delta=0.0125), atol=1e-12
            )
        (bare,) = labelled(axes, PolyCollection, "uncovered")
        gaps = sum(share(barycentric(path)) for path in bare.get_paths())
        covered = figures.covered_share(rows, epsilon=0.4, delta=0.0125)
        assert gaps == pytest.approx(1 - covered)
        (points,) = labelled(axes, PathCollection)
        np.testing.assert_allclose(points.get_offsets(), rows @ CORNERS)
        words = texts(axes)
        assert title in words
        (said,) = (
            re.fullmatch(r"(\d+) weights cover (.*) %", word) for word in words if "cover" in word
        )
        assert int(said[1]) == len(rows)
        assert 0 <= 100 * covered - float(said[2]) < 0.1


def test_cells_figure_refuses_bad_input():
    with pytest.raises(InputError, match="weight_sets: empty"):
        figures.cells_figure({})
    with pytest.raises(InputError, match=r"weight_sets\['a'\]: 2 values"):
        figures.cells_figure({"a": [[0.5, 0.5]]})
    with pytest.raises(InputError, match="epsilon = -1"):
        figures.cells_figure({"a": np.eye(3)}, epsilon=-1)
    with pytest.raises(InputError, match="delta = nan"):
        figures.cells_figure({"a": np.eye(3)}, delta=float("nan"))
    with pytest.raises(InputError, match="3 values"):
        figures.cells_figure({"a": np.eye(3)}, objectives=["x", "y"])
    with pytest.raises(InputError, match="objectives: 4 names given, must be 2 or 3"):
        figures.cells_figure({"a": np.eye(4)}, objectives=list("wxyz"))
    with pytest.raises(InputError, match="weights: 4 values"):
        figures.covered_share(np.eye(4), epsilon=0.4, delta=0.1)


def test_cells_of_two_objectives_are_intervals():
    rows = np.array([[0.1, 0.9], [0.5, 0.5], [0.55, 0.45], [1.0, 0.0]])
    (axes,) = figures.cells_figure(
        {"some": rows, "ends": np.eye(2)}, epsilon=0.25, delta=0.05, objectives=NAMES[:2]
    ).axes
    sample = np.column_stack([np.linspace(0, 1, 4001), np.linspace(1, 0, 4001)])
    for place, weights in enumerate((rows, np.eye(2))):
        row = [
            patch
            for patch in labelled(axes, Rectangle)
            if patch.get_y() + patch.get_height() / 2 == pytest.approx(-place)
        ]
        cells = [patch for patch in row if patch.get_label() == "cell"]
        assert len(cells) == len(weights)
        for cell, w in zip(cells, weights, strict=True):
            inside = sample[covers(w, sample, 0.25, 0.05), 0]
            ends = (cell.get_x(), cell.get_x() + cell.get_width())
            assert ends == pytest.approx((inside.min(), inside.max()), abs=3e-4)
        bare = [patch for patch in row if patch.get_label() == "uncovered"]
        share = figures.covered_share(weights, epsilon=0.25, delta=0.05)
        assert sum(patch.get_width() for patch in bare) == pytest.approx(1 - share)
        found = np.mean([covers(weights, v, 0.25, 0.05).any() for v in sample])
        assert share == pytest.approx(found, abs=1e-3)
        assert f"{len(weights)} weights cover {np.floor(1000 * share) / 10:g} %" in texts(axes)
    assert figures.covered_share(np.eye(2), epsilon=0.0, delta=0.25) == 0.5
    assert [label.get_text() for label in axes.get_yticklabels()] == ["some", "ends"]


# --- Figure 2: grids ----------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3])
def test_the_three_grids(d):
    found = figures.grids(d, 0.5, 0.3, smallest=0.05)
    np.testing.assert_array_equal(found["combined"], palm.construct_grid(d, 0.5, 0.3))
    np.testing.assert_array_equal(found["additive"], palm.uniform_lattice(d, 4))
    rows = found["multiplicative"]
    powers = np.log(rows.max(axis=1, keepdims=True) / rows) / np.log(1.5)
    np.testing.assert_allclose(powers, powers.round(), atol=1e-9)
    # 1.5^-7 = 0.0585 is the last that is not below 0.05.
    assert powers.max().round() == 7
    assert len(rows) == 8**d - 7**d


def test_grids_figure_draws_them():
    found = figures.grids(2, 0.5, 0.2, smallest=0.01)
    (axes,) = figures.grids_figure(0.5, 0.2, smallest=0.01).axes
    for name, rows in found.items():
        (strokes,) = labelled(axes, mpl.collections.LineCollection, name)
        np.testing.assert_allclose([s[0, 0] for s in strokes.get_segments()], rows[:, 0])
    found = figures.grids(3, 0.5, 0.2, smallest=0.1)
    figure = figures.grids_figure(0.5, 0.2, objectives=NAMES, smallest=0.1)
    for axes, (name, rows) in zip(figure.axes, found.items(), strict=True):
        (points,) = labelled(axes, PathCollection, name)
        np.testing.assert_allclose(points.get_offsets(), rows @ CORNERS)
        assert {*NAMES, name} <= set(texts(axes))


def test_grids_figure_refuses_bad_input():
    with pytest.raises(InputError, match="mu = 0"):
        figures.grids_figure(0, 0.2)
    with pytest.raises(InputError, match="smallest = 0"):
        figures.grids_figure(0.5, 0.2, smallest=0)
    with pytest.raises(InputError, match="4 given, the figure can show 2 or 3"):
        figures.grids_figure(0.5, 0.2, objectives="abcd")
    with pytest.raises(InputError, match="more than 20000 points"):
        figures.grids_figure(1.0, 0.001, objectives=NAMES, smallest=0.1)
    with pytest.raises(InputError, match="weights"):
        figures.grids_figure(0.001, 0.2, objectives=NAMES)


# --- Figure 3: usage ----------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_bars_are_the_serving_intervals(m, seed):
    group = PolicySet(front(m, 2, seed))
    (axes,) = figures.usage_figure({"one": group, "two": PAIR_NAMED}).axes
    for place, policies in enumerate((group, PAIR_NAMED)):
        bars = {
            bar.get_label(): bar
            for bar in labelled(axes, Rectangle)
            if bar is not axes.patch and bar.get_y() + bar.get_height() / 2 == pytest.approx(-place)
        }
        intervals = palm.serving_intervals(policies)
        used = ~np.isnan(intervals[:, 0])
        assert list(bars) == [name for name, use in zip(policies.names, used, strict=True) if use]
        for name, ends in zip(policies.names, intervals, strict=True):
            if name in bars:
                low = bars[name].get_x()
                assert (low, low + bars[name].get_width()) == pytest.approx(tuple(ends))


PAIR_NAMED = PolicySet(PAIR.rewards, names=["p", "q", "r", "s"])


def test_usage_triangle_draws_the_cells_and_names_the_unused():
    styles = figures.policy_styles(TRIPLE)
    figure = figures.usage_figure({"all": TRIPLE, "two": TRIPLE.subset([0, 4])}, styles=styles)
    for axes, group in zip(figure.axes, (TRIPLE, TRIPLE.subset([0, 4])), strict=True):
        cells = serving_cells(group.vertex_values)
        for index, cell in cells.items():
            (drawn,) = labelled(axes, Polygon, group.names[index])
            np.testing.assert_allclose(barycentric(drawn), cell, atol=1e-12)
            assert to_hex(drawn.get_facecolor()).upper() == styles[group.names[index]].colour
        assert len(labelled(axes, Polygon)) == len(cells) + 1  # and the triangle itself
    assert "unused: 5" in texts(figure.axes[0])
    numbers = {word for word in texts(figure.axes[0]) if word.isdecimal()}
    assert numbers == {"1", "2", "3", "4"}
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        f"{i + 1}  {name}" for i, name in enumerate(TRIPLE.names)
    ]


def test_usage_of_four_objectives_is_bars_of_shares():
    group = PolicySet(np.vstack([np.eye(4) + 0.2, np.full((1, 4), 0.7), np.zeros((1, 4))]))
    shares = palm.serving_shares(group)
    (axes,) = figures.usage_figure({"all": group, "two": group.subset([0, 1])}).axes
    bars = [bar for bar in labelled(axes, Rectangle) if bar.get_y() == -0.3]
    assert [bar.get_label() for bar in bars] == list(group.names[:5])
    np.testing.assert_allclose([bar.get_width() for bar in bars], shares[:5])
    np.testing.assert_allclose(
        [bar.get_x() for bar in bars], np.cumsum(shares[:5]) - shares[:5], atol=1e-12
    )
    assert axes.get_xlabel() == "share of all weights"
    assert "unused: 6" in texts(axes)


def test_of_many_policies_the_key_has_the_first_portfolio():
    mine = PolicySet(front(5, 2, 0), names=list("abcde"))
    for others, keys in ((19, 24), (20, 5)):
        theirs = PolicySet(front(others, 2, 1))
        (key,) = figures.usage_figure({"portfolio": mine, "random": theirs}).legends
        assert len(key.get_texts()) == keys
        assert [text.get_text() for text in key.get_texts()][:2] == ["1  a", "2  b"]


def test_usage_bars_name_the_unused():
    assert "unused: 3" in texts(figures.usage_figure({"all": PAIR}))
    many = PolicySet(np.vstack([[2.0, 2.0], front(12, 2, 0)]))
    assert "12 policies serve no weights" in texts(figures.usage_figure({"all": many}))


def test_usage_figure_refuses_bad_input():
    with pytest.raises(InputError, match="portfolios: empty"):
        figures.usage_figure({})
    with pytest.raises(InputError, match=r"portfolios\['b'\]: objectives helpful"):
        figures.usage_figure({"a": PAIR, "b": TRIPLE})
    with pytest.raises(InputError, match="list given, must be a PolicySet"):
        figures.usage_figure({"a": [[1, 0]]})


# --- the curve ----------------------------------------------------------------------


def line(axes, label):
    (found,) = labelled(axes, mpl.lines.Line2D, label)
    return np.column_stack(found.get_data())


def test_curve_draws_sizes_gaps_intervals_certificate_and_baselines():
    curve = palm.size_gap_curve(front(9, 2, 1))
    assert len(curve) > 3
    first = palm.SizeGap(size=1, epsilon=0.5, delta=0.1, indices=np.array([0]), proven=False)
    figure = figures.curve_figure(
        [*curve[1:], first],
        intervals={1: (0.4, 0.6)},
        certificate=0.012341,
        baselines={"Uniform": [(2, 0.3), (7, 0.2)]},
    )
    (axes,) = figure.axes
    proven = [(p.size, 100 * p.epsilon) for p in curve[1:]]
    np.testing.assert_allclose(line(axes, "least gap, proven"), proven)
    np.testing.assert_allclose(line(axes, "best gap found"), [(1, 50)])
    np.testing.assert_allclose(line(axes, "_steps"), [(1, 50), *proven])
    np.testing.assert_allclose(line(axes, "Uniform"), [(2.11, 30), (7.11, 20)])
    np.testing.assert_allclose(line(axes, "certified: at most 1.24 %")[:, 1], 1.2341)
    (bars,) = labelled(axes, mpl.collections.LineCollection, "95 % interval over prompts")
    np.testing.assert_allclose(bars.get_segments(), [[[1, 40], [1, 60]]])
    assert axes.get_ylim()[0] == 0
    (axes,) = figures.curve_figure(curve, certificate=0.021).axes
    assert line(axes, "certified: at most 2.1 %").shape == (2, 2)


def test_curve_figure_refuses_bad_input():
    curve = palm.size_gap_curve(PAIR)
    for bad, said in (
        ({"certificate": float("inf")}, "certificate = inf"),
        ({"certificate": -0.1}, "certificate = -0.1"),
        ({"intervals": {9: (0.1, 0.2)}}, "size 9 is not on the curve"),
        ({"intervals": {1: (0.3, 0.2)}}, "must be low, high"),
        ({"intervals": {1: (float("nan"), 0.2)}}, r"intervals\[1\] = nan"),
        ({"baselines": {"U": [(1, float("inf"))]}}, r"baselines\['U'\] = inf"),
        ({"baselines": {"U": [(0, 0.1)]}}, r"baselines\['U'\] size = 0"),
    ):
        with pytest.raises(InputError, match=said):
            figures.curve_figure(curve, **bad)
    with pytest.raises(InputError, match="curve: empty"):
        figures.curve_figure([])
    with pytest.raises(InputError, match="duplicate size"):
        figures.curve_figure([curve[0], curve[0]])


# --- the front ----------------------------------------------------------------------


def test_front_draws_candidates_support_and_portfolio():
    costs = [0.0, 0.1, 0.0, 0.2]
    policies = PolicySet(PAIR.rewards, costs, names=PAIR.names, objectives=["help", "brief"])
    (axes,) = figures.front_figure(policies.subset([1, 2]), policies).axes
    u = policies.vertex_values
    np.testing.assert_allclose(line(axes, "best nowhere"), u[[2]])
    np.testing.assert_allclose(line(axes, "best somewhere"), u[[0, 1, 3]])
    np.testing.assert_allclose(line(axes, "supported front"), u[[3, 1, 0]])
    np.testing.assert_allclose(line(axes, "b"), u[[1]])
    np.testing.assert_allclose(line(axes, "c"), u[[2]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("help − f", "brief − f")
    assert {"1", "2", "1  b", "2  c"} <= set(texts(axes.figure))


def test_front_of_three_objectives_is_three_projections():
    figure = figures.front_figure(TRIPLE.subset([3]), TRIPLE)
    pairs = [(0, 1), (0, 2), (1, 2)]
    for axes, pair in zip(figure.axes, pairs, strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == tuple(NAMES[i] for i in pair)
        np.testing.assert_allclose(line(axes, "best somewhere"), TRIPLE.rewards[:4][:, pair])
        np.testing.assert_allclose(line(axes, "best nowhere"), TRIPLE.rewards[4:][:, pair])
        np.testing.assert_allclose(line(axes, "y"), TRIPLE.rewards[[3]][:, pair])


def test_front_figure_refuses_bad_input():
    with pytest.raises(InputError, match="must be objective 1, objective 2 as those"):
        figures.front_figure(TRIPLE, PAIR)
    with pytest.raises(InputError, match="candidates: ndarray given, must be a PolicySet"):
        figures.front_figure(PAIR, np.eye(2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_numbers_are_moved_apart_in_order(heights):
    heights = np.array(heights)
    moved = apart(heights, 0.05)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(moved[order]) >= 0.05 - 1e-9).all()
    assert moved.mean() == pytest.approx(heights.mean())
    if (np.diff(heights[order]) >= 0.05).all():
        np.testing.assert_allclose(moved, heights, atol=1e-12)


def test_front_of_four_objectives_is_parallel_coordinates():
    rewards = np.vstack([np.diag([1.0, 2.0, 3.0, 4.0]), [[0.5, 1.0, 1.5, 2.0], [0, 0, 0, 0]]])
    everyone = PolicySet(rewards, objectives=list("wxyz"))
    (axes,) = figures.front_figure(everyone.subset([0, 4]), everyone).axes
    scaled = rewards / [1, 2, 3, 4]
    supported = palm.serving_shares(everyone) > 0
    for label, mask in (("best somewhere", supported), ("best nowhere", ~supported)):
        lines = labelled(axes, mpl.lines.Line2D, label)
        np.testing.assert_allclose([found.get_ydata() for found in lines], scaled[mask])
    for index in (0, 4):
        drawn = line(axes, everyone.names[index])
        np.testing.assert_allclose(drawn, np.column_stack([range(4), scaled[index]]))
    assert [label.get_text() for label in axes.get_xticklabels()] == list("wxyz")
    assert {"1", "2", "3", "4", "0"} <= set(texts(axes))
    assert {"1  " + everyone.names[0], "2  " + everyone.names[4]} <= set(texts(axes.figure))


# --- the weights asked --------------------------------------------------------------


def test_weights_stand_in_the_order_of_asking():
    rows = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.25, 0.75]])
    kept = {"middle": [0.5, 0.5], "low": [0, 1]}
    styles = figures.policy_styles(["low", "middle"])
    figure = figures.weights_figure(rows, kept, objectives=NAMES[:2], styles=styles)
    (axes,) = figure.axes
    (points,) = labelled(axes, PathCollection, "asked")
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([rows[:, 0], range(1, 5)]))
    shades = points.get_facecolors()[:, :3].mean(axis=1)
    assert (np.diff(shades) < 0).all()
    assert axes.yaxis_inverted()
    np.testing.assert_allclose(line(axes, "middle"), [[0.5, 3]])
    np.testing.assert_allclose(line(axes, "low"), [[0, 2]])
    (mark,) = labelled(axes, mpl.lines.Line2D, "low")
    assert (mark.get_marker(), mark.get_color()) == (styles["low"].marker, styles["low"].colour)
    assert {"1", "2"} <= set(texts(axes))
    (axes,) = figures.weights_figure(rows, kept, objectives=NAMES[:2], ordered=False).axes
    (points,) = labelled(axes, PathCollection, "asked")
    assert len(np.unique(points.get_facecolors(), axis=0)) == 1
    np.testing.assert_allclose(points.get_offsets()[:, 1], 0)


def test_weights_of_three_objectives_are_points_of_the_triangle():
    rows = palm.sample_weights(30, 3)
    figure = figures.weights_figure(rows, {"a": rows[7]}, objectives=NAMES)
    axes, strip = figure.axes
    (points,) = labelled(axes, PathCollection, "asked")
    np.testing.assert_allclose(points.get_offsets(), rows @ CORNERS)
    np.testing.assert_allclose(line(axes, "a"), rows[[7]] @ CORNERS)
    assert strip.get_ylabel() == "call"
    assert strip.get_ylim() == (1, 30)
    assert len(figures.weights_figure(rows, {}, objectives=NAMES, ordered=False).axes) == 1


def test_many_weights_are_pixels_in_vector_files():
    rows = palm.sample_weights(3001, 3)
    small = figures.render(figures.weights_figure(rows, {}, objectives=NAMES, ordered=False))
    assert b"<image" in small
    assert len(small) < 400_000


def test_weights_figure_refuses_bad_input():
    for weights, kept, objectives, said in (
        (np.eye(4), {}, "abcd", "objectives: 4 given, the figure can show 2 or 3"),
        (np.eye(3), {}, "ab", "3 values"),
        (np.zeros((0, 2)), {}, "ab", "weights: empty"),
        (np.eye(2), {"x": [0.5, 0.6]}, "ab", r"kept\['x'\]"),
    ):
        with pytest.raises(InputError, match=said):
            figures.weights_figure(weights, kept, objectives=objectives)
    with pytest.raises(InputError, match="styles: none for policy 'x'"):
        figures.weights_figure(np.eye(2), {"x": [1, 0]}, objectives="ab", styles={})
