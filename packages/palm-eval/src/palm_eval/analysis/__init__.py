"""Analyses of a run: baselines, intervals, evaluation, remeasurement, figures."""
