"""Local-slack, as the rules use it: its Web API, its list of messages, and the events that it would send an app."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from sandbox.slack_rules.inputs import Json
from sandbox.slack_workspace import SlackApp


class Local:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def call(self, method: str, args: Json, token: str) -> Json:
        async with self.session.post(
            f"{self.url}/api/{method}", json=args, headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            body: Json = await answer.json()
            return body

    async def channels(self) -> list[Json]:
        return list((await self._get("/_control/state"))["channels"])

    async def messages(self, channel: str) -> list[Json]:
        return list((await self._get(f"/_control/messages/{channel}"))["messages"])

    async def message(self, channel: str, ts: str) -> Json | None:
        return next((message for message in await self.messages(channel) if message["ts"] == ts), None)

    async def reset(self) -> None:
        async with self.session.post(f"{self.url}/_control/reset") as answer:
            answer.raise_for_status()

    async def _get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as answer:
            return await answer.json()

    async def follow_events(self, app: SlackApp, on_event: Callable[[str, Json], None]) -> None:
        """For ever: take the app's events from local-slack, acknowledge them there, hand them on.

        Clicks and commands never come this way, since the page speaks to the rules; one that does was made on
        local-slack's own address.
        """
        while True:
            try:
                opened = await self.call("apps.connections.open", {}, app.app_token)
                async with self.session.ws_connect(opened["url"], max_msg_size=2**24) as ws:
                    async for frame in ws:
                        envelope = json.loads(frame.data)
                        if "envelope_id" not in envelope:
                            continue
                        await ws.send_json({"envelope_id": envelope["envelope_id"]})
                        if envelope["type"] == "events_api":
                            on_event(app.app_id, envelope["payload"])
                        else:
                            print(
                                f"ignored {envelope['type']} made on {self.url}: open the rules' page instead",
                                flush=True,
                            )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                print(f"local-slack's events are away: {error}", flush=True)
            await asyncio.sleep(0.2)
