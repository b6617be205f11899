"""Every mistake an author can make is named at its place with what would be right; none ends the check, or the bot."""

import itertools
import os
import time
from pathlib import Path

import pytest

from bot.incidents.cases import run_all
from bot.runbook.checking import check, library
from bot.runbook.loading import LONGEST_BYTES

GOOD = """\
title: Long queue
owner: me
symptoms: It is slow.
match:
  - alertname: [QueueLong]
steps:
  - id: queue
    probe: vllm_queue
    with: {service: $service}
rules:
  - id: long_queue
    when: [queue.waiting > 5]
    severity: warning
    title: Long
    finding: "${queue.waiting} wait"
"""
TWO_MORE = """\
    suppresses: [b]
  - {id: b, when: [queue.waiting > 6], severity: warning, title: b, finding: b, suppresses: [c]}
  - {id: c, when: [queue.waiting > 7], severity: warning, title: c, finding: c, suppresses: [long_queue]}
"""

# What is written instead of what, the line that is told, and words that are.
MISTAKES = {
    "a bracket that is not closed": ("[QueueLong]", "[QueueLong", 6, "a [ is not closed (it begins on line 5)"),
    "wrong indentation": (
        "    probe:",
        "   probe:",
        8,
        "is indented otherwise than what it belongs to (it begins on l",
    ),
    "a tab": ("    probe:", "\tprobe:", 8, "a tab stands here"),
    "a key twice": ("owner: me", "owner: me\ntitle: again", 3, 'found duplicate key "title"'),
    "an unknown probe": ("vllm_queue", "vllm_queu", 8, "did you mean 'vllm_queue'?"),
    "an unknown key": ("symptoms:", "symptom:", 3, "is not a key that is known here; did you mean 'symptoms'?"),
    "an unknown key of a rule": ("    title: Long", "    titel: Long", 14, "did you mean 'title'?"),
    "an unknown parameter": ("{service:", "{servic:", 9, "no parameter 'servic'; did you mean 'service'?"),
    "an unknown parameter of otherwise": (
        "$service}",
        "$service}\n    otherwise: {servic: x}",
        10,
        "no parameter 'servic'",
    ),
    "an unknown reading": ("queue.waiting >", "queue.waitin >", 12, "did you mean 'queue.waiting'?"),
    "an unknown step": ("when: [queue.", "when: [quee.", 12, "no step 'quee'; did you mean 'queue'?"),
    "an unknown step in words": (
        "${queue.waiting} wait",
        "${quee.waiting}",
        15,
        "no step 'quee'; did you mean 'queue'?",
    ),
    "an unknown placeholder": ("$service}", "$servise}", 9, "no name $servise; did you mean 'service'?"),
    "a lone dollar": ("${queue.waiting} wait", "costs $5", 15, "a dollar sign itself is $$"),
    "kinds that do not go together": ("> 5", "> 'five'", 12, "queue.waiting is a number, and 'five' is a text"),
    "no condition": ("queue.waiting > 5", "queue.waiting", 12, "compare it with something"),
    "and for &&": ("> 5", "> 5 and queue.waiting < 9", 12, "write && for and"),
    "= for ==": ("> 5", "= 5", 12, "write == for ="),
    "a unit in a condition": ("> 5", "> 300ms", 12, "300ms has a unit"),
    "a percent sign": ("> 5", "> 90%", 12, "90% is 0.9 of a …_ratio"),
    "a text for a list": ("[queue.waiting > 5]", "queue.waiting > 5", 12, "is to be a list: [queue.waiting > 5]"),
    "a mapping for a list": ("  - alertname", "  alertname", 4, "is to be a list: a - before each"),
    "an empty list": ("[queue.waiting > 5]", "[]", 12, "is empty, and needs at least one"),
    "a severity that is none": ("warning", "critcal", 13, "did you mean 'critical'?"),
    "an id in another form": ("id: long_queue", "id: Long-Queue", 11, "small letters, digits and _: long_queue"),
    "a unit where seconds are asked": ("$service}", "$service}\n    timeout_seconds: 300ms", 10, "in seconds: 0.3"),
    "a number for a text": ("title: Long queue", "title: 5", 1, 'is to be a text: "5"'),
    "an unknown alias": ("owner: me", "owner: *nobody", 2, "found undefined alias 'nobody'"),
    "a second document": ("title: Long queue", "title: x\n---\ntitle: y", 2, "a second document begins here"),
    "a character that may not be": ("owner: me", 'owner: "\0"', 2, "U+0000 may not stand in YAML"),
}


@pytest.fixture
def told(tmp_path: Path):
    def check_text(text: str | bytes, name: str = "mine.yaml") -> list[str]:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return [f"{m.line}: {m.text}" for m in check([tmp_path])]

    return check_text


