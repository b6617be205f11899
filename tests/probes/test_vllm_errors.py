import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.vllm_errors import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import by_pod, world

HTTP = 'http_requests_total{namespace="llm",pod=~'
ALL = 'handler=~"/v1/.*"}'
SERVER = 'handler=~"/v1/.*",status="5xx"'
CLIENT = 'handler=~"/v1/.*",status="4xx"'
FAILED = '-[a-z0-9]{5}",finished_reason="error"'
FINISHED = "rate(vllm:request_success_total"


def ask(*, silent=False, **answers):
    sources, cluster, _ = world()
    named = {"all": ALL, "server": SERVER, "client": CLIENT, "failed": FAILED, "finished": FINISHED}
    sources.metrics.answers = {named.get(name, name): value for name, value in answers.items()}
    if not silent:
        sources.metrics.answers["count by (namespace, pod) (vllm:num_requests_running"] = by_pod(cluster, 1, 1, 1)
    return observe(Params(service="chat"), sources)


def test_the_share_of_5xx_and_that_of_4xx_are_kept_apart():
    found = ask(all=10.0, server=0.5, client=2.0)
    assert (found.http_5xx_ratio, found.http_4xx_ratio) == (0.05, 0.2)
    assert (found.error_ratio, found.counted_by, found.requests_per_second) == (0.05, "replicas' HTTP", 10.0)


def test_without_a_series_of_failures_nothing_has_failed():
    assert ask(all=10.0).error_ratio == 0.0


def test_without_traffic_nothing_is_known():
    found = ask(all=0.0, finished=0.0)
    assert (found.error_ratio, found.finished_error_ratio) == (None, None)
    assert ask().error_ratio is None


def test_the_gateway_goes_before_the_replicas_own_count():
    found = ask(all=10.0, istio_requests_total=12.0, **{'response_code=~"5.."}': 3.0})
    assert (found.counted_by, found.requests_per_second) == ("Istio", 12.0)
    assert (found.gateway_error_ratio, found.http_5xx_ratio) == (found.error_ratio, 0.0)


ROUTER = {
    "group by (model_name)": Answer((Sample({"model_name": "chat"}, 1, NOW),)),
    "vllm:num_incoming_requests_total": 20.0,
    "vllm:request_errors_total": 2.0,
}


def test_a_gateway_that_knows_no_codes_is_not_said_to_count_5xx():
    found = ask(all=20.0, **ROUTER)
    assert (found.error_ratio, found.counted_by) == (0.1, "production-stack router")
    assert (found.counted_as, found.servers_fault) == ("failures of any kind", True)
    assert ask(all=20.0, istio_requests_total=12.0, **{'response_code=~"5.."}': 3.0}).counted_as == "5xx"


def test_where_replicas_refuse_as_many_as_fail_at_the_gateway_it_may_be_the_clients_fault():
    assert ask(all=20.0, client=2.0, **ROUTER).servers_fault is None
    assert ask(all=20.0, client=0.1, **ROUTER).servers_fault is True


def test_by_the_replicas_own_count_it_is_the_servers_fault():
    found = ask(all=10.0, server=0.5, client=2.0)
    assert (found.counted_as, found.servers_fault) == ("5xx", True)
    assert ask().servers_fault is None


def test_what_engines_could_not_finish_is_told():
    assert ask(all=10.0, finished=8.0, failed=2.0).finished_error_ratio == 0.25


def test_refusals_of_a_limited_queue_are_told_by_the_minute_and_older_versions_do_not_count_them():
    assert ask(all=10.0, admission_rejections_total=0.5).rejections_per_minute == 30
    assert ask(all=10.0).rejections_per_minute is None


def test_restarts_are_told_since_what_died_could_not_count_its_failures():
    assert ask(all=10.0, process_start_time_seconds=2.0).restarts == 2


def test_silent_replicas_say_why():
    up = Answer((Sample({"pod": "a"}, 0, NOW),))
    found = ask(silent=True, **{"up{": up})
    assert found.error_ratio is None
    assert "up is 0" in found.missing


def test_prometheus_down_is_raised():
    sources, _, _ = world()
    sources.metrics.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        observe(Params(service="chat"), sources)
