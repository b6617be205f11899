from dataclasses import replace

import pytest

from bot.ports import Completion, Sample, SourceError
from bot.probes.canaries import Outcome, Question, ask
from bot.probes.served import serving_pods
from bot.vllm.references import GoldenPrompt
from tests.fakes import NOW, FakeEngine, FakeEngines, fake_sources
from tests.probes.fleets import world

SILENT = Completion(ok=False, status=None, seconds=99, text="")
ANSWER = Completion(ok=True, status=200, seconds=0.2, text=" Paris, on the Seine")
WITH_NUMBERS = Completion(ok=True, status=200, seconds=0.2, text=" Paris", logprobs=(-0.1,))


def page(steps=100, running=0, waiting=0, awake=1, engine="0"):
    told = {
        "vllm:iteration_tokens_total_count": steps,
        "vllm:num_requests_running": running,
        "vllm:num_requests_waiting": waiting,
    }
    samples = [Sample({"__name__": name, "engine": engine}, float(value), NOW) for name, value in told.items()]
    if awake is not None:
        labels = {"__name__": "vllm:engine_sleep_state", "engine": engine, "sleep_state": "awake"}
        samples.append(Sample(labels, float(awake), NOW))
    return tuple(samples)


def asked(engine, *, sense=False, golden=(), args=("org/model",)):
    sources, cluster, _ = world(replicas=1, args=args)
    (pod,) = serving_pods(sources, sources.fleet.services[0])
    engines = FakeEngines({pod.address: engine})
    question = Question(5, sense, tuple(golden))
    return ask(pod, question, fake_sources(cluster=cluster, engines=engines)), engines


def test_an_answer_is_an_answer():
    found, _ = asked(FakeEngine(pages=[page()], completion=ANSWER))
    assert (found.outcome, found.seconds) == (Outcome.ANSWERED, 0.2)


def test_with_nothing_else_to_do_no_step_and_no_answer_twice_it_is_stuck():
    found, engines = asked(FakeEngine(pages=[page()], completion=SILENT))
    assert found.outcome is Outcome.STUCK
    assert len(engines.asked) == 2


def test_an_engine_that_steps_lets_the_request_wait():
    found, engines = asked(FakeEngine(pages=[page(100), page(140)], completion=SILENT))
    assert (found.outcome, len(engines.asked)) == (Outcome.LATE, 1)


def test_an_engine_with_other_work_may_be_in_one_long_step():
    found, _ = asked(FakeEngine(pages=[page(running=1)], completion=SILENT))
    assert found.outcome is Outcome.LATE
    assert "other work" in found.why


def test_the_first_request_of_a_new_engine_may_take_its_time():
    found, _ = asked(FakeEngine(pages=[page(0)], completion=SILENT))
    assert found.outcome is Outcome.LATE
    assert "never made a step" in found.why


def test_an_engine_that_somebody_paused_is_not_stuck():
    assert asked(FakeEngine(pages=[page()], completion=SILENT, paused=True))[0].outcome is Outcome.ASLEEP


def test_an_engine_that_begins_to_step_after_all_is_not_stuck():
    found, _ = asked(FakeEngine(pages=[page(100), page(100), page(101)], completion=SILENT))
    assert found.outcome is Outcome.LATE


def test_without_counters_a_hang_is_not_told_from_a_queue():
    other = (Sample({"__name__": "process_open_fds"}, 9.0, NOW),)
    found, _ = asked(FakeEngine(pages=[other], completion=SILENT))
    assert found.outcome is Outcome.NOT_ASKED
    assert "exports no counters" in found.why


def test_where_nobody_answers_it_is_unreachable():
    assert asked(FakeEngine(health=None))[0].outcome is Outcome.UNREACHABLE
    assert asked(FakeEngine(pages=[page(), None], completion=SILENT))[0].outcome is Outcome.UNREACHABLE


def test_a_sleeping_engine_is_never_asked():
    found, engines = asked(FakeEngine(pages=[page(awake=0)], completion=ANSWER))
    assert (found.outcome, engines.asked) == (Outcome.ASLEEP, [])


def test_an_engine_that_may_sleep_and_does_not_tell_is_not_asked_either():
    found, engines = asked(FakeEngine(pages=[page(awake=None)]), args=("org/model", "--enable-sleep-mode"))
    assert (found.outcome, engines.asked) == (Outcome.ASLEEP, [])


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(500, Outcome.FAILED), (503, Outcome.REFUSED), (401, Outcome.NOT_ASKED), (404, Outcome.NOT_ASKED)],
)
def test_a_refusal_is_told_by_its_status(status, outcome):
    refusal = Completion(ok=False, status=status, seconds=0.1, text="no: hf_abcdefghijklmnopqrst")
    found, _ = asked(FakeEngine(pages=[page()], completion=refusal))
    assert found.outcome is outcome
    assert "hf_" not in found.why


