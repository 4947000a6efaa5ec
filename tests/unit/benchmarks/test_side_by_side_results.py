"""The result of `make bench`, as a file and as a summary."""

from tests.benchmarks.side_by_side.part import Goal, Report
from tests.benchmarks.side_by_side.results import COLUMNS, markdown, summary

REPORT = Report(
    "Fan-out: 1,000 viewers",
    ["", "messages/CPU s", "x floor"],
    [["bare application", "50,000", "1.00"], ["Nexus", "45,000", "0.90"]],
    [
        Goal("Nexus / bare application", 0.9, 0.8, at_least=True),
        Goal("a figure with a name that is much too long to be shown in one line", 9.0, 4),
    ],
    ["Nexus: a note."],
)


def test_summary_has_a_line_of_eighty_columns_for_each_goal_and_each_failed_part() -> None:
    lines = summary({"fan_out": REPORT, "latency": None}).splitlines()

    assert [line.split("  ")[0].strip() for line in lines] == ["reached", "NOT REACHED", "FAILED"]
    assert lines[0].endswith("0.9 (>= 0.8)       fan_out: Nexus / bare application")
    assert lines[2].endswith("latency")
    assert max(map(len, lines)) <= COLUMNS


def test_file_has_the_machine_and_each_part_with_its_table_goals_and_notes() -> None:
    text = markdown([("cores", "2")], {"fan_out": REPORT, "latency": None})

    assert "| cores | 2 |" in text
    assert (
        "|  | messages/CPU s | x floor |\n"
        "| --- | ---: | ---: |\n"
        "| bare application | 50,000 | 1.00 |\n"
    ) in text
    assert "- Nexus / bare application: 0.9 (at least 0.8): reached\n" in text
    assert "- Nexus: a note.\n" in text
    assert "## latency\n\nThis part failed.\n" in text


def test_report_is_the_same_after_its_way_through_a_file() -> None:
    assert Report.decode(REPORT.encode()) == REPORT
