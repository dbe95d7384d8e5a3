"""The reference of ``portfolio.json``, out of the JSON Schema that the package publishes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

_HEAD = """# The portfolio file

`palm select --save` and `palm build` write a portfolio as one JSON document. Additions keep
its `version`. The JSON Schema comes with palm-core, as `palm_core/portfolio.schema.json`; these
tables are made of it.

"""


def portfolio_page() -> str:
    """The page: each record with its keys and their types."""
    schema = json.loads(files("palm_core").joinpath("portfolio.schema.json").read_text("utf-8"))
    rows = [_HEAD]
    for name, record in schema["$defs"].items():
        rows += [f"## {name}", "", record.get("description", "").replace("``", "`"), ""]
        rows += ["| key | type | default |", "|---|---|---|"]
        needed = set(record.get("required", ()))
        for key, value in record["properties"].items():
            default = "needed" if key in needed else f"`{json.dumps(value.get('default'))}`"
            rows.append(f"| `{key}` | {_type(value)} | {default} |")
        rows.append("")
    return "\n".join(rows)


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(_type(one) for one in value["anyOf"])
    if "enum" in value:
        return " or ".join(f"`{json.dumps(one)}`" for one in value["enum"])
    kind = value.get("type", "anything")
    if kind == "array":
        least = value.get("minItems")
        return f"list of {_type(value['items'])}" + (f", at least {least}" if least else "")
    limits = [
        f"{sign} {value[limit]:g}"
        for limit, sign in (("minimum", "≥"), ("maximum", "≤"))
        if limit in value
    ]
    return " ".join([kind, ", ".join(limits)]).strip()
