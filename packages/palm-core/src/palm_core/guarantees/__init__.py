"""Guarantees: the theorem, exact gaps, certificates, adaptive grids."""