def test_a_source_error_is_a_reason_not_a_verdict():
    found, _ = asked(FakeEngine(pages=[SourceError("vLLM", "is that vLLM?")]))
    assert (found.outcome, found.why) == (Outcome.NOT_ASKED, "vLLM: is that vLLM?")


# ---------------------------------------------------------------------------------------------- sense


def sensible(**more):
    return FakeEngine(pages=[page()], completion=ANSWER, with_logprobs=WITH_NUMBERS, **more)


def test_sense_is_only_asked_for_on_request():
    found, engines = asked(sensible())
    assert (found.nan, found.garbage, len(engines.asked)) == (None, None, 1)


def test_sensible_words_and_finite_numbers_are_neither_garbage_nor_nan():
    found, _ = asked(sensible(), sense=True)
    assert (found.nan, found.garbage, found.wrong) == (False, False, None)


def test_exclamation_marks_alone_are_garbage():
    marks = Completion(ok=True, status=200, seconds=0.2, text="!!!!!!!!!!!!!!!!")
    engine = FakeEngine(pages=[page()], completion=marks, with_logprobs=WITH_NUMBERS)
    assert asked(engine, sense=True)[0].garbage is True
    shout = Completion(ok=True, status=200, seconds=0.2, text=" Paris!!!")
    engine = FakeEngine(pages=[page()], completion=shout, with_logprobs=WITH_NUMBERS)
    assert asked(engine, sense=True)[0].garbage is False


MARKS = Completion(ok=True, status=200, seconds=0.2, text="!!!!!!!!!!!!!!!!")


def test_probabilities_are_not_asked_for_where_the_words_make_sense():
    found, engines = asked(FakeEngine(pages=[page()], completion=ANSWER, with_logprobs=SILENT), sense=True)
    assert (found.nan, len(engines.asked)) == (False, 2)


@pytest.mark.parametrize("said", ["!!!!!!!!!!!!!!!!", "", " the the the the"])
def test_suspicious_words_with_probabilities_that_are_no_numbers_are_nan(said):
    failure = "Internal Server Error: Out of range float values are not JSON compliant: nan"
    for told in (
        Completion(ok=False, status=500, seconds=0.1, text=failure),
        Completion(ok=True, status=200, seconds=0.1, text="x", logprobs=(None,)),
    ):
        engine = FakeEngine(pages=[page()], completion=replace(MARKS, text=said), with_logprobs=told)
        assert asked(engine, sense=True)[0].nan is True


def test_suspicious_words_with_finite_probabilities_are_no_nan():
    engine = FakeEngine(pages=[page()], completion=replace(MARKS, text=" a a a"), with_logprobs=WITH_NUMBERS)
    assert asked(engine, sense=True)[0].nan is False


@pytest.mark.parametrize(
    "told",
    [
        Completion(ok=False, status=400, seconds=0.1, text="max_logprobs"),
        Completion(ok=False, status=500, seconds=0.1, text="Internal Server Error"),
        Completion(ok=True, status=200, seconds=0.1, text="x"),
    ],
)
def test_where_probabilities_are_refused_nan_is_not_known(told):
    engine = FakeEngine(pages=[page()], completion=MARKS, with_logprobs=told)
    assert asked(engine, sense=True)[0].nan is None


GOLDEN = GoldenPrompt(prompt="2 + 2 =", expect=r"\b4\b")


def test_a_golden_prompt_that_is_answered_otherwise_is_wrong():
    engine = sensible(completions={"2 + 2 =": Completion(ok=True, status=200, seconds=0.1, text=" 5, of course")})
    found, _ = asked(engine, sense=True, golden=[GOLDEN])
    assert (found.wrong, found.checked) == ("2 + 2 = → 5, of course", True)


def test_a_golden_prompt_that_is_answered_right_is_checked():
    engine = sensible(completions={"2 + 2 =": Completion(ok=True, status=200, seconds=0.1, text=" 4")})
    found, _ = asked(engine, sense=True, golden=[GOLDEN])
    assert (found.wrong, found.checked) == (None, True)


def test_a_golden_prompt_without_an_answer_is_neither():
    found, _ = asked(sensible(completions={"2 + 2 =": SILENT}), sense=True, golden=[GOLDEN])
    assert (found.wrong, found.checked) == (None, False)
