import asyncio
import signal

from sandbox.bench.intake import Sender, launch, measure, rows


def test_it_counts_what_is_on_disk(database_url):
    measured, cost = measure(database_url, connections=4, alerts_each=3, seconds=0.5)
    assert measured.acknowledged > 0
    assert rows(database_url) == measured.acknowledged  # every alert is a new one: none is dropped as a repeat
    assert measured.alerts_per_second == measured.webhooks_per_second * 3
    assert cost.cpu_seconds > 0
    assert cost.resident_bytes < 256 * 2**20


def test_what_was_acknowledged_before_a_kill_9_under_load_is_there(database_url):
    server, port = launch(database_url)
    sender = Sender(port, 2)

    async def story() -> None:
        sending = asyncio.create_task(sender.run(16, 30))
        while len(sender.seconds) < 100:
            assert not sending.done()
            await asyncio.sleep(0.01)
        server.kill()
        await asyncio.wait([sending], timeout=10)
        assert sending.exception() is not None

    asyncio.run(story())
    assert server.wait(10) == -signal.SIGKILL
    assert sender.acknowledged >= 200
    assert rows(database_url) >= sender.acknowledged
