"""An Xid on a node is in Slack within moments: told by the real agent to whoever waits for it, and shown by the real
bot in the channel of the service whose replica has that GPU, not of the other one on that node."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.bench.xid import LIMIT_SECONDS, Neighbours, neighbours
from sandbox.world import Ground
from tests.e2e.scene import until


@contextmanager
def scene(ground: Ground, folder: Path, **more: str) -> Iterator[Neighbours]:
    with ground.with_own_slack(folder / "slack") as own, neighbours(own, folder, **more) as story:
        yield story


def incidents(story: Neighbours) -> list[tuple[str, list[str]]]:
    """What stands in each channel: its cards. Elsewhere nothing does."""
    return [(name, story.cards(name)) for name in ("inc-chat", "inc-code", "oncall")]


def test_an_xid_stands_in_the_channel_of_the_service_whose_replica_has_that_gpu(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path) as story:
        chat, code = story.towns
        turn = story.turn(31, chat)
        assert turn.seconds <= LIMIT_SECONDS, turn
        ((_, [card]), (_, elsewhere), (_, default)) = incidents(story)
        assert not elsewhere and not default
        assert "Xid of a program" in card and "31" in card, card
        assert "<@" not in card, "a program's fault wakes nobody"
        # The neighbour's GPU: its channel, and who is on call for it.
        turn = story.turn(79, code)
        assert turn.seconds <= LIMIT_SECONDS, turn
        ((_, [_]), (_, [card]), (_, default)) = incidents(story)
        assert not default
        assert "Xid asks for a reboot" in card and "79" in card and "code-34b" in card, card
        assert f"<@{ground.workspace.user('alice').id}>" in card, card


def test_an_xid_while_the_bot_is_away_is_told_once_and_never_again(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path) as story:
        code, bot = story.towns[1], story.world.bot
        bot.kill()
        story.xid(79, code)
        until(story.agent_has_it, 10, "the Xid in the agent's history")
        bot.start()
        until(lambda: story.cards("inc-code"), 20, "the card")
        until(story.quiet, 30, "Slack to have everything")
        said = story.all_messages()
        for _ in range(2):
            bot.kill()
            bot.start()
            story.wait_heard()
            until(story.quiet, 30, "Slack to have everything")
        assert len(story.cards("inc-code")) == 1
        assert story.numbers("SELECT count(*) FROM incident") == 1
        # Neither a card nor a call; rounds go on while it burns, and have their own messages.
        assert not [m for m in story.all_messages()[len(said) :] if "<@" in m["text"]]
        assert story.numbers("SELECT count(*) FROM delivery") == 0


def test_an_agent_that_restarts_tells_what_happened_meanwhile_and_nothing_twice(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path) as story:
        code = story.towns[1]
        story.turn(79, code)
        story.agent.kill()
        until(lambda: not story.heard(), 15, "the bot to miss the agent")
        told = story.world.bot.command("status")
        assert "gpu-01: GPU agent: cannot be reached at http://127." in told, told
        told = story.world.bot.command("gpu", "gpu-01")
        # dcgm-exporter is asked instead, and says which of its fields lack.
        assert "told by dcgm-exporter" in told and "GPU agent: cannot be reached" in told, told
        story.agent.start()
        story.wait_heard()
        assert len(story.cards("inc-code")) == 1
        assert story.numbers("SELECT count(*) FROM incident") == 1
        told = story.world.bot.command("gpu", "gpu-01")
        assert "told by agent" in told and "Xid 79" in told, told


def test_a_wrong_token_is_said_where_the_gpus_are_asked_for(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path, token="another") as story:
        until(lambda: story.heard() is False and "gpu-01" in story.metrics(), 10, "the bot to be refused")
        for words in (["status"], ["gpu", "gpu-01"]):
            told = story.world.bot.command(*words)
            assert "GPU agent: the one on gpu-01 refused our token (401)" in told, told
            assert "VLLM_ONCALL_AGENT__TOKEN" in told, told
        assert not any(cards for _, cards in incidents(story))
