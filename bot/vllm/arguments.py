"""What a pod gives to `vllm serve`, read by vLLM's own rules from the shapes in which people write it.

`--gpu_memory_utilization 0.9`, `--gpu-memory-utilization=0.9` and `--gpu-mem 0.9` are one option; the last one wins.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.ports import Container

_SHELLS = {"sh", "bash", "ash", "dash"}
_SERVER_MODULE = "vllm.entrypoints.openai.api_server"
_SHORT = {
    "tp": "tensor-parallel-size",
    "pp": "pipeline-parallel-size",
    "pcp": "prefill-context-parallel-size",
    "dcp": "decode-context-parallel-size",
    "dp": "data-parallel-size",
    "dpn": "data-parallel-rank",
    "dpr": "data-parallel-start-rank",
    "dpl": "data-parallel-size-local",
    "dpa": "data-parallel-address",
    "dpp": "data-parallel-rpc-port",
    "dpb": "data-parallel-backend",
    "dph": "data-parallel-hybrid-lb",
    "dpe": "data-parallel-external-lb",
    "ep": "enable-expert-parallel",
    "q": "quantization",
    "cc": "compilation-config",
    "sc": "speculative-config",
    "ac": "attention-config",
    "asc": "api-server-count",
    "n": "nnodes",
    "r": "node-rank",
    "O": "optimization-level",
}
_ALIASES = {"device-memory-utilization": "gpu-memory-utilization"}  # since 0.31
# argparse takes any unambiguous beginning of a name, so the names must be known.
_NAMES = (
    "api-server-count", "block-size", "chat-template", "compilation-config", "config", "cpu-offload-gb",
    "data-parallel-address", "data-parallel-backend", "data-parallel-rank", "data-parallel-rpc-port",
    "data-parallel-size", "data-parallel-size-local", "data-parallel-start-rank", "decode-context-parallel-size",
    "disable-log-requests", "disable-log-stats", "dtype", "enable-chunked-prefill",
    "enable-expert-parallel", "enable-log-requests", "enable-prefix-caching", "enforce-eager",
    "gpu-memory-utilization", "host", "kv-cache-dtype", "kv-cache-memory-bytes", "kv-offloading-backend",
    "kv-offloading-size", "kv-transfer-config", "load-format", "long-prefill-token-threshold",
    "max-logprobs", "max-model-len", "max-num-active-seqs", "max-num-batched-tokens", "max-num-queued-reqs",
    "max-num-queued-tokens", "max-num-seqs", "model", "num-gpu-blocks-override", "pipeline-parallel-size", "port",
    "quantization", "revision", "served-model-name", "shutdown-timeout", "speculative-config", "swap-space",
    "tensor-parallel-size", "tokenizer", "trust-remote-code",
)  # fmt: skip
_SWITCHES = re.compile(
    r"(enable|disable|no|skip|use)-.*|trust-remote-code|enforce-eager|async-scheduling|headless"
    r"|data-parallel-(hybrid|external)-lb"
)
_MANY_VALUES = {"served-model-name", "lora-modules", "middleware", "allowed-origins"}
_ALL_COUNT = {"lora-modules"}  # of the others the first one is what tells
# The longest first: `-dpl 4` is no `-dp l`. What follows without a `=` begins as a number or as JSON does.
_SHORT_FORM = re.compile(rf"-({'|'.join(sorted(_SHORT, key=len, reverse=True))})(?:=(.+)|([\d{{].*))?")
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_VARIABLE = re.compile(
    r"\$(?:\((?P<kubelet>\w+)\)|\{(?P<braced>\w+)(?P<otherwise>:?-(?P<default>[^{}]*))?\}|(?P<bare>\w+))"
)
_COMPUTED = re.compile(r"\$[({\d#?!]|`")  # what only a shell could tell: `$(nproc)`, `${A%b}`, `$1`


@dataclass(frozen=True, slots=True)
class Arguments:
    """given: option (dashes, none in front) to its last value; switches are "true" or "false".

    hidden: why there may be more than `given` tells, in words; what is not in `given` is then not known.
    config: the path of a --config file that is loaded, and was not given to be read along.
    """

    given: Mapping[str, str]
    model: str | None
    hidden: str | None = None
    config: str | None = None

    def number(self, option: str) -> int | None:
        """None if it is not given, or not a number (`--max-model-len auto`)."""
        return None if (text := self.given.get(option)) is None else count(text)

    def ratio(self, option: str) -> float | None:
        try:
            return float(self.given[option])
        except (KeyError, ValueError):
            return None

    def switch(self, option: str) -> bool | None:
        return {"true": True, "false": False}.get(self.given.get(option, "").lower())


def serving_container(containers: Sequence[Container]) -> Container | None:
    """The one that runs vLLM among a pod's; sidecars listen before it, but have no GPU and do not name it."""

    def mark(container: Container) -> int:
        started = any("vllm" in word for word in (*container.command, *container.args))
        return 4 * (container.gpus > 0) + 2 * started + ("vllm" in container.image)

    best = max(containers, key=mark, default=None)
    return best if best is not None and mark(best) > 0 else None


