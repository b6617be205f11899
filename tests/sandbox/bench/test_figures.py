from sandbox.bench.figures import idle_ratio, median, p95, wait_calm


def test_the_95th_percentile_is_a_value_that_was_measured():
    assert p95([float(n) for n in range(1, 21)]) == 19.0
    assert p95([7.0]) == 7.0
    assert median([1.0, 2.0, 9.0]) == 2.0


def test_the_machine_is_never_less_than_idle_and_waiting_for_calm_ends():
    assert 0 <= idle_ratio(0.1) <= 1
    assert 0 <= wait_calm(0) <= 1