def test_the_one_without_a_mistake_has_none(told):
    assert told(GOOD) == []


@pytest.mark.parametrize("what", MISTAKES)
def test_it_is_named_on_its_line_with_what_would_be_right(told, what):
    old, new, line, words = MISTAKES[what]
    assert old in GOOD
    found = told(GOOD.replace(old, new, 1))
    assert any(one.startswith(f"{line}: ") and words in one for one in found), found


def test_one_mistake_is_told_once(told):
    """A list whose only item is wrong is not empty, and a circle is one."""
    assert len(told(GOOD.replace("severity: warning", "severity: urgent"))) == 1
    assert len(told(GOOD + TWO_MORE)) == 1


def test_rules_that_suppress_what_is_not_there_or_themselves(told):
    found = told(GOOD + "    suppresses: [long_qeue, long_queue]\n" + TWO_MORE.partition("\n")[2])
    assert any("no other rule 'long_qeue'" in one for one in found)
    assert any("'long_queue' is this rule itself" in one for one in found)
    (circle,) = told(GOOD + TWO_MORE)
    assert "long_queue suppresses b suppresses c suppresses long_queue" in circle


def test_a_ratio_is_no_percentage(told):
    text = GOOD.replace("vllm_queue", "vllm_kv_cache").replace("queue.waiting > 5", "queue.usage_ratio_max > 90")
    assert any(
        "queue.usage_ratio_max is a ratio: 90 % is 0.9" in one for one in told(text.replace("${queue.waiting}", ""))
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; a runbook is a mapping with the keys title, owner"),
        (b"- a\n- b\n", "holds a list; a runbook is a mapping"),
        (b"hello\n", "holds one value; a runbook is a mapping"),
        ("title: caf\xe9\n".encode("latin-1"), "is not UTF-8: the byte 0xe9"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nests more than 100 brackets"),
        (b"#" * (LONGEST_BYTES + 1), "1 MiB is the most"),
    ],
    ids=["empty", "list", "scalar", "latin-1", "deep", "huge"],
)
def test_a_file_that_is_no_runbook_at_all(told, content, words):
    began = time.monotonic()
    (found,) = told(content)
    assert words in found
    assert time.monotonic() - began < 20


def test_few_lines_that_mean_millions_of_values_are_refused(told):
    names = "abcdefgh"
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in itertools.pairwise(names)]
    (found,) = told("\n".join(lines))
    assert "values once its aliases are put in" in found


def test_files_that_cannot_be_read_are_told_and_the_others_used(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "gone.yaml").symlink_to("/nowhere")
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    found = library([tmp_path])
    assert set(found.runbooks) == {"good"}
    assert sorted(m.path.name for m in found.mistakes) == ["folder.yaml", "gone.yaml", "loop.yaml", "pipe.yaml"]


def test_a_name_that_nobody_can_type_and_a_twin_are_refused(tmp_path):
    (tmp_path / "my book.yaml").write_text(GOOD)
    (tmp_path / "one.yaml").write_text(GOOD)
    (tmp_path / "one.yml").write_text(GOOD)
    told = {m.path.name: m.text for m in check([tmp_path])}
    assert "name the file my_book.yaml" in told["my book.yaml"]
    assert "is the same runbook as one.yaml" in told["one.yml"]
    assert "one.yaml" not in told


def test_one_that_replaces_another_folders_says_so(tmp_path):
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.yaml").write_text(GOOD)
    found = library([tmp_path / "ours", tmp_path / "theirs"])
    assert found.replaced == (f"{tmp_path}/theirs/one.yaml replaces {tmp_path}/ours/one.yaml.",)


def test_a_folder_without_a_runbook_is_told(tmp_path):
    assert "holds no runbook" in library([tmp_path]).mistakes[0].text


def test_case_files_that_are_missing_misnamed_or_wrong(tmp_path):
    books, cases = tmp_path / "books", tmp_path / "cases"
    books.mkdir()
    cases.mkdir()
    (books / "long_queue.yaml").write_text(GOOD)
    (cases / "long_que.yaml").write_text("[]\n")
    told = [m.text for m in check([books], cases=cases)]
    assert any("has no case file" in text for text in told)
    assert any("no runbook 'long_que'; did you mean 'long_queue'?" in text for text in told)
    (cases / "long_queue.yaml").write_text(
        "- {name: one, readings: {queue: {waiting: 9}}, expect: {long_queue: confirmd}}\n"
        "- {name: two, readings: {quee: {waiting: 9}}, expect: {long_queu: confirmed}}\n"
    )
    _, wrong = run_all(library([books]).runbooks, cases)
    assert [(m.line, m.text.partition("; ")[2]) for m in wrong] == [
        (1, "did you mean 'confirmed'?"),
        (2, "did you mean 'queue'?"),
        (2, "did you mean 'long_queue'?"),
    ]
