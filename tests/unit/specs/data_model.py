"""Reading data-model.md: its sections, its tables and its JSON Schema."""

import json
import re
from typing import Any, Final

from tests.specs_scripts import SPECS

_TEXT: Final = (SPECS / "data-model.md").read_text()


def section(number: str) -> str:
    """The text of a section, without those below it."""
    _, found, rest = _TEXT.partition(f"# {number} ")
    assert found, f"there is no section {number}"
    return re.split(r"^#+ ", rest, flags=re.M)[0]


def tables(number: str) -> list[list[list[str]]]:
    """The tables of a section: each its rows, each its cells, without the heading."""
    found = re.findall(r"(?:^\|.*\n)+", section(number), re.M)
    return [
        [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]]
        for table in found
    ]


def names(number: str, table: int = 0) -> list[str]:
    """What stands in the first column of a table, without its backticks."""
    return [row[0].strip("`") for row in tables(number)[table]]


def message_schema() -> dict[str, Any]:
    """The JSON Schema of section 9.5."""
    text = section("9.5")
    schema: dict[str, Any] = json.loads(text[text.index("    {\n") : text.index("\n    }\n") + 6])
    return schema
