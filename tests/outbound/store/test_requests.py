from bot.commands.request import Request, RequestKind
from tests.fixtures_store import NOW


def ask(tx, key):
    return tx.ask(key=key, kind=RequestKind.CLICK, user="U1", channel="C1", payload={"value": "inc-1"}, at=NOW)


def test_the_same_click_delivered_twice_is_one_request(store):
    with store.write() as tx:
        assert ask(tx, "t1") is True
    with store.write() as tx:
        assert ask(tx, "t1") is False
        (request,) = tx.requests(10)
        assert request == Request(request.id, "t1", RequestKind.CLICK, "U1", "C1", {"value": "inc-1"}, NOW)


def test_requests_come_in_order_and_leave_when_acted_on(store):
    with store.write() as tx:
        ask(tx, "t1")
        ask(tx, "t2")
        first, second = tx.requests(10)
        assert tx.requests(1) == (first,)
        tx.acted_on(first.id)
    with store.write() as tx:
        assert tx.requests(10) == (second,)
        assert ask(tx, "t1") is False  # Slack repeats itself even after we have acted
