"""Weights on the simplex: validation, sampling, lattices, the grid of Algorithm 1."""
