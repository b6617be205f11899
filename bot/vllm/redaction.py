"""Takes secrets, and what users wrote, out of text that leaves for Slack: log lines, events, answers of servers.

vLLM prints its own arguments at the start, `--api-key` among them, and with request logging on every prompt.
"""

import re

GONE = "[redacted]"

# Words after which a value is secret, however they are joined: HF_TOKEN=…, "api_key": ['…'], --api-key …
_NAMES = r"[\w-]*(?:api[_-]?key|token|secret|passw(?:or)?d|credential|private[_-]?key|access[_-]?key)s?"
# `max_tokens=1024` and `tokenizer='x'` are no secrets: these end, or go on, otherwise.
_HARMLESS = (
    r"(?!\w*(?:max|num|min|prompt|output|input|generation|batched|completion|total|cached|new|draft|scheduled)[_-]?\w*)"
)
_QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_VALUE = rf"\[[^\]]*\]|{_QUOTED}"
_BARE = r"[^\s,;&})'\"\[]+"
_SIGNED_URL = r"x-amz-signature|x-amz-credential|x-amz-security-token|sig|signature"

# What goes before the secret stays, as group 1.
_RULES = tuple(
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (
        r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"\b(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)?\s*)[^\s'\",}]+",
        r"\b(bearer\s+)[\w.~+/=-]{8,}",
        r"\b(https?://)[^\s/@:]+:[^\s/@]+(?=@)",
        r"()\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON web tokens
        r"()\bhf_[a-z0-9]{16,}",
        r"()\b(?:sk|pk|rk)-[\w-]{16,}",
        r"()\bnvapi-[\w-]{16,}",
        r"()\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})",
        r"()\b(?:xox[a-z]|xapp)-[\w-]{8,}",
        r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"()\bAIza[\w-]{30,}",
        rf"([?&](?:{_SIGNED_URL})=)[^&\s'\"]+",
        rf"(?<![\w-])({_HARMLESS}{_NAMES}['\"]?\s*[:=]\s*)(?:{_VALUE}|{_BARE})",
        rf"(--{_HARMLESS}{_NAMES}\s+)(?!-)(?:{_QUOTED}|\S+)",
        # What users wrote.
        rf"\b(prompt\s*[:=]\s*)(?:{_QUOTED})",
        r"\b(prompt_token_ids\s*[:=]\s*)\[[^\]]*\]?",
        rf"(['\"](?:content|messages|input)['\"]\s*:\s*)(?:{_VALUE})",
    )
)


def redact(text: str) -> str:
    for rule in _RULES:
        text = rule.sub(rf"\1{GONE}", text)
    return text
