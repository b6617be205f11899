import asyncio
import re
import time

import pytest

from sandbox.faults import CutError, Faults, Hold, Outage, Where


def test_latency_is_half_each_way():
    async def travelled() -> float:
        began = time.monotonic()
        await Faults(0.2).travel()
        return time.monotonic() - began

    assert 0.09 < asyncio.run(travelled()) < 0.19


def test_an_outage_is_an_error_or_a_silence_that_ends_in_a_cut():
    async def story() -> None:
        faults = Faults()
        assert await faults.gate() is None
        faults.set_outage(Outage.ERROR, 502)
        assert await faults.gate() == 502
        faults.set_outage(Outage.HANG, 503)
        waiting = asyncio.create_task(faults.gate())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        faults.set_outage(Outage.NONE, 503)
        with pytest.raises(CutError):
            await waiting

    asyncio.run(story())


def test_a_failpoint_stops_the_first_fitting_exchange_only():
    async def story() -> None:
        faults = Faults()
        hold = Hold(Where.AFTER, {"method": re.compile("PATCH"), "path": re.compile("/deployments/")})
        faults.holds.append(hold)
        await faults.hold(Where.BEFORE, {"method": "PATCH", "path": "/deployments/x"})
        await faults.hold(Where.AFTER, {"method": "GET", "path": "/deployments/x"})
        await faults.hold(Where.AFTER, {"method": "PATCH"})
        assert not hold.reached.is_set()
        stopped = asyncio.create_task(faults.hold(Where.AFTER, {"method": "PATCH", "path": "/deployments/x"}))
        await hold.reached.wait()
        await faults.hold(Where.AFTER, {"method": "PATCH", "path": "/deployments/y"})
        assert hold.at["path"] == "/deployments/x"
        hold.released.set()
        await stopped

    asyncio.run(story())


def test_a_failpoint_can_end_the_exchange():
    async def story() -> None:
        faults = Faults()
        faults.holds.append(Hold(Where.BEFORE, {}, cut=True))
        faults.holds[0].released.set()
        with pytest.raises(CutError):
            await faults.hold(Where.BEFORE, {})

    asyncio.run(story())
