from bot.probes.naming import first, names


def test_a_few_are_named_and_the_others_counted():
    assert names(["c", "a", "b"]) == "a, b, c"
    assert names("edcba") == "a, b, c and 2 more"
    assert names(["a", "a"]) == "a"


def test_nobody_has_no_name():
    assert names([]) is None
    assert first([]) is None


def test_the_first_stays_the_same_whatever_the_order():
    assert first(["b", "a"]) == first(["a", "b"]) == "a"
