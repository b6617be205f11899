import pytest

from bot.incidents.placing import runbook_for
from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from sandbox.fault_table.grading import OR
from sandbox.fault_table.rows import RowError, light, load

ROW = """
rows:
  - name: one
    fault: something
    part: fleet
    runbook: high_latency
    alert: {alertname: VLLMHighTTFT}
    shows: [{promql: up, above: 0}]
    expect: {}
"""


@pytest.fixture(scope="module")
def rows():
    return [row for file in load() for row in file.rows]


def test_the_table_has_at_least_forty_rows(rows):
    assert len(rows) >= 40


def test_every_row_expects_something_of_rules_that_there_are(rows):
    known = {name: {rule.id for rule in book.rules} for name, book in library([our_folder()]).runbooks.items()}
    named = {row.name: {rule for key in row.expect for rule in key.split(OR)} for row in rows}
    assert {row.name: named[row.name] - known[row.runbook] for row in rows} == {row.name: set() for row in rows}


def test_every_row_is_heard_of_by_an_alert_of_its_runbook(rows):
    runbooks = library([our_folder()]).runbooks
    assert {row.name: runbook_for(row.alert, runbooks) for row in rows} == {row.name: row.runbook for row in rows}


def test_every_runbook_has_rows_that_confirm_and_rows_that_must_not(rows):
    runbooks = set(library([our_folder()]).runbooks)
    confirming = {row.runbook for row in rows if "confirmed" in row.expect.values()}
    healthy = {row.runbook for row in rows if "confirmed" not in row.expect.values()}
    assert confirming == runbooks
    assert healthy == runbooks


def written(tmp_path, text):
    (tmp_path / "rows.yaml").write_text(text)
    return tmp_path


def test_a_row_says_one_deed_at_a_time(tmp_path):
    text = ROW.replace("shows:", "do: [{scale: 2, cordon: 0}]\n    shows:")
    with pytest.raises(RowError, match=r"rows.yaml(.|\n)*one deed each, not \['cordon', 'scale'\]"):
        load(written(tmp_path, text))


def test_a_sight_says_what_it_wants_to_see(tmp_path):
    with pytest.raises(RowError, match="promql needs above, below or absent"):
        load(written(tmp_path, ROW.replace(", above: 0", "")))


def test_a_name_is_used_once_in_all_files(tmp_path):
    written(tmp_path, ROW)
    (tmp_path / "more.yaml").write_text(ROW)
    with pytest.raises(RowError, match=r"same name.*one"):
        load(tmp_path)


def test_a_row_on_a_real_vllm_names_a_server_of_its_file(tmp_path):
    real = ROW.replace("part: fleet", "part: real vLLM\n    server: tiny")
    with pytest.raises(RowError, match="no server tiny"):
        load(written(tmp_path, real))
    (file,) = load(written(tmp_path, f"servers: {{tiny: {{flags: {{}}}}}}\n{real}"))
    assert light([file]) == ()
