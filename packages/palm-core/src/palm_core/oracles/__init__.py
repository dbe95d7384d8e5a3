"""Oracles: protocol, registry of plugins, task tables, tabular oracle."""
