import pytest

from bot.commands import help
from bot.commands.words import UsageError
from tests.stories import said


def test_every_command_is_listed_with_how_to_write_it(bench):
    shown = said(help.run([], bench.context()))
    for line in ("/vllm status [service]", "/vllm diagnose <runbook>", "/vllm ack [incident]", "/vllm help"):
        assert line in shown


def test_a_terminal_lists_only_what_reads(bench):
    shown = said(help.run([], bench.in_a_terminal()))
    assert "vllm-oncall status" in shown and " ack " not in shown and "propose" not in shown


def test_one_command_can_be_asked_about(bench):
    assert "/vllm ack [incident]" in said(help.run(["ack"], bench.context()))
    with pytest.raises(UsageError, match="did you mean status"):
        help.run(["statsu"], bench.context())
