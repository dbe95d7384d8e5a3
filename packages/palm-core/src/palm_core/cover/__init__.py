"""Covers: policies that cover weights, smallest covers, regions served."""
