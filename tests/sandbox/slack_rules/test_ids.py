from sandbox.slack_rules.ids import elements_of, with_ids


def test_missing_ids_are_made_up_and_given_ones_kept():
    blocks = [
        {"type": "section", "accessory": {"type": "button", "action_id": "kept"}},
        {"type": "actions", "block_id": "b", "elements": [{"type": "button"}, {"type": "overflow"}]},
        {"type": "input", "element": {"type": "plain_text_input"}},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}]},
        {"type": "section", "accessory": {"type": "image"}},
    ]
    filled = with_ids(blocks)
    assert all(block["block_id"] for block in filled)
    assert filled[1]["block_id"] == "b"
    assert filled[0]["accessory"]["action_id"] == "kept"
    assert all(element["action_id"] for element in filled[1]["elements"])
    assert filled[2]["element"]["action_id"]
    assert filled[3]["elements"] == blocks[3]["elements"]
    assert "action_id" not in filled[4]["accessory"]


def test_the_blocks_that_came_in_are_not_changed():
    blocks = [{"type": "actions", "elements": [{"type": "button"}]}]
    with_ids(blocks)
    assert blocks == [{"type": "actions", "elements": [{"type": "button"}]}]


def test_what_is_no_list_passes_through():
    assert with_ids("[") == "["
    assert with_ids(None) is None


def test_elements_come_with_the_id_of_their_block():
    blocks = [
        {"type": "section", "block_id": "a", "accessory": {"type": "button", "action_id": "1"}},
        {"type": "actions", "block_id": "b", "elements": [{"type": "button", "action_id": "2"}]},
        {"type": "input", "block_id": "c", "element": {"type": "plain_text_input", "action_id": "3"}},
    ]
    assert [(block, element["action_id"]) for block, element in elements_of(blocks)] == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
    ]
