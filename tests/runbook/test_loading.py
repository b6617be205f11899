import textwrap

import pytest

from bot.runbook.loading import load, load_file, our_folder, position, read_yaml

GOOD = """
    title: Long queue
    owner: me
    symptoms: It is slow.
    match: [{alertname: QueueLong}]
    steps:
      - {id: queue, probe: vllm_queue, with: {service: $service}}
    rules:
      - id: full
        when: [queue.waiting > 50]
        severity: warning
        title: Full
        finding: "${queue.waiting} wait"
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="one.yaml"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).lstrip())
        return path

    return write


def test_a_runbook_is_named_after_its_file(write, tmp_path):
    write(GOOD, "long_queue.yaml")
    loaded = load([tmp_path])
    assert [file.runbook.name for file in loaded.files] == ["long_queue"]
    assert loaded.mistakes == ()


def test_all_mistakes_of_a_file_are_told_at_once_each_with_its_place(write):
    path = write(GOOD.replace("owner: me", "ownr: me").replace("severity: warning", "severity: urgent"))
    told = [str(mistake) for mistake in load_file(path)]
    assert any(line.startswith(f"{path}:2:1: ownr: is not a key that is known here") for line in told)
    assert any(line.startswith(f"{path}:10:5: rules.0.severity") for line in told)
    assert any("owner: is missing" in line for line in told)
    assert len(told) == 3, "a list whose one item is wrong is not empty"


def test_broken_yaml_is_told_by_line(write):
    (mistake,) = load_file(write("title: [unclosed\nowner: me\n"))
    assert mistake.line >= 2


def test_a_key_given_twice_is_refused(write):
    (mistake,) = load_file(write(GOOD + "    owner: you\n"))
    assert "duplicate key" in mistake.text


def test_on_and_times_stay_texts(write):
    document = read_yaml(write("a: on\nb: 12:30:00\n"))
    assert (document["a"], document["b"]) == ("on", "12:30:00")


def test_a_file_that_is_no_mapping_is_no_runbook(write):
    (mistake,) = load_file(write("- just\n- a list\n"))
    assert "holds a list; a runbook is a mapping with the keys title, owner" in mistake.text


def test_an_empty_file_is_no_runbook(write):
    (mistake,) = load_file(write(""))
    assert "is empty; a runbook is a mapping" in mistake.text


def test_a_file_in_another_encoding_is_told(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"title: \xe9t\xe9\n")
    (mistake,) = load_file(path)
    assert "is not UTF-8: the byte 0xe9" in mistake.text and mistake.line == 1


def test_a_folder_that_is_not_there_is_told(tmp_path):
    (mistake,) = load([tmp_path / "nowhere"]).mistakes
    assert "is no folder" in str(mistake)


def test_one_broken_file_keeps_no_other_from_loading(write, tmp_path):
    write(GOOD, "good.yaml")
    write("title: [", "bad.yaml")
    loaded = load([tmp_path])
    assert [file.runbook.name for file in loaded.files] == ["good"]
    assert [mistake.path.name for mistake in loaded.mistakes] == ["bad.yaml"]


def test_a_place_that_is_not_there_is_the_nearest_above_it(write):
    document = read_yaml(write(GOOD))
    assert position(document, ("rules", 0, "when", 0, "nonsense"))[0] == 9
    assert position(document, ("nothing",)) == (1, 1)


def test_our_own_runbooks_are_found():
    assert (our_folder() / "high_latency.yaml").is_file()
