from dataclasses import replace

from bot.announce.evidence import LOG_LINES, by_hand, evidence
from bot.incidents.incident import RoundReason
from bot.incidents.judge import Query, Verdict
from bot.report import Report
from tests import stories as s


def words(round, view=None) -> str:
    return s.said(Report("x", evidence(round, view or s.view(round))))


def asked(**changes: object):
    return s.round_of(observations=(replace(s.QUEUE, **changes),))


def test_a_round_tells_each_question_its_query_its_number_and_what_failed():
    shown = words(s.round_of())
    assert "Round 1 (start) · high_latency · 1.4 s\nUnder-provisioned: 138 requests wait" in shown
    assert "TTFT P99 2.5–5 s (SLO 1 s)" in shown
    assert "How many requests wait?\nwaiting 138 · running 192 · growth 9.2/min" in shown
    assert "num_requests_waiting (http://127.0.0.1:9090/graph?g0.expr=x) → 138" in shown
    assert "GPU memory errors?\nNot answered: no agent on gpu-03" in shown


def test_the_conclusions_stand_before_the_questions():
    shown = words(s.round_of())
    assert "Under-provisioned: confirmed. 138 requests wait" in shown and "Ruled out: Long prompts" in shown
    assert shown.index("Ruled out") < shown.index("How many requests wait?")


def test_what_was_inconclusive_names_the_questions_it_lacks():
    assert "Under-provisioned: inconclusive, for lack of queue" in words(s.INCONCLUSIVE)


def test_a_symptom_names_what_explains_it():
    symptom = replace(s.UNDER_PROVISIONED, title="Queue long", suppressed_by="engine_hung")
    assert "Queue long: confirmed, explained by engine_hung" in words(s.round_of(findings=(symptom,)))


def test_the_usual_advice_is_corrected_where_the_cause_is_confirmed_only():
    noted = replace(s.UNDER_PROVISIONED, note="The usual advice changes nothing here.")
    assert "The usual advice" in words(s.round_of(findings=(noted,)))
    assert "The usual advice" not in words(s.round_of(findings=(replace(noted, verdict=Verdict.RULED_OUT),)))


def test_what_a_probe_could_not_measure_is_said_beside_what_it_could():
    shown = words(asked(reading={"running": 3, "busy_ratio": None, "missing": "GPU_UTIL is not exported"}))
    assert "How many requests wait?\nrunning 3\n? GPU_UTIL is not exported" in shown


def test_a_look_at_the_past_says_who_can_answer_for_it():
    shown = words(s.round_of(as_of=s.at(-60), asked_by=s.BOB, reason=RoundReason.REQUESTED))
    assert "requested by @U02BOB, as of" in shown and "Only Prometheus can answer for the past" in shown


def test_a_query_that_several_steps_ask_is_shown_once():
    again = replace(s.QUEUE, step="other", ask="Something else?")
    assert words(s.round_of(observations=(s.QUEUE, again))).count("num_requests_waiting") == 1


def test_a_query_is_named_by_what_it_measures():
    def name(promql: str) -> str:
        return words(asked(queries=(Query(promql, "1", ""),)))

    assert "rate of request_success_total → 1" in name('sum(rate(vllm:request_success_total{a="b"}[5m]))')
    assert "growth of num_requests_waiting → 1" in name('60 * sum(deriv(vllm:num_requests_waiting{a="b"}[5m]))')
    assert "time_to_first_token_seconds histogram → 1" in name(
        'rate(vllm:time_to_first_token_seconds_bucket{a="b"}[5m])'
    )
    assert "mean prefill_seconds → 1" in name(
        'rate(vllm:prefill_seconds_sum{a="b"}[5m]) / rate(vllm:prefill_seconds_count{}[5m])'
    )
    assert "vector(1) → 1" in name("vector(1)")


def test_an_address_too_long_for_slack_leaves_its_name():
    query = Query('up{job="x"}', "1", "http://127.0.0.1/" + "q" * 3000)
    shown = words(asked(queries=(query,)))
    assert "http://127.0.0.1/" not in shown and "up → 1" in shown


def test_a_long_log_shows_its_end_and_says_how_much_there_was():
    shown = words(asked(log_excerpt="\n".join(f"line {n}" for n in range(100))))
    assert f"The last {LOG_LINES} of 100 lines." in shown
    assert "line 99" in shown and "line 69" not in shown


def test_secrets_in_logs_and_commands_do_not_leave_for_slack():
    shown = words(asked(log_excerpt="non-default args: {'api_key': ['sk-live-0123'], 'model': 'org/m'}\nHF_TOKEN=hf_x"))
    assert "sk-live" not in shown and "hf_x" not in shown and "org/m" in shown
    told = s.said(Report("x", tuple(by_hand([replace(s.MANUAL, command="vllm serve m --api-key s3cret")]))))
    assert "s3cret" not in told and "--api-key [redacted]" in told


def test_a_round_without_a_number_is_not_called_by_one():
    assert words(s.round_of(0)).startswith("(start) · high_latency")


def test_what_is_done_by_hand_is_complete():
    shown = s.said(Report("x", tuple(by_hand([s.MANUAL]))))
    assert "By hand: raise max-num-seqs from 256 to 384" in shown
    assert "No button: set_engine_args is not a button yet" in shown
    assert "kubectl -n llm edit deployment/chat-70b" in shown
