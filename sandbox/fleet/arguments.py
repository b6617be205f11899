"""The arguments a pod's container really gives to `vllm serve`, in the shapes people write them.

Written apart from the bot's own reader on purpose: a mistake there must not look right because it is repeated here.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHELLS = {"sh", "bash", "ash", "dash"}
SHORT = {"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size", "q": "quantization"}
# The names the fleet acts upon; argparse takes any unambiguous beginning of a name, so they must be known.
KNOWN = (
    "api-key",
    "block-size",
    "dtype",
    "enable-chunked-prefill",
    "enable-prefix-caching",
    "gpu-memory-utilization",
    "kv-cache-dtype",
    "kv-cache-memory-bytes",
    "long-prefill-token-threshold",
    "max-model-len",
    "max-num-batched-tokens",
    "max-num-queued-reqs",
    "max-num-queued-tokens",
    "max-num-seqs",
    "model",
    "num-gpu-blocks-override",
    "pipeline-parallel-size",
    "port",
    "quantization",
    "served-model-name",
    "tensor-parallel-size",
)
SWITCHES = re.compile(r"^(no-|enable-|disable-|trust-remote-code$|enforce-eager$|async-scheduling$|skip-)")
_VARIABLE = re.compile(r"\$(?:\((\w+)\)|\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Arguments:
    """Option name (dashes, no leading ones) to its last value; switches are "true" or "false"."""

    model: str | None
    options: Mapping[str, str]

    def get(self, name: str) -> str | None:
        return self.options.get(name)


def arguments(command: Sequence[str], args: Sequence[str], env: Mapping[str, str]) -> Arguments:
    """What vLLM would read. Shells, `$(VAR)`, `$VAR`, and options repeated or spelt with underscores are understood."""
    return _read(_vllm_words(command, args, env))


def _vllm_words(command: Sequence[str], args: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The words after `vllm serve` (or the server module, or the image's entry point)."""
    words = [_expand(word, env, only_parentheses=True) for word in [*command, *args]]
    if len(words) >= 3 and words[0].rsplit("/", 1)[-1] in SHELLS and words[1].startswith("-") and "c" in words[1]:
        words = _script_words(words[2], words[4:], env)
    for index, word in enumerate(words):
        if word == "serve" and index and words[index - 1].rsplit("/", 1)[-1] == "vllm":
            return words[index + 1 :]
        if word == "vllm.entrypoints.openai.api_server":
            return words[index + 1 :]
    return words


def _script_words(script: str, positional: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The words of the one command of a shell script that starts vLLM."""
    lexer = shlex.shlex(script.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|"):
            commands.append([])
        else:
            commands[-1].append(word)
    for words in commands:
        if any("vllm" in word for word in words):
            expanded: list[str] = []
            for word in words:
                if word in ("$@", "$*"):
                    expanded += positional
                elif " " in word and "vllm" in word:  # eval "exec vllm serve … $@"
                    expanded += _script_words(word, positional, env)
                else:
                    expanded += _expand(word, env).split() if "$" in word else [word]
            return expanded
    return []


def _expand(word: str, env: Mapping[str, str], *, only_parentheses: bool = False) -> str:
    """`$(VAR)` is the kubelet's and stays as it is when unknown; `$VAR` is the shell's and becomes empty."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        if match[1] is not None:
            return env.get(name, match[0])
        return match[0] if only_parentheses else env.get(name, "")

    return _VARIABLE.sub(value, word)


def _read(words: Sequence[str]) -> Arguments:
    options: dict[str, str] = {}
    model: str | None = None
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        name, value = _option(word)
        if name is None:
            model = model or word
            continue
        if value is None and not SWITCHES.match(name) and index < len(words) and not _is_option(words[index]):
            value = words[index]
            index += 1
            if name == "served-model-name":  # takes several names, of which the first is the metrics' label
                while index < len(words) and not _is_option(words[index]):
                    index += 1
        if value is None and name.startswith("no-"):
            name, value = name.removeprefix("no-"), "false"
        options[_full(name)] = "true" if value is None else value
    return Arguments(options.get("model") or model, options)


def _is_option(word: str) -> bool:
    return word.startswith("--") or bool(re.match(r"^-[a-zA-Z]", word))


def _option(word: str) -> tuple[str | None, str | None]:
    """(name, value given in the same word). (None, None) for what is no option."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return name.replace("_", "-"), value if equals else None
    if match := re.match(r"^-(tp|pp|dp|q)(?:=?(.+))?$", word):
        return SHORT[match[1]], match[2]
    return (word.lstrip("-"), None) if _is_option(word) else (None, None)


def _full(name: str) -> str:
    if name in KNOWN:
        return name
    longer = [known for known in KNOWN if known.startswith(name)]
    return longer[0] if len(longer) == 1 else name


def number(text: str) -> int:
    """`4096`, `4k` (thousand) or `4K` (1024), as vLLM reads counts. Raises ValueError."""
    units = {"k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20, "g": 10**9, "G": 2**30}
    if text and text[-1] in units:
        return int(float(text[:-1]) * units[text[-1]])
    return int(text)
