import json
import logging

import pytest
import structlog

from bot import logs


@pytest.fixture(autouse=True)
def root():
    """The root logger as it was: pytest's own handlers live there."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers, logger.level = handlers, level
    structlog.reset_defaults()


def test_our_lines_and_a_librarys_are_json_with_the_bound_incident(capsys):
    logs.configure("INFO")
    with structlog.contextvars.bound_contextvars(incident="inc-7"):
        logging.getLogger("somebody.elses").warning("%s is slow", "disk", extra={"path": "/var"})
        structlog.get_logger("ours").info("round ended", number=3)
    theirs, ours = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (theirs["event"], theirs["path"], theirs["incident"]) == ("disk is slow", "/var", "inc-7")
    assert (ours["event"], ours["number"], ours["incident"]) == ("round ended", 3, "inc-7")


def test_a_traceback_is_one_line(capsys):
    logs.configure("INFO")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("a").exception("it failed")
    (line,) = capsys.readouterr().out.splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_chatty_libraries_are_quiet(capsys):
    logs.configure("INFO")
    logging.getLogger("slack_bolt.App").info("Connected")
    assert capsys.readouterr().out == ""
