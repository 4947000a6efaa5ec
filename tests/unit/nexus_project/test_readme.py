"""README's table of settings and what settings.py reads are the same."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]
SETTING = r"(?:NEXUS_[A-Z_]+|DATABASE_URL|VALKEY_URL|TEMPORAL_[A-Z_]+)"


def test_every_setting_is_in_the_table_and_every_row_is_a_setting() -> None:
    source = (PROJECT / "nexus_project" / "settings.py").read_text()
    read = set(re.findall(rf'env\.\w+\(\s*"({SETTING})"', source))
    table = set(re.findall(rf"^\| `({SETTING})` \|", (PROJECT / "README.md").read_text(), re.M))
    assert read
    assert read == table
