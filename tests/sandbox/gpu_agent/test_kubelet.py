import time
from pathlib import Path

from bot.gpu_readings import Holder
from bot.outbound.gpu_holders import KubeletPods, devices
from sandbox.gpu_agent.kubelet import Held, listed, serve

CHAT = Held("llm", "chat-7d9f-abcde", "vllm", ("GPU-a", "GPU-b"))
CODE = Held("llm", "code-5c4d-fghij", "vllm", ("GPU-c",))


def test_its_answer_is_what_the_agent_understands():
    found = devices(listed([CHAT, CODE]))
    assert found["GPU-b"] == (Holder(namespace="llm", pod=CHAT.pod, container="vllm", by="kubelet"),)
    assert [found[uuid][0].pod for uuid in ("GPU-a", "GPU-c")] == [CHAT.pod, CODE.pod]


def test_it_answers_over_its_socket(tmp_path: Path):
    server = serve(tmp_path / "kubelet.sock", [CHAT])
    pods = KubeletPods(tmp_path / "kubelet.sock")
    pods.start()
    try:
        deadline = time.monotonic() + 10
        while not pods.known:
            assert time.monotonic() < deadline, pods.problem
            time.sleep(0.01)
        assert [holder.pod for holder in pods.of_gpu("GPU-a")] == [CHAT.pod]
    finally:
        pods.stop()
        server.stop(None)
