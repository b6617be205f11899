from sandbox.bench.table import Row, Section, markdown, missed, text

ROWS = [Row("ours", "2 s", "< 3 s", True), Row("theirs", "1 s"), Row("lost", "4", "0", False)]
SECTION = Section("Speed", "How.", ROWS)


def test_goals_that_are_missed_are_counted_and_numbers_without_a_goal_are_not():
    assert missed([SECTION, SECTION]) == 2


def test_a_row_says_what_was_measured_the_goal_and_whether_it_is_met():
    lines = text(SECTION).splitlines()
    assert "Speed" in lines and "How." in lines
    assert any(line.split() == ["ours", "2", "s", "<", "3", "s", "met"] for line in lines)
    assert any(line.split() == ["lost", "4", "0", "MISSED"] for line in lines)


def test_markdown_has_one_table_a_section():
    assert "| theirs | 1 s |  |  |" in markdown(SECTION)
