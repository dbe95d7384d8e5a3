"""A hook of mkdocs: what the theme leaves unnamed for those who do not see it, named."""

from __future__ import annotations

from typing import Any

_UNNAMED = 'data-md-component="search" role="dialog">'


def on_post_page(output: str, **_: Any) -> str:
    """Name the dialog of the search."""
    return output.replace(_UNNAMED, _UNNAMED.replace(">", ' aria-label="Search">'))
