"""Oracles: the protocol, the registry of plugins, the tabular oracle, conformance rules."""
