from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.addresses import free_port
from sandbox.bench import start
from sandbox.bot import Bot
from tests.outbound.servers import Answering, Says, server


def bot(folder: Path, port: int) -> Bot:
    """Not launched: whoever listens on its port answers for it."""
    return Bot(folder, {}, {}, port=port)


def ready(detail: str, status: int = 200) -> Answering:
    told: dict[str, Any] = {"checks": {"loop": {"detail": detail}}}
    return lambda asked: Says(told, status=status)


@pytest.mark.parametrize(
    ("answer", "leads"),
    [
        (ready("leads; the slowest lane was through 0.1 s ago"), True),
        (ready("another replica leads; this one takes in"), False),  # ready, but does no work
        (ready("leads", status=503), False),
    ],
)
def test_the_start_is_over_when_it_leads_and_is_ready(
    answer: Callable[[Any], Any], leads: bool, tmp_path: Path
) -> None:
    with server(answer) as there:
        assert start.leads(bot(tmp_path, int(there.url.rpartition(":")[2]))) is leads


def test_before_it_listens_it_does_not_lead(tmp_path: Path) -> None:
    assert start.leads(bot(tmp_path, free_port())) is False


def test_the_worst_start_decides() -> None:
    assert start._row("x", [1.0, 1.0, 2.9]).met
    row = start._row("x", [1.0, 1.0, 3.1])
    assert row.met is False and row.measured == "1.00 s median, 3.10 s worst of 3"
