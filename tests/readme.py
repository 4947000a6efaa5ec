"""The README's own code, for tests that do what it says."""

import re
from pathlib import Path
from textwrap import dedent

PROJECT = Path(__file__).parents[1]


def code_blocks(heading: str) -> list[str]:
    """The indented code blocks under a heading of the README, without their indentation."""
    text = (PROJECT / "README.md").read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [dedent(block).strip("\n") for block in re.findall(r"(?:^(?: {4}.*)?\n)+", section, re.M)
            if block.strip()]  # fmt: skip