def arguments_of(container: Container, config: Sequence[str] | None = None) -> Arguments:
    """config: the words of its --config file (`config_file.options_of`); those of the command line go before them."""
    words, hidden = _words(container.command, container.args, container.env)
    given, model, file = _read(words)
    if file is not None and config is None:
        return Arguments(given, model, hidden or "a --config file holds more options", file)
    if file is not None and config is not None:
        earlier, model_of_file, _ = _read(config)
        given, model = {**earlier, **given}, model or model_of_file
    return Arguments(given, model, hidden)


def count(text: str) -> int | None:
    """`4096`, `4k` (thousand), `4K` (1024): as vLLM reads counts. None for `auto`, and for what is no number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", text.strip())
    if match is None:
        return None
    units = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20, "g": 10**9, "G": 2**30}
    return int(float(match[1]) * units[match[2]])


# ------------------------------------------------------------------------------- which words vLLM gets


def _words(command: Sequence[str], args: Sequence[str], env: Mapping[str, str | None]) -> tuple[list[str], str | None]:
    """The words after `vllm serve`, the server module, or the image's entry point; and what hides some of them."""
    seen = _Seen(env)
    words = [seen.kubelet(word) for word in (*command, *args)]
    if (script := _script(words)) is not None:
        text, positional = script
        words = _script_words(text, positional, seen)
    start = _start(words)
    if start is None and command:
        seen.hide(f"it is started by {command[0]}, which may add options")
        return words[1:], seen.hidden
    return words[start or 0 :], seen.hidden


def _start(words: Sequence[str]) -> int | None:
    """Where vLLM's own words begin."""
    for index, word in enumerate(words):
        named = index == 0 or words[index - 1].rsplit("/", 1)[-1] == "vllm"
        if word == _SERVER_MODULE or (word == "serve" and named):
            return index + 1
    return None


