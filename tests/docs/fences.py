"""The code blocks of a page, in order, as regions for Sybil."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sybil import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sybil import Document, Example

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"\n]+)"')
_REASON = re.compile(r"<!--\s*not run:\s*(\S[^>]*?)\s*-->\s*\Z")
_SHOWS = ("console", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: the first word after the fence, or "".
        title: the file that it is written to, or "".
        code: what is in it, without its indentation.
        not_run: why it is not run, from the comment before it, or "".
        output: it stands directly after a block whose output it can show.
    """

    language: str
    title: str
    code: str
    not_run: str
    output: bool


def parser(evaluate: Callable[[Example], None]) -> Callable[[Document], Iterator[Region]]:
    """A parser of Sybil's that finds every fenced block, for ``evaluate``."""

    def parse(document: Document) -> Iterator[Region]:
        before, end = "", 0
        for found in _FENCE.finditer(document.text):
            between = document.text[end : found.start()]
            words = found["info"].split()
            title = _TITLE.search(found["info"])
            reason = _REASON.search(between)
            block = Block(
                language=words[0] if words and "=" not in words[0] else "",
                title=title[1] if title else "",
                code=textwrap.dedent(found["code"]),
                not_run=reason[1] if reason else "",
                output=before in _SHOWS and not between.strip(),
            )
            yield Region(found.start(), found.end(), block, evaluate)
            before, end = block.language if not block.title else "", found.end()

    return parse
