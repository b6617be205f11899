import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from sandbox.local_slack import LocalSlack
from sandbox.slack_rules.local import Local
from tests.fixtures_slack import ALICE, CHANNEL


@pytest.fixture
def ask(local_slack: LocalSlack) -> Callable[[Callable[[Local], Awaitable[object]]], object]:
    async def asked(question: Callable[[Local], Awaitable[object]]) -> object:
        async with aiohttp.ClientSession() as session:
            return await question(Local(local_slack.url, session))

    return lambda question: asyncio.run(asked(question))


def test_its_channels_and_messages_can_be_read_and_emptied(ask, workspace):
    token = workspace.apps[0].bot_token

    async def question(local: Local) -> None:
        await local.reset()
        posted = await local.call("chat.postMessage", {"channel": CHANNEL, "text": "hi"}, token)
        assert (await local.message(CHANNEL, posted["ts"]))["text"] == "hi"
        assert await local.message(CHANNEL, "1.2") is None
        assert CHANNEL in [channel["id"] for channel in await local.channels()]
        await local.reset()
        assert await local.messages(CHANNEL) == []

    ask(question)


def test_an_apps_events_are_followed(ask, workspace):
    async def question(local: Local) -> dict:
        heard: asyncio.Queue[dict] = asyncio.Queue()
        following = asyncio.create_task(
            local.follow_events(workspace.apps[0], lambda app_id, payload: heard.put_nowait(payload))
        )
        for _ in range(50):
            async with local.session.post(f"{local.url}/_control/open-home", json={"user": ALICE}):
                if not heard.empty():
                    break
            await asyncio.sleep(0.05)
        following.cancel()
        return heard.get_nowait()

    assert ask(question)["event"]["type"] == "app_home_opened"
