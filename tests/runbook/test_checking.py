import textwrap

import pytest

from bot.report import Code
from bot.runbook.checking import as_report, check, library
from bot.runbook.loading import our_folder

GOOD = textwrap.dedent(
    """\
    title: Long queue
    owner: me
    symptoms: It is slow.
    match: [{alertname: QueueLong}]
    signal:
      name: Waiting
      query: sum(vllm:num_requests_waiting{$selector})
      unit: count
      threshold: 50
    steps:
      - id: queue
        probe: vllm_queue
        with: {service: $service}
      - id: kv
        probe: vllm_kv_cache
        with: {service: $service}
      - id: old
        probe: promql
        with: {query: "sum(rate(x{$selector}[$window]))", offset_seconds: 3600}
    rules:
      - id: full
        when:
          - queue.waiting > 50
        severity: warning
        title: Full
        finding: "${queue.waiting} wait at $service"
        because: ["KV ${kv.usage_ratio_max}"]
        suggest:
          - action: scale_workload
            with: {add: 1}
            why: "${queue.waiting} wait"
        suppresses: [slow]
      - id: slow
        when: [kv.usage_ratio_max > 0.9]
        severity: warning
        title: Slow
        finding: It is.
    """
)

OTHER_SIGNAL = 'threshold: 50\nother_signals: [{alerts: [A], name: N, query: "x{$sel}", unit: count, threshold: 1}]\n'


@pytest.fixture
def check_text(tmp_path):
    def checked(text, **more):
        (tmp_path / "one.yaml").write_text(text)
        return [str(mistake).removeprefix(f"{tmp_path}/") for mistake in check([tmp_path], **more)]

    return checked