def _script(words: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """(script, its positional parameters) of `sh -c script name parameters…`."""
    if len(words) < 3 or words[0].rsplit("/", 1)[-1] not in _SHELLS:
        return None
    for index, word in enumerate(words[1:], start=1):
        if re.fullmatch(r"-[a-z]*c", word) and index + 1 < len(words):
            return words[index + 1], words[index + 3 :]
        if not word.startswith("-"):
            return None
    return None


def _script_words(script: str, positional: Sequence[str], seen: "_Seen") -> list[str]:
    """The words of the script's one command that starts vLLM."""
    try:
        lexer = shlex.shlex(script.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError:
        seen.hide("its shell script could not be read")
        return []
    commands: list[list[str]] = [[]]
    for token in tokens:
        if token and set(token) <= set(";&|"):
            commands.append([])
        else:
            commands[-1].append(token)
    for command in commands:
        if _start(command) is not None or any(" " in word and "vllm" in word for word in command):
            return [word for token in command for word in _expanded(token, positional, seen)]
    seen.hide("its shell script does not run vllm serve itself")
    return []


def _expanded(token: str, positional: Sequence[str], seen: "_Seen") -> list[str]:
    if token in ("$@", "$*"):
        return list(positional)
    if " " in token and "vllm" in token:  # eval "exec vllm serve … $@"
        return _script_words(token, positional, seen)
    if "$" not in token and "`" not in token:
        return [token]
    text = seen.shell(token)
    if _COMPUTED.search(text):
        seen.hide(f"its shell script computes {token}")
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


class _Seen:
    """Expands variables from what the pod spec tells, and remembers what it could not see."""

    def __init__(self, env: Mapping[str, str | None]) -> None:
        self._env = env
        self.hidden: str | None = None

    def hide(self, why: str) -> None:
        self.hidden = self.hidden or why

    def kubelet(self, word: str) -> str:
        """`$(VAR)` stays as it is when no such variable is set."""
        return _VARIABLE.sub(lambda match: self._value(match) if match["kubelet"] else match[0], word)

    def shell(self, word: str) -> str:
        """`$VAR` and `${VAR}` become empty when no such variable is set in the pod spec, `${VAR:-x}` becomes x; the
        image may set it."""
        return _VARIABLE.sub(lambda match: match[0] if match["kubelet"] else self._value(match), word)

    def _value(self, match: re.Match[str]) -> str:
        name = match["kubelet"] or match["braced"] or match["bare"]
        value = self._env.get(name, "" if match["kubelet"] is None else match[0])
        if value is None:
            self.hide(f"${name} comes from a Secret or ConfigMap")
            return ""
        if name not in self._env and match["kubelet"] is None:
            self.hide(f"${name} is not set in the pod spec")
        unset = name not in self._env or (not value and (match["otherwise"] or "").startswith(":"))
        return match["default"] if match["otherwise"] and unset else value


# ------------------------------------------------------------------------------- what the words say


def _read(words: Sequence[str]) -> tuple[dict[str, str], str | None, str | None]:
    """(options, model, the --config file that is loaded)."""
    given: dict[str, str] = {}
    model: str | None = None
    file: str | None = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            continue  # KServe hands its arguments over behind one
        if not _is_option(word):
            model = model or word
            continue
        name, value = _option(word)
        if value is None:
            value = _values(name, rest)
            if name == "config":
                # vLLM loads the file only when it is a word of its own; `--config=file` passes unread.
                file = value
        if name != "config":
            name, value = _meant(name, value)
            given[name] = value
    return given, given.get("model") or model, file


def _is_option(word: str) -> bool:
    return word.startswith("--") or (word.startswith("-") and not _NUMBER.fullmatch(word) and len(word) > 1)


def _option(word: str) -> tuple[str, str | None]:
    """(name, the value in the same word)."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        head, dot, tail = name.partition(".")
        full = _full(head.replace("_", "-"))
        return full + dot + tail, value if equals else None
    if match := _SHORT_FORM.fullmatch(word):
        return _SHORT[match[1]], match[2] or match[3]
    return word.lstrip("-"), None


def _full(name: str) -> str:
    """argparse's abbreviations: a beginning that fits one name only. `--no-x` is a name of its own there."""
    negated = name.startswith("no-")
    stem = name.removeprefix("no-")
    if stem not in _NAMES and stem not in _ALIASES:
        longer = [known for known in (*_NAMES, *_ALIASES) if known.startswith(stem)]
        stem = longer[0] if len(longer) == 1 else stem
    stem = _ALIASES.get(stem, stem)
    return f"no-{stem}" if negated else stem


def _values(name: str, rest: list[str]) -> str:
    """Takes the option's value from the words that follow; a switch has none."""
    if not rest or _is_option(rest[0]):
        return "true"
    if _SWITCHES.fullmatch(name):
        # Up to 0.8 switches took `True`; later such a word would be refused, and the pod not be there to be read.
        return rest.pop(0).lower() if rest[0].lower() in ("true", "false") else "true"
    value = rest.pop(0)
    while name in _MANY_VALUES and rest and not _is_option(rest[0]):
        more = rest.pop(0)
        value = f"{value} {more}" if name in _ALL_COUNT else value
    return value


def _meant(name: str, value: str) -> tuple[str, str]:
    """`--no-enable-x`, and since 0.33 `--disable-x`, say `enable-x` is off."""
    flipped = {"true": "false", "false": "true"}
    if name.startswith("no-"):
        return name.removeprefix("no-"), flipped.get(value.lower(), value)
    opposite = "enable-" + name.removeprefix("disable-")
    if name.startswith("disable-") and opposite in _NAMES:
        return opposite, flipped.get(value.lower(), value)
    return name, value.lower() if _SWITCHES.fullmatch(name) else value
