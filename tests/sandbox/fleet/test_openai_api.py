import json

import pytest
from pydantic import ValidationError

from sandbox.fleet.openai_api import Asked, choice, piece, refusal


def test_a_prompt_may_be_text_or_tokens_and_a_chat_is_its_messages():
    assert len(Asked(prompt="why so slow").tokens) == 3
    assert Asked(prompt=[5, 6, 7]).tokens == [5, 6, 7]
    chat = Asked.model_validate({"messages": [{"role": "user", "content": "why so slow"}]})
    assert chat.text == "user: why so slow"


def test_what_is_not_understood_is_ignored_but_several_choices_are_refused():
    assert Asked.model_validate({"prompt": "x", "temperature": 0}).prompt == "x"
    with pytest.raises(ValidationError):
        Asked.model_validate({"prompt": "x", "n": 2})


def test_answers_differ_between_completions_chats_and_pieces_of_chats():
    assert choice(False, "hi", "stop")["text"] == "hi"
    assert choice(True, "hi", "stop")["message"] == {"role": "assistant", "content": "hi"}
    assert piece(True, "hi", None)["delta"] == {"content": "hi"}


def test_a_refusal_has_the_shape_that_clients_know():
    body = json.loads(refusal(404, "NotFoundError", "no such model", "model").text)
    assert body == {"error": {"message": "no such model", "type": "NotFoundError", "param": "model", "code": 404}}
