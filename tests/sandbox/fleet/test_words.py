from itertools import islice

from sandbox.fleet.words import answer, tokens_of


def test_the_same_prompt_gets_the_same_answer_and_another_prompt_another():
    assert list(islice(answer("hello"), 20)) == list(islice(answer("hello"), 20))
    assert list(islice(answer("hello"), 20)) != list(islice(answer("goodbye"), 20))


def test_words_and_signs_are_tokens():
    assert len(tokens_of("Is it slow, or not?")) == 7
    assert tokens_of("slow slow")[0] == tokens_of("slow slow")[1]
