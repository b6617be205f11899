from sandbox.slack_rules.display import emoji
from sandbox.slack_rules.emoji import EMOJI


def test_every_name_is_a_shortcode_that_is_replaced():
    assert [name for name, drawn in EMOJI.items() if emoji(f":{name}:") != drawn] == []
