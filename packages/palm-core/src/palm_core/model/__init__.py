"""The model: policies, normalization, portfolios and their file format."""
