"""Export of a portfolio's models, for serving or publication.

Only measured models are exported: every artifact is validated against its hash in the run's
ledger first.
"""
