import asyncio
import json

from sandbox.request_log import RequestLog


def test_entries_are_numbered_and_stand_in_the_file(tmp_path):
    async def written() -> list[dict]:
        log = RequestLog(tmp_path / "log.jsonl")
        log.add("api", method="chat.postMessage", error=None)
        log.add("api", method="chat.update", ok=False)
        return log.since(0)

    entries = asyncio.run(written())
    assert [entry["n"] for entry in entries] == [1, 2]
    assert "error" not in entries[0] and entries[1]["ok"] is False
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == entries


def test_waiting_ends_with_the_next_entry_or_with_the_time(tmp_path):
    async def waited() -> tuple[list[dict], list[dict]]:
        log = RequestLog(tmp_path / "log.jsonl")
        waiting = asyncio.create_task(log.wait(0, 5))
        await asyncio.sleep(0)
        log.add("api")
        return await waiting, await log.wait(1, 0.05)

    one, none = asyncio.run(waited())
    assert [entry["kind"] for entry in one] == ["api"]
    assert none == []
