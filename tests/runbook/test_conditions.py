import pytest

from bot.runbook.conditions import LENGTH_LIMIT, ConditionError, Reference, compiled, mistakes

STEPS = {
    "queue": {"waiting": "number", "replicas": "number", "growing": "bool", "pods": "list"},
    "args": {"chunked_prefill": "bool", "version": "text"},
}


def truth(source, **readings):
    return compiled(source).truth(readings)


# --- three values


def test_true_and_false():
    assert truth("queue.waiting > 50", queue={"waiting": 138}).value is True
    assert truth("queue.waiting > 50", queue={"waiting": 3}).value is False


def test_a_failed_step_is_not_known():
    found = truth("queue.waiting > 50")
    assert found.value is None
    assert found.unknown == (Reference("queue", "waiting"),)


@pytest.mark.parametrize(
    "source",
    [
        "args.chunked_prefill == false",
        "args.chunked_prefill != true",
        "!args.chunked_prefill",
        'args.version in ["0.31"]',
        'args.version == "x"',
    ],
)
def test_a_field_that_is_none_is_not_known_whatever_is_asked_of_it(source):
    assert truth(source, args={"chunked_prefill": None, "version": None}).value is None


def test_what_is_known_decides_where_it_can():
    readings = {"queue": {"waiting": 138, "growing": None}}
    assert compiled("queue.growing || queue.waiting > 50").truth(readings).value is True
    assert compiled("queue.waiting < 50 && queue.growing").truth(readings).value is False
    assert compiled("queue.waiting > 50 && queue.growing").truth(readings).value is None


def test_a_division_by_zero_is_not_known_and_says_so():
    found = truth("queue.waiting / queue.replicas > 1", queue={"waiting": 1, "replicas": 0})
    assert found.value is None
    assert "divides by queue.replicas, which is 0" in found.error


def test_whole_numbers_and_fractions_mix():
    assert truth("queue.waiting * 2 > queue.replicas * 0.5", queue={"waiting": 1, "replicas": 3}).value is True
    assert truth("queue.waiting / 2 == 3.5", queue={"waiting": 7}).value is True


def test_elements_of_a_list():
    assert truth("queue.pods.exists(pod, pod == 'a')", queue={"pods": ("a", "b")}).value is True
    assert truth("size(queue.pods) > 2", queue={"pods": ("a", "b")}).value is False


def test_numbers_inside_texts_stay_texts():
    assert truth('args.version == "0.32"', args={"version": "0.32"}).value is True


def test_what_is_no_truth_value_is_not_known():
    found = truth("queue.waiting", queue={"waiting": 3})
    assert found.value is None and "not true or false" in found.error


# --- limits


def test_a_long_expression_is_refused():
    with pytest.raises(ConditionError, match="characters long"):
        compiled(" || ".join(["queue.waiting > 50"] * (LENGTH_LIMIT // 18 + 1)))


def test_deep_nesting_is_refused():
    deep = "queue.pods.all(a, queue.pods.all(b, queue.pods.all(c, a + b != c)))"
    with pytest.raises(ConditionError, match="nests more than"):
        compiled(deep)
    compiled("queue.pods.all(a, queue.pods.all(b, a != b))")


@pytest.mark.parametrize("source", ["queue.waiting >", "queue.waiting > > 1", "(", ""])
def test_nonsense_is_refused_in_words(source):
    with pytest.raises(ConditionError, match="is not valid CEL"):
        compiled(source)


# --- what is wrong


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("queue.waitin > 50", "no reading 'queue.waitin'; did you mean 'queue.waiting'?"),
        ("queu.waiting > 50", "no step 'queu'; did you mean 'queue'?"),
        ("queue.chunked_prefill", "did you mean 'args.chunked_prefill'?"),
        ("queue > 50", "'queue' is a step: name one of its readings"),
        ("waiting > 50", "no step 'waiting'"),
        ("queue['waiting'] > 50", "write queue.field"),
        ("max(queue.waiting) > 50", "no function 'max'"),
        ("queue.waiting > '50'", "queue.waiting is a number, and '50' is a text"),
        ("queue.waiting == '50'", "queue.waiting is a number, and '50' is a text: that is never equal"),
        ("'on' == args.chunked_prefill", "args.chunked_prefill is a bool, and 'on' is a text"),
        ("queue.growing && queue.waiting", "mixes kinds"),
        ("queue.waiting + 1", "neither true nor false"),
        ("queue.growing ? 1 : 2", "neither true nor false"),
        ("args.version.matches('(')", "regex"),
        ("!queue.waiting", "mixes kinds"),
        ("queue.waiting / (queue.replicas - 1) > 2", "divides by something that may be zero"),
        ("queue.waiting / 0 > 2", "divides by something that may be zero"),
    ],
)
def test_mistakes_are_named_with_the_nearest_right_word(source, text):
    found = mistakes(compiled(source), STEPS)
    assert len(found) == 1
    assert text in found[0]


@pytest.mark.parametrize(
    "source",
    [
        "queue.waiting >= 50 || queue.waiting >= 5 && queue.replicas > 0.1 * queue.waiting",
        "queue.pods.exists(p, p.startsWith('chat'))",
        "has(args.version) && args.version != '0.31'",
        "args.version in ['0.31', '0.32']",
        "args.chunked_prefill == false",
        "queue.waiting / queue.replicas > 2",
    ],
)
def test_what_is_right_is_left_alone(source):
    assert mistakes(compiled(source), STEPS) == ()
