import re

from bot.vllm import series


def matches(pattern, pod):
    return re.fullmatch(pattern, pod) is not None


def test_a_replica_sets_pods_and_no_others():
    pattern = series.pods_of_replica_set("chat-70b-7d9f8c6b5")
    assert matches(pattern, "chat-70b-7d9f8c6b5-x2k9p")
    assert not matches(pattern, "chat-70b-canary-7d9f8c6b5-x2k9p")
    assert not matches(pattern, "chat-70b-7d9f8c6b5-x2k9p-0")
    assert not matches(pattern, "chat-70b-7d9f8c6b55-x2k9p")


def test_kubernetes_cuts_long_names_before_it_adds_five_letters():
    name = "a-very-long-model-name-that-somebody-chose-for-a-deployment-7d9f8c6b5"
    pattern = series.pods_of_replica_set(name)
    assert matches(pattern, name[:58] + "x2k9p")
    assert len(name[:58] + "x2k9p") == 63


def test_dots_in_a_name_are_dots():
    assert not matches(series.pods_of_replica_set("llama-3.1-7d9f"), "llama-3x1-7d9f-x2k9p")
    assert r"3\\.1" in series.pods_matcher({"llm": [series.pods_of_replica_set("llama-3.1-7d9f")]})


def test_a_stateful_sets_pods_end_in_a_number():
    pattern = series.pods_of_stateful_set("chat")
    assert matches(pattern, "chat-0") and matches(pattern, "chat-12")
    assert not matches(pattern, "chat-canary-0") and not matches(pattern, "chat-0-x2k9p")


def test_without_replica_sets_the_form_of_the_name_leaves_the_canary_out():
    pattern = series.pods_of_deployment("chat-70b")
    assert matches(pattern, "chat-70b-7d9f8c6b5-x2k9p")
    assert not matches(pattern, "chat-70b-canary-7d9f8c6b5-x2k9p")
    assert not matches(pattern, "chat-70b-0")


def test_matchers_name_the_namespace_and_every_pattern():
    assert series.pods_matcher({"llm": ["b-[0-9]+", "a-[0-9]+"]}) == 'namespace="llm",pod=~"a-[0-9]+|b-[0-9]+"'
    two = series.pods_matcher({"llm": ["a-[0-9]+"], "batch": ["b-[0-9]+"]})
    assert two == 'namespace=~"batch|llm",pod=~"a-[0-9]+|b-[0-9]+"'
    assert series.pods_matcher({"llm": ["a-[0-9]+"]}, prefix="exported_").startswith('exported_namespace="llm"')


def test_old_and_new_names_are_asked_in_one_query_the_new_one_first():
    usage = series.kv_cache_usage('pod="a"')
    assert usage.index("vllm:kv_cache_usage_perc") < usage.index("vllm:gpu_cache_usage_perc")
    tpot = series.histogram_rate(series.TPOT, 'pod="a"', "300s")
    assert tpot.startswith("sum by (le) (rate(vllm:request_time_per_output_token_seconds_bucket{")
    assert " or rate(vllm:time_per_output_token_seconds_bucket{" in tpot


def test_engine_series_are_told_from_a_routers():
    assert 'engine!=""' in series.histogram_rate(series.TTFT, 'pod="a"', "300s")
    assert 'engine!=""' in series.mean(series.TTFT, 'pod="a"', "300s")
