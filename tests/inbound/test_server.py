import http.client

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from bot.inbound.server import HttpServer, new_api


def hello(api: FastAPI) -> FastAPI:
    @api.get("/hello")
    async def say() -> PlainTextResponse:
        return PlainTextResponse("hello")

    return api


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    said = answer.status, answer.read()
    connection.close()
    return said


def test_it_answers_when_start_returns_on_the_port_it_names():
    server = HttpServer(hello(new_api()), host="127.0.0.1", port=0)
    server.start()
    assert server.port > 0
    assert get(server.port, "/hello") == (200, b"hello")
    server.stop()


def test_after_stop_nobody_listens_and_the_port_is_free():
    server = HttpServer(hello(new_api()), host="127.0.0.1", port=0)
    server.start()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        get(server.port, "/hello")
    again = HttpServer(hello(new_api()), host="127.0.0.1", port=server.port)
    again.start()
    assert get(again.port, "/hello")[0] == 200
    again.stop()


def test_a_port_that_is_taken_is_named():
    first = HttpServer(new_api(), host="127.0.0.1", port=0)
    first.start()
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{first.port}"):
        HttpServer(new_api(), host="127.0.0.1", port=first.port)
    first.stop()


def test_it_has_no_pages_about_itself():
    server = HttpServer(new_api(), host="127.0.0.1", port=0)
    server.start()
    assert [get(server.port, p)[0] for p in ("/docs", "/redoc", "/openapi.json")] == [404, 404, 404]
    server.stop()
