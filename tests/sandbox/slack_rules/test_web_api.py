"""Through slack_sdk, against the real local-slack: each rule refuses and lets pass."""

import time

import pytest
import requests
from slack_sdk import WebClient

from sandbox.faults import Where
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from tests.fixtures_slack import ALICE, BOB, CHANNEL, button, modal, refusal, section

RANDOM = "C04RANDOM"  # public; the bot is not in it


def test_a_message_is_posted_and_logged_with_what_tests_count(slack: SlackRules, client: WebClient):
    before = slack.control.mark()
    posted = client.chat_postMessage(channel="#inc-chat", text="hello", blocks=[section("hello", block_id="inc-1")])
    assert posted["channel"] == CHANNEL
    [entry] = slack.control.log(before, method="chat.postMessage")
    assert (entry["ok"], entry["status"], entry["app"]) == (True, 200, "A01ONCALL")
    assert (entry["channel"], entry["ts"], entry["block_ids"]) == (CHANNEL, posted["ts"], ["inc-1"])
    assert entry["text"] == "hello" and entry["seconds"] < 5
    assert slack.request_log.read_text().count(f'"{posted["ts"]}"') == 1


def test_ids_that_were_left_out_are_filled_in(client: WebClient):
    blocks = [{"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Go"}}]}]
    message = client.chat_postMessage(channel=CHANNEL, text="x", blocks=blocks)["message"]
    assert message["blocks"][0]["block_id"]
    assert message["blocks"][0]["elements"][0]["action_id"]


def test_a_wrong_token_is_refused(slack: SlackRules):
    wrong = WebClient("xoxb-somebody-else", base_url=slack.api_url)
    assert refusal(wrong.auth_test)["error"] == "invalid_auth"
    nobody = requests.post(f"{slack.api_url}auth.test", timeout=5).json()
    assert nobody == {"ok": False, "error": "not_authed"}
    with slack.control.without(Rule.TOKENS):
        assert wrong.auth_test()["ok"]


def test_the_bots_token_opens_no_socket(slack: SlackRules, client: WebClient):
    token = slack.workspace.apps[0].bot_token
    assert refusal(lambda: client.apps_connections_open(app_token=token))["error"] == "not_allowed_token_type"


def test_a_scope_that_the_manifest_lacks_is_named(slack: SlackRules, client: WebClient):
    refused = refusal(lambda: client.reactions_remove(name="eyes", channel=CHANNEL, timestamp="1.2"))
    assert (refused["error"], refused["needed"]) == ("missing_scope", "reactions:write")
    assert "chat:write" in refused["provided"]
    assert "chat:write" in client.auth_test().headers["x-oauth-scopes"]


def test_a_channel_the_bot_is_not_in_takes_no_message(slack: SlackRules, client: WebClient):
    assert refusal(lambda: client.chat_postMessage(channel=RANDOM, text="x"))["error"] == "not_in_channel"
    assert refusal(lambda: client.chat_postMessage(channel="#nowhere", text="x"))["error"] == "channel_not_found"
    assert refusal(lambda: client.conversations_history(channel=RANDOM))["error"] == "not_in_channel"
    assert client.conversations_info(channel=RANDOM)["channel"]["is_member"] is False
    with slack.control.without(Rule.MEMBERSHIP):
        assert client.chat_postMessage(channel=RANDOM, text="x")["ok"]


def test_an_edit_wants_the_channels_id_not_its_name(client: WebClient):
    ts = client.chat_postMessage(channel=CHANNEL, text="x")["ts"]
    assert refusal(lambda: client.chat_update(channel="#inc-chat", ts=ts, text="y"))["error"] == "channel_not_found"


def test_a_person_can_be_written_to_by_id(slack: SlackRules, client: WebClient):
    posted = client.chat_postMessage(channel=ALICE, text="psst")
    assert posted["channel"].startswith("D")


def test_too_many_blocks_are_refused_in_slacks_words(slack: SlackRules, client: WebClient):
    blocks = [section("x")] * 51
    refused = refusal(lambda: client.chat_postMessage(channel=CHANNEL, text="x", blocks=blocks))
    assert refused["error"] == "invalid_blocks"
    assert refused["response_metadata"]["messages"] == ["[ERROR] no more than 50 items allowed [json-pointer:/blocks]"]
    with slack.control.without(Rule.LIMITS):
        assert client.chat_postMessage(channel=CHANNEL, text="x", blocks=blocks)["ok"]


