"""Figures of a portfolio, drawn from plain data with matplotlib's objects.

Each function returns a :class:`matplotlib.figure.Figure`; pyplot and displays are not
used. :func:`save` writes SVG, PDF or PNG, reproducible to the byte. matplotlib's settings are
changed while a figure is drawn and then restored: draw from one thread at a time.
"""

from palm_eval.figures.cells import cells_description, cells_figure, covered_share
from palm_eval.figures.curve import curve_description, curve_figure
from palm_eval.figures.front import front_description, front_figure
from palm_eval.figures.output import Drawn, render, save
from palm_eval.figures.style import PolicyStyle, policy_styles
from palm_eval.figures.usage import usage_description, usage_figure
from palm_eval.figures.weights import (
    grids,
    grids_description,
    grids_figure,
    weights_description,
    weights_figure,
)

__all__ = [
    "Drawn",
    "PolicyStyle",
    "cells_description",
    "cells_figure",
    "covered_share",
    "curve_description",
    "curve_figure",
    "front_description",
    "front_figure",
    "grids",
    "grids_description",
    "grids_figure",
    "policy_styles",
    "render",
    "save",
    "usage_description",
    "usage_figure",
    "weights_description",
    "weights_figure",
]
