"""The control API of the rules, beyond what every proxy of the sandbox has. Spoken by `part.SlackControl`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.faults import Outage, control_app

if TYPE_CHECKING:
    from sandbox.slack_rules.server import SlackServer


def add_control(slack: "SlackServer", on_outage: Callable[[Outage], Awaitable[None]]) -> web.Application:
    async def rules(request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            slack.rules.switch(asked["names"], on=bool(asked["on"]))
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        return web.json_response({"off": sorted(slack.rules.off)})

    async def refresh(request: web.Request) -> web.Response:
        asked = await request.json()
        await slack.sockets.refresh(asked["app"], float(asked["warning_seconds"]))
        return web.json_response({})

    async def reset(_: web.Request) -> web.Response:
        await slack.reset()
        return web.json_response({})

    async def act(request: web.Request) -> web.Response:
        """A person's doing, as the page would send it; answered when its envelope is settled."""
        await slack.interactions.act(await request.json())
        return web.json_response({})

    async def messages(request: web.Request) -> web.Response:
        return web.json_response(await slack.local.messages(request.query["channel"]))

    async def modals(request: web.Request) -> web.Response:
        return web.json_response(slack.modals.stack(request.query["user"]))

    async def connected(request: web.Request) -> web.Response:
        """Waits for that many sockets of the app."""
        app, wanted = request.query["app"], int(request.query["count"])
        deadline = asyncio.get_running_loop().time() + float(request.query["seconds"])
        while slack.sockets.connected(app) != wanted and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        return web.json_response({"connected": slack.sockets.connected(app)})

    app = control_app(slack.faults, slack.log, on_outage)
    app.router.add_put("/_control/rules", rules)
    app.router.add_post("/_control/refresh", refresh)
    app.router.add_post("/_control/reset", reset)
    app.router.add_post("/_control/act", act)
    app.router.add_get("/_control/messages", messages)
    app.router.add_get("/_control/modals", modals)
    app.router.add_get("/_control/connected", connected)
    return app
