"""Covers: which policies serve which weights, and the fewest that serve all."""
