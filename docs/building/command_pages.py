"""The reference of the command line, out of the commands themselves."""

from __future__ import annotations

import re

from cyclopts.docs.markdown import generate_markdown_docs

from palm_core.cli.app import make_app

_HEAD = """# The command line

Every command takes `--help`. With `--json` it prints one document for a program instead of
text for people; progress goes to standard error. Exit codes: 0 done, 1 the work failed, 2 the
request was wrong, in which case one line says what would be accepted.

"""


def command_line_page() -> str:
    """The page: each command with its arguments, options and defaults."""
    told = generate_markdown_docs(
        make_app(["--help"]),
        heading_level=2,
        no_root_title=True,
        generate_toc=False,
        flatten_commands=True,
    )
    # examples stand in the help as a line of their own
    return _HEAD + re.sub(r"(?m)(?:^palm .*\n)+(?=\n)", r"```bash\n\g<0>```\n", told)
