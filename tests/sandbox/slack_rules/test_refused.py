from sandbox.slack_rules.refused import RefusedError, with_messages


def test_a_refusal_has_slacks_shape():
    assert RefusedError("missing_scope", needed="chat:write").body == {
        "ok": False,
        "error": "missing_scope",
        "needed": "chat:write",
    }


def test_problems_are_named_twice_as_slack_does():
    body = with_messages("invalid_blocks", ["must be an array [json-pointer:/blocks]"]).body
    assert body["errors"] == ["must be an array [json-pointer:/blocks]"]
    assert body["response_metadata"]["messages"] == ["[ERROR] must be an array [json-pointer:/blocks]"]
