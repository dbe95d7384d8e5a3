"""The paper's experiments: claims, published numbers, studies, tables, the page."""
