"""Geometry of finitely many policies: exact numbers, kernels, envelopes, polyhedra."""
