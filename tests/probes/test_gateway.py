import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.gateway import Gateway, gateway_of
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world

FAILED = 'destination_workload="chat",response_code=~"5.."'
MODELS = {"group by (model_name)": Answer((Sample({"model_name": "org/chat.70b-it"}, 1, NOW),))}


def ask(**answers):
    sources, _, _ = world(answers={**MODELS, **{name.replace("__", ":"): v for name, v in answers.items()}})
    return gateway_of(sources, sources.fleet.services[0], 'pod="x"'), sources.metrics.asked


def test_the_router_of_production_stack_is_asked_for_the_model():
    found, asked = ask(vllm__num_incoming_requests_total=10.0, vllm__request_errors_total=1.0)
    assert found == Gateway("production-stack router", 10.0, 0.1, 1.0)
    assert any(r'model=~"org/chat\\.70b-it"' in query for query in asked)


@pytest.mark.parametrize("name", ["llm_d_epp_request", "inference_objective_request", "inference_model_request"])
def test_llm_ds_endpoint_picker_is_known_by_all_its_names(name):
    found, _ = ask(**{f"{name}_total": 8.0, f"{name}_error_total": 2.0})
    assert found == Gateway("llm-d endpoint picker", 8.0, 0.25, 2.0)


def test_what_the_endpoint_picker_refuses_as_a_bad_request_is_no_failure():
    _, asked = ask(llm_d_epp_request_total=8.0, llm_d_epp_request_error_total=2.0)
    assert all('error_code!="BadRequest"' in query for query in asked if "_error_total" in query)


def test_istio_is_asked_for_the_workload():
    found, asked = ask(istio_requests_total=5.0, **{FAILED: 1.0})
    assert found == Gateway("Istio", 5.0, 0.2, 1.0, knows_codes=True)
    assert any('destination_workload="chat"' in query for query in asked)


def test_without_a_failure_yet_nothing_failed():
    assert ask(istio_requests_total=5.0, **{FAILED: Answer(())})[0].error_ratio == 0.0


def test_without_traffic_there_is_no_ratio():
    assert ask(istio_requests_total=0.0)[0] == Gateway("Istio", 0.0, None, 0.0, knows_codes=True)


def test_no_gateway_is_not_no_demand():
    assert ask()[0] == Gateway(None, None, None)


def test_prometheus_down_is_raised():
    sources, _, _ = world()
    sources.metrics.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        gateway_of(sources, sources.fleet.services[0], 'pod="x"')
