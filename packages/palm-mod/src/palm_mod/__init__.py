"""PALM's multi-objective decoding: any weighting of d experts, all weightings at once."""

__version__ = "0.1.0"
