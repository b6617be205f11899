from sandbox.fleet.measurements import Histogram, HttpMeasurements, token_bounds


def test_token_buckets_go_as_far_as_a_request_can_get():
    assert token_bounds(1024) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert token_bounds(131_072)[-1] == 100_000


def test_an_observation_on_a_bound_lies_below_it():
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    histogram.observe(1.5, times=3)
    histogram.observe(9.0)
    assert histogram.counts == [1, 3, 1]
    assert (histogram.count, histogram.sum) == (5, 14.5)


def test_statuses_are_counted_in_groups():
    http = HttpMeasurements()
    for status in (200, 404, 429):
        http.answered("/v1/completions", "POST", status, 0.2, now=1.0, received=10)
    assert http.requests == {("/v1/completions", "POST", "2xx"): 1, ("/v1/completions", "POST", "4xx"): 2}
    assert http.request_bytes == {"/v1/completions": (3, 30.0)}
