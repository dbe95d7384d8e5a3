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
    """The page: each record with its keys, what they are and their types."""
    schema = json.loads(files("palm_core").joinpath("portfolio.schema.json").read_text("utf-8"))
    rows = [_HEAD]
    for name, record in schema["$defs"].items():
        rows += [f"## {name}", "", record.get("description", "").replace("``", "`"), ""]
        rows += ["| key | what | type | default |", "|---|---|---|---|"]
        needed = set(record.get("required", ()))
        for key, value in record["properties"].items():
            default = "needed" if key in needed else f"`{json.dumps(value.get('default'))}`"
            said = value.get("description") or _record(value, schema["$defs"])
            rows.append(f"| `{key}` | {said} | {_type(value)} | {default} |")
        rows.append("")
    return "\n".join(rows)


def _record(value: dict[str, Any], records: dict[str, Any]) -> str:
    """What the record is that stands there: the first sentence of its description."""
    reference = next(one["$ref"] for one in value.get("anyOf", [value]) if "$ref" in one)
    said = str(records[reference.rpartition("/")[2]]["description"])
    return said.partition("\n\n")[0].partition(". ")[0].rstrip(".").replace("``", "`")


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
