import json

import pytest

from bot.vllm.references import (
    CHAT_REFERENCE,
    GOLDEN_PROMPTS,
    UnreadableError,
    chat_reference,
    golden_prompts,
    token_hash,
)

HELLO = [{"role": "user", "content": "hi"}]


def test_what_is_not_declared_is_not_there():
    assert golden_prompts({}) == ()
    assert chat_reference({"other": "x"}) is None


def test_golden_prompts_are_read():
    (one,) = golden_prompts({GOLDEN_PROMPTS: '[{"prompt": "2 + 2 =", "expect": "4"}]'})
    assert (one.prompt, one.expect, one.max_tokens) == ("2 + 2 =", "4", 16)


def test_a_chat_is_compared_by_its_tokens_or_by_their_hash():
    by_tokens = chat_reference({CHAT_REFERENCE: json.dumps({"messages": HELLO, "tokens": [1, 2, 3]})})
    by_hash = chat_reference({CHAT_REFERENCE: json.dumps({"messages": HELLO, "sha256": token_hash([1, 2, 3])})})
    assert by_tokens.tokens == (1, 2, 3)
    assert by_hash.sha256 == token_hash(by_tokens.tokens)
    assert token_hash([1, 23]) != token_hash([12, 3])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (GOLDEN_PROMPTS, "{", "is no JSON"),
        (GOLDEN_PROMPTS, '[{"prompt": "x"}]', "0.expect"),
        (GOLDEN_PROMPTS, '[{"prompt": "x", "expect": "("}]', "no regular expression"),
        (CHAT_REFERENCE, json.dumps({"messages": HELLO}), "either tokens or sha256"),
        (CHAT_REFERENCE, json.dumps({"messages": [], "tokens": [1]}), "messages"),
    ],
)
def test_what_cannot_be_read_is_named(name, text, said):
    read = golden_prompts if name == GOLDEN_PROMPTS else chat_reference
    with pytest.raises(UnreadableError, match=said) as error:
        read({name: text})
    assert name in str(error.value)