def test_a_message_that_says_nothing_is_refused(client: WebClient):
    assert refusal(lambda: client.chat_postMessage(channel=CHANNEL, blocks=[]))["error"] == "no_text"


def test_more_than_a_burst_is_429_with_retry_after_and_passes_later(slack: SlackRules, client: WebClient):
    for number in range(3):
        client.chat_postMessage(channel=CHANNEL, text=f"{number}")
    refused = refusal(lambda: client.chat_postMessage(channel=CHANNEL, text="one too many"))
    assert (refused.status_code, refused["error"]) == (429, "ratelimited")
    assert refused.headers["Retry-After"] == "1"
    client.chat_postMessage(channel="C02INCCODE", text="another channel is free")
    time.sleep(1.0)  # the time that Slack asked for
    client.chat_postMessage(channel=CHANNEL, text="in time")
    with slack.control.without(Rule.CHANNEL_PACE):
        for number in range(5):
            client.chat_postMessage(channel=CHANNEL, text=f"{number}")


def test_a_method_has_a_tier(slack: SlackRules, client: WebClient):
    for _ in range(20):
        client.usergroups_list()
    assert refusal(client.usergroups_list)["error"] == "ratelimited"
    with slack.control.without(Rule.METHOD_TIERS):
        assert client.usergroups_list()["ok"]


def test_user_groups_come_from_the_workspace(client: WebClient):
    groups = client.usergroups_list(include_users=True)["usergroups"]
    assert {group["handle"]: group["users"] for group in groups}["ml-oncall"] == [ALICE]
    assert client.usergroups_users_list(usergroup="S01ONCALL")["users"] == [ALICE]
    assert refusal(lambda: client.usergroups_users_list(usergroup="S99"))["error"] == "no_such_subteam"


def test_an_edit_without_text_and_blocks_keeps_them(slack: SlackRules, client: WebClient):
    ts = client.chat_postMessage(channel=CHANNEL, text="kept", blocks=button("go"))["ts"]
    requests.post(
        f"{slack.api_url}chat.update",
        json={"channel": CHANNEL, "ts": ts},
        headers={"Authorization": f"Bearer {client.token}"},
        timeout=5,
    ).raise_for_status()
    [message] = slack.control.messages(CHANNEL)
    assert (message["text"], message["blocks"][0]["elements"][0]["action_id"]) == ("kept", "go")
    client.chat_update(channel=CHANNEL, ts=ts, text="only text")
    assert "blocks" not in slack.control.messages(CHANNEL)[0]


def test_nobody_elses_message_is_edited_or_deleted(slack: SlackRules, client: WebClient):
    said = requests.post(
        f"{slack.page_url}_control/message", json={"channel": CHANNEL, "user": BOB, "text": "mine"}, timeout=5
    ).json()["message"]
    update = refusal(lambda: client.chat_update(channel=CHANNEL, ts=said["ts"], text="yours"))
    assert update["error"] == "cant_update_message"
    assert refusal(lambda: client.chat_delete(channel=CHANNEL, ts=said["ts"]))["error"] == "cant_delete_message"
    assert refusal(lambda: client.chat_update(channel=CHANNEL, ts="1.2", text="x"))["error"] == "message_not_found"


def test_an_ephemeral_message_cannot_be_edited_and_is_in_no_history(client: WebClient):
    ts = client.chat_postEphemeral(channel=CHANNEL, user=ALICE, text="only you")["message_ts"]
    assert refusal(lambda: client.chat_update(channel=CHANNEL, ts=ts, text="x"))["error"] == "message_not_found"
    assert client.conversations_history(channel=CHANNEL)["messages"] == []
    stranger = refusal(lambda: client.chat_postEphemeral(channel=CHANNEL, user="U99", text="x"))
    assert stranger["error"] == "user_not_in_channel"


