"""The house rules that a tool can check: imports only go down, vendor libraries stay at the edge, mirrors exist."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BOT = ROOT / "bot"
TESTS = ROOT / "tests"

# From the roof to the ground. A module may import from its own floor's package, and from below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("bot.__main__", "bot.cli"),
    ("bot.app", "bot.agent"),
    ("bot.inbound", "bot.leader", "bot.settings", "bot.logs", "bot.memory"),
    ("bot.commands",),
    ("bot.announce",),
    ("bot.rollout", "bot.loadtest", "bot.readiness", "bot.monitoring"),
    ("bot.remediation",),
    ("bot.incidents",),
    ("bot.runbook",),
    ("bot.probes", "bot.actions"),
    ("bot.vllm",),
    ("bot.ports",),
    ("bot.fleet", "bot.report", "bot.audit", "bot.gpu_readings"),
)
# In these one file answers one word; what several need is in the named modules.
SIBLINGS = {
    "bot.commands": {"request", "dispatch", "context", "words"},
    "bot.probes": {
        "asking", "canaries", "finder", "gateway", "gpus", "in_common", "known_good", "naming", "replica_states",
        "rollouts", "served",
    },
    "bot.actions": {"contract", "drainable", "finder", "nodes", "owners", "rolling", "tenants"},
}  # fmt: skip
EVERYWHERE = {"pydantic", "cel", "ruamel", "rfc8785", "typer", "structlog", "prometheus_client"}
AT_THE_EDGE = {
    "slack_bolt", "slack_sdk", "kubernetes", "prometheus_api_client", "pynvml", "sqlalchemy", "alembic", "psycopg",
    "dbos", "fastapi", "starlette", "uvicorn", "apscheduler", "requests", "urllib3", "matplotlib", "pydantic_settings",
    "grpc",
}  # fmt: skip

# Modules without a test of their own: they put real parts together, and what plays that is the test.
PLAYED_WHOLE = {
    "tests/sandbox/test_main.py": "tests/e2e/test_demo.py",  # parses arguments, and calls the demo
    "tests/sandbox/test_demo.py": "tests/e2e/test_demo.py",
    "tests/sandbox/test_stories.py": "tests/e2e/test_stories.py",
    "tests/sandbox/test_world.py": "tests/e2e/test_*.py",  # all of them stand on it
    "tests/sandbox/test_bot.py": "tests/e2e/test_*.py",
    "tests/sandbox/slack_rules/test_main.py": "tests/sandbox/slack_rules/test_part.py",  # a process of its own
    "tests/sandbox/fault_table/test_main.py": "tests/faults/test_faults.py",
    "tests/sandbox/fault_table/test_bot_side.py": "tests/faults/test_faults.py",
    "tests/sandbox/fault_table/test_ground.py": "tests/faults/test_faults.py",
    "tests/sandbox/fault_table/test_scene.py": "tests/faults/test_faults.py",
    "tests/sandbox/fault_table/test_outcome.py": "tests/faults/test_faults.py",
    "tests/sandbox/fault_table/test_real_scene.py": "make faults-vllm",  # a real vLLM
    "tests/sandbox/fault_table/test_doctor.py": "make faults-vllm",  # beside vllm-doctor
    "tests/sandbox/gpu_agent/test_main.py": "tests/e2e/test_gpu_agent.py",
    "tests/sandbox/gpu_agent/test_part.py": "tests/e2e/test_gpu_agent.py",
    "tests/sandbox/gpu_agent/test_nvml.py": "tests/outbound/test_nvml_readings.py",  # all NVML tests stand on it
    "tests/sandbox/gpu_proof/test_fault.py": "make gpu-proof",  # on a machine with an NVIDIA GPU
}


def modules() -> list[str]:
    files = sorted(BOT.rglob("*.py"))
    return [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]


def path_of(module: str) -> Path:
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def imports(module: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}:{node.lineno} imports by dots: name the package"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if path_of(name).exists() else node.module)
    return found


def floor(module: str) -> int | None:
    for level, names in enumerate(FLOORS):
        if any(module == n or module.startswith(n + ".") for n in names):
            return level
    return None


@pytest.mark.parametrize("module", modules())
def test_imports_only_go_down(module):
    level = floor(module)
    for other in imports(module):
        if not other.startswith("bot.") or module == "bot":
            continue
        if module.startswith("bot.outbound"):
            assert floor(other) is None or floor(other) >= 3, f"{module} must not know the roof: {other}"
            continue
        if other.startswith("bot.outbound"):
            assert level is not None and level <= 1, f"only the composition roots import outbound: {module} -> {other}"
            continue
        assert level is not None, f"{module} stands on no floor: give it one in FLOORS"
        below = floor(other)
        assert below is not None and below >= level, f"{module} imports upwards: {other}"
        if below == level and level > 1:
            assert package(module) == package(other) or level == 12, f"{module} imports its neighbour {other}"


def package(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("module", modules())
def test_siblings_do_not_import_one_another(module):
    shared = SIBLINGS.get(package(module))
    if shared is None or module == package(module) or module.split(".")[2] in shared:
        return
    for other in imports(module):
        if other.startswith(package(module) + "."):
            assert other.split(".")[2] in shared, f"{module} imports its sibling {other}"


@pytest.mark.parametrize("module", modules())
def test_vendor_libraries_stay_at_the_edge(module):
    edge = module.startswith(("bot.inbound", "bot.outbound")) or module == "bot.settings"
    for other in imports(module):
        top = other.split(".")[0]
        if top == "bot" or top in sys.stdlib_module_names or top in EVERYWHERE:
            continue
        assert top in AT_THE_EDGE, f"{module} imports {top}, which this test does not know: decide where it may stand"
        assert edge, f"{module} imports {top}: vendor libraries belong to inbound/ and outbound/"


@pytest.mark.parametrize("module", modules())
def test_the_bot_never_imports_the_sandbox(module):
    assert not [m for m in imports(module) if m.split(".")[0] in ("sandbox", "tests")]


@pytest.mark.parametrize("module", [m for m in modules() if path_of(m).read_text().strip()])
def test_every_module_says_why_it_exists(module):
    assert ast.get_docstring(ast.parse(path_of(module).read_text())), f"{module} has no docstring"


def needs_a_mirror(file: Path) -> bool:
    """Modules with behaviour. Values and Protocols alone have nothing to test."""
    tree = ast.parse(file.read_text())
    defined = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    protocols = {
        f
        for c in ast.walk(tree)
        if isinstance(c, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in c.bases)
        for f in ast.walk(c)
    }
    return any(f not in protocols for f in defined)


@cache
def mirrors() -> list[str]:
    """Where the tests of each module with behaviour belong: bot/x/y.py -> tests/x/test_y.py, and sandbox/ likewise."""
    found = []
    for top, tests in ((BOT, TESTS), (ROOT / "sandbox", TESTS / "sandbox")):
        for file in sorted(top.rglob("*.py")):
            if needs_a_mirror(file):
                relative = file.relative_to(top)
                name = "test_*.py" if file.name == "__init__.py" else f"test_{file.stem.strip('_')}.py"
                found.append(str((tests / relative.parent / name).relative_to(ROOT)))
    return found


@pytest.mark.parametrize("mirror", mirrors())
def test_every_module_has_its_mirrored_test(mirror):
    there = any(ROOT.glob(mirror))
    assert there or mirror in PLAYED_WHOLE, f"no {mirror}: write it, or say in PLAYED_WHOLE what plays the module"


def test_what_is_only_played_whole_is_so_still():
    """An exception that is none any more goes."""
    for mirror, player in PLAYED_WHOLE.items():
        assert mirror in mirrors() and not (ROOT / mirror).exists(), f"{mirror} needs no exception"
        assert plays(player), f"{player} does not exist, so nothing plays {mirror}"


def plays(player: str) -> bool:
    target = player.removeprefix("make ")
    return f"\n{target}: " in (ROOT / "Makefile").read_text() if target != player else any(ROOT.glob(player))


@pytest.mark.parametrize("runbook", sorted((ROOT / "runbooks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_runbook_has_its_cases(runbook):
    assert (ROOT / "tests" / "runbooks" / runbook.name).exists()