def test_a_right_runbook_has_no_mistakes(check_text):
    assert check_text(GOOD) == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("probe: vllm_queue", "probe: vllm_queu", "12:5: no probe 'vllm_queu'; did you mean 'vllm_queue'?"),
        ("{service: $service}\n  - id: kv", "{servce: $service}\n  - id: kv", "13:12: probe vllm_queue has no"),
        ("{service: $service}\n  - id: kv", "{}\n  - id: kv", "12:5: probe vllm_queue needs the parameter 'service'"),
        ("offset_seconds: 3600", "offset_seconds: soon", "offset_seconds: 'soon' is no number"),
        ("service: $service}\n  - id: kv", "service: $servce}\n  - id: kv", "no name $servce; did you mean 'service'?"),
        ("{$selector})\n", "{$slector})\n", "7:3: no name $slector; did you mean 'selector'?"),
        ("threshold: 50", "threshold: $slo.ttft_p99", "no name $slo.ttft_p99; did you mean 'slo.ttft_p99_seconds'?"),
        ("threshold: 50", "threshold: fifty", "'fifty' is neither a number nor $slo.…"),
        ("threshold: 50\n", OTHER_SIGNAL, "10:40: no name $sel"),
        ("queue.waiting > 50", "queue.waitin > 50", "23:9: `queue.waitin > 50`: no reading 'queue.waitin'"),
        ("queue.waiting > 50", "queu.waiting > 50", "no step 'queu'; did you mean 'queue'?"),
        ("queue.waiting > 50", "queue.waiting == 'many'", "queue.waiting is a number, and 'many' is a text"),
        ("queue.waiting > 50", "queue.waiting >", "is not valid CEL"),
        ("${queue.waiting} wait at", "${queue.wating} wait at", "26:5: ${queue.wating}: no reading 'wating' of queue"),
        ("KV ${kv.usage_ratio_max}", "KV ${ky.usage_ratio_max}", "27:15: ${ky.usage_ratio_max}: no step 'ky'"),
        ("at $service", "at $5", "a lone $"),
        ("action: scale_workload", "action: scale_worklod", "no action 'scale_worklod'; did you mean"),
        ("with: {add: 1}", "with: {ad: 1}", "30:16: action scale_workload takes no 'ad'; did you mean 'add'?"),
        ("with: {add: 1}", "with: {add: lots}", "action scale_workload: add: 'lots' is no number"),
        ("with: {add: 1}", "with: {add: 1, replicas: 4}", "say either add=1 or replicas=4"),
        ("suppresses: [slow]", "suppresses: [slo]", "no other rule 'slo'; did you mean 'slow'?"),
        ("suppresses: [slow]", "suppresses: [full]", "'full' is this rule itself"),
        ("[$window]", "[${queue.waiting}]", "readings are not there yet when steps are asked"),
        ("id: kv", "id: slo", "give the step another id"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_place_and_the_nearest_right_word(check_text, right, wrong, told):
    assert right in GOOD
    found = check_text(GOOD.replace(right, wrong, 1))
    assert any(told in line for line in found), found


def test_all_mistakes_are_told_at_once(check_text):
    text = GOOD.replace("probe: vllm_queue", "probe: nothing").replace("kv.usage_ratio_max > 0.9", "kv.usage > 0.9")
    text = text.replace("scale_workload", "scale").replace("{$selector})\n", "{$sel})\n")
    assert len(check_text(text)) == 4


def test_a_probe_that_does_not_exist_is_one_mistake_not_one_for_each_use(check_text):
    assert len(check_text(GOOD.replace("probe: vllm_queue", "probe: vllm_queu"))) == 1


def test_an_action_that_is_not_there_yet_is_allowed_with_the_command(check_text):
    text = GOOD.replace("action: scale_workload", "action: restart_the_moon")
    assert "needs `by_hand:`" in check_text(text)[0]
    assert check_text(text.replace("with: {add: 1}", "by_hand: kubectl get moon")) == []


def test_rules_that_explain_each_other_away_are_refused(check_text):
    text = GOOD.replace("    finding: It is.", "    finding: It is.\n    suppresses: [full]")
    (told,) = check_text(text)  # one circle is one mistake
    assert "in the end suppresses itself: full suppresses slow suppresses full" in told


def test_prometheus_is_asked_where_one_is_at_hand(check_text):
    asked = []

    def refuses(query):
        asked.append(query)
        return "parse error" if "rate" in query else None

    found = check_text(GOOD, promql=refuses)
    assert len(found) == 1 and "is refused by Prometheus: parse error" in found[0]
    assert all("$" not in query for query in asked) and len(asked) == 2


def test_a_runbook_without_cases_is_told(check_text, tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    assert "has no case file" in check_text(GOOD, cases=cases)[0]
    (cases / "one.yaml").write_text("[]")
    assert check_text(GOOD, cases=cases) == []


def test_our_own_runbooks_have_no_mistakes():
    assert check([our_folder()]) == ()


# --- which are used


@pytest.fixture
def folders(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    (ours / "one.yaml").write_text(GOOD)
    return ours, theirs


def test_a_users_runbook_replaces_ours_of_the_same_name(folders):
    ours, theirs = folders
    (theirs / "one.yaml").write_text(GOOD.replace("owner: me", "owner: them"))
    assert library([ours, theirs]).runbooks["one"].owner == "them"


@pytest.mark.parametrize("broken", ["title: [", GOOD.replace("queue.waiting > 50", "queue.nothing > 50")])
def test_a_broken_one_never_replaces_a_working_one(folders, broken):
    ours, theirs = folders
    (theirs / "one.yaml").write_text(broken)
    found = library([ours, theirs])
    assert found.runbooks["one"].owner == "me"
    assert found.mistakes


def test_a_file_broken_later_leaves_in_force_what_was(folders):
    ours, _ = folders
    before = library([ours]).runbooks
    (ours / "one.yaml").write_text("title: [")
    assert library([ours]).runbooks == {}
    assert library([ours], before).runbooks == before


def test_a_file_that_was_removed_is_gone(folders):
    ours, _ = folders
    before = library([ours]).runbooks
    (ours / "one.yaml").unlink()
    assert library([ours], before).runbooks == {}


# --- what the command prints


def test_the_report_counts_and_lists(folders):
    ours, _ = folders
    assert as_report((), 1).text == "1 runbook, no mistakes."
    (ours / "one.yaml").write_text(GOOD.replace("queue.waiting > 50", "queue.nothing > 50"))
    report = as_report(check([ours]), 1)
    assert report.text == "1 mistake in 1 runbook."
    (code,) = [part for part in report.parts if isinstance(part, Code)]
    assert "one.yaml:23:9:" in code.text
