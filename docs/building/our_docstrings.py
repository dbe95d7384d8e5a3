"""An extension of griffe: our docstrings, as mkdocstrings reads them.

- Roles such as ``:func:`~palm_core.prune``` become links; one whose target is on no page is
  shown as code.
- ``Example:`` with a session of Python in it is what griffe calls ``Examples:``.
- One entry for several parameters, ``skip, first: …``, becomes one for each.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|data|mod|attr|exc):`(~?)([\w.]+)`")
_EXAMPLE = re.compile(r"^Example:(?=\n\s+>>>)", re.MULTILINE)
_SEVERAL = re.compile(r"^( +)((?:\w+, )+\w+):( .*(?:\n\1 +.*)*)", re.MULTILINE)


class OurDocstrings(griffe.Extension):
    """Rewrites the docstring of every object as soon as it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one."""
        if obj.docstring is None:
            return
        text = _EXAMPLE.sub("Examples:", obj.docstring.value)
        text = _SEVERAL.sub(lambda found: _each(found, obj), text)
        obj.docstring.value = ROLE.sub(lambda found: _link(found, obj), text)


def _link(found: re.Match[str], obj: griffe.Object) -> str:
    short, name = found[1], found[2]
    try:
        path = name if name.startswith("palm_") else obj.resolve(name)
    except griffe.NameResolutionError:
        path = name
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _each(found: re.Match[str], obj: griffe.Object) -> str:
    indent, names, text = found[1], found[2].split(", "), found[3]
    # those of a class may be its bases', which are not known yet
    if obj.is_function and not {one.name for one in obj.parameters}.intersection(names):
        return found[0]
    return "\n".join(f"{indent}{name}:{text}" for name in names)