def test_history_and_replies_come_in_pages(slack: SlackRules, client: WebClient):
    root = client.chat_postMessage(channel=CHANNEL, text="root", blocks=[section("root", block_id="inc-7")])
    for number in range(2):
        client.chat_postMessage(channel=CHANNEL, text=f"reply {number}", thread_ts=root["ts"])
    replies = client.conversations_replies(channel=CHANNEL, ts=root["ts"], limit=2)
    assert [message["text"] for message in replies["messages"]] == ["root", "reply 0"]
    rest = client.conversations_replies(
        channel=CHANNEL, ts=root["ts"], cursor=replies["response_metadata"]["next_cursor"]
    )
    assert [message["text"] for message in rest["messages"]] == ["reply 1"]
    [found] = client.conversations_history(channel=CHANNEL, limit=1)["messages"]
    assert found["blocks"][0]["block_id"] == "inc-7"
    assert refusal(lambda: client.conversations_replies(channel=CHANNEL, ts="1.2"))["error"] == "thread_not_found"


def test_a_reply_sent_to_the_channel_too_is_in_both_histories(client: WebClient):
    root = client.chat_postMessage(channel=CHANNEL, text="root")["ts"]
    client.chat_postMessage(channel=CHANNEL, text="quiet", thread_ts=root)
    client.chat_postMessage(channel=CHANNEL, text="worse", thread_ts=root, reply_broadcast=True)
    history = client.conversations_history(channel=CHANNEL)["messages"]
    assert [(message["text"], message.get("subtype")) for message in history] == [
        ("worse", "thread_broadcast"),
        ("root", None),
    ]
    replies = client.conversations_replies(channel=CHANNEL, ts=root)["messages"]
    assert [message["text"] for message in replies] == ["root", "quiet", "worse"]


def test_a_file_is_uploaded_into_a_thread_and_its_addresses_are_ours(slack: SlackRules, client: WebClient):
    root = client.chat_postMessage(channel=CHANNEL, text="root")["ts"]
    uploaded = client.files_upload_v2(
        channel=CHANNEL, thread_ts=root, content="a,b\n1,2\n", filename="numbers.csv", initial_comment="numbers"
    )
    assert uploaded["file"]["url_private"].startswith(slack.page_url)
    replies = client.conversations_replies(channel=CHANNEL, ts=root)["messages"]
    assert replies[1]["files"][0]["id"] == uploaded["file"]["id"]
    address = client.chat_getPermalink(channel=CHANNEL, message_ts=root)["permalink"]
    assert address.startswith(slack.page_url) and requests.get(address, timeout=5).ok


@pytest.mark.parametrize("method", ["pins.add", "conversations.invite"])
def test_what_neither_side_knows_is_an_unknown_method(client: WebClient, method: str):
    assert refusal(lambda: client.api_call(method))["error"] == "unknown_method"


def test_a_view_over_its_limits_is_refused(slack: SlackRules, client: WebClient):
    wrong = refusal(lambda: client.views_open(trigger_id="1.2.3", view=modal(section("x"), title="x" * 25)))
    assert wrong["error"] == "invalid_arguments"
    assert "/view/title/text" in wrong["response_metadata"]["messages"][0]
    assert refusal(lambda: client.views_open(trigger_id="1.2.3", view=modal()))["error"] == "invalid_trigger_id"


def test_a_home_tab_minds_its_hash(client: WebClient):
    home = {"type": "home", "blocks": [section("x")]}
    first = client.views_publish(user_id=ALICE, view=home)["view"]
    client.views_publish(user_id=ALICE, view=home, hash=first["hash"])
    stale = refusal(lambda: client.views_publish(user_id=ALICE, view=home, hash=first["hash"]))
    assert stale["error"] == "hash_conflict"
    assert refusal(lambda: client.views_publish(user_id="U99", view=home))["error"] == "invalid_arguments"


def test_a_message_can_be_stopped_after_slack_took_it(slack: SlackRules, client: WebClient):
    """What a crash test needs: Slack has the message, the bot never learns its ts."""
    hold = slack.control.hold_next(Where.AFTER, method=r"^chat\.postMessage$", text="crash here")
    impatient = WebClient(client.token, base_url=slack.api_url, timeout=1, retry_handlers=[])
    with pytest.raises(TimeoutError):
        impatient.chat_postMessage(channel=CHANNEL, text="crash here")
    at = hold.wait_reached()
    assert at["channel"] == CHANNEL
    assert [message["text"] for message in slack.control.messages(CHANNEL)] == ["crash here"]
    hold.cut()
    assert client.chat_postMessage(channel=CHANNEL, text="crash here")["ok"]  # one exchange only
