"""Takes secrets, and what users wrote, out of text that leaves for Slack: log lines, events, answers of servers.

vLLM prints its own arguments at the start, `--api-key` among them, and with request logging on every prompt. A line is
redacted whole and cut afterwards: without its closing quote a prompt cannot be told from the rest.
"""

import re

GONE = "[redacted]"

# Words after which a value is secret, however they are joined: HF_TOKEN=…, "api_key": ['…'], --api-key …
_NAMES = r"[\w-]*(?:api[_-]?key|token|secret|passw(?:or)?d|credential|private[_-]?key|access[_-]?key)s?"
# `max_tokens=1024` and `tokenizer='x'` are no secrets: these end, or go on, otherwise.
_HARMLESS = (
    r"(?!\w*(?:max|num|min|prompt|output|input|generation|batched|completion|total|cached|new|draft|scheduled)[_-]?\w*)"
)
_BARE = r"[^\s,;&})'\"\[]+"
_SIGNED_URL = r"x-amz-signature|x-amz-credential|x-amz-security-token|sig|signature"
# In the text of a text quotes are escaped: "{\"prompt\": \"…\"}".
_QUOTE_HERE = r"\\*['\"]"
_IS = rf"(?:{_QUOTE_HERE})?\s*[:=]\s*"

# What goes before the secret stays, as group 1.
_RULES = tuple(
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (
        r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"\b(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)?\s*)[^\s'\",}]+",
        r"\b(bearer\s+)[\w.~+/=-]{8,}",
        # Of redis, s3, postgresql as of https; a name alone may be a token. To the last @: a password may hold one.
        r"\b([a-z][\w+.-]{0,30}://)[^\s/'\"]+(?=@)",
        r"()\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON web tokens
        r"()\bhf_[a-z0-9]{16,}",
        r"()\b(?:sk|pk|rk)-[\w-]{16,}",
        r"()\bnvapi-[\w-]{16,}",
        r"()\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})",
        r"()\b(?:xox[a-z]|xapp)-[\w-]{8,}",
        r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"()\bAIza[\w-]{30,}",
        rf"([?&](?:{_SIGNED_URL})=)[^&\s'\"]+",
    )
)

# Names whose value goes. It is quoted or in brackets; or else the words of group `bare`, where the name has one.
_VALUES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\w-]){_HARMLESS}{_NAMES}{_IS}(?P<bare>{_BARE})?",
        rf"(?<![\w-]){_HARMLESS}{_NAMES}['\"]?,?\s+['\"]?value{_IS}(?P<bare>{_BARE})?",  # name and value of a variable
        # vLLM takes several keys after one --api-key.
        r"--api[_-]keys?['\"]?,?\s+(?P<bare>(?:(?![-'\"\[|&;#])\S+[ \t]*)+(?<!\s))?",
        rf"--{_HARMLESS}{_NAMES}['\"]?,?\s+(?P<bare>(?![-'\"\[])\S+)?",
        # What users wrote, and what they were answered.
        rf"(?<![\w-])(?!\w*per_prompt)(?:\w+_)?(?:prompts?|text|content|messages|outputs?){_IS}",
        rf"(?<![\w-])(?:\w+_)?token_ids{_IS}",
        rf"['\"](?:inputs?|query|queries|documents|instructions|reasoning|suffix|arguments){_IS}",
    )
)

_QUOTE = re.compile(r"[bru]?(?P<escapes>\\*)(?P<quote>['\"])", re.IGNORECASE)
_REACH = 20_000  # over so many characters brackets may go on in lines to come
_CLOSED_BY = {"[": "]", "{": "}", "(": ")"}
_STRUCTURE = re.compile(r"[\\'\"\[\]{}()\n]")


def redact(text: str) -> str:
    for rule in _RULES:
        text = rule.sub(rf"\1{GONE}", text)
    for name in _VALUES:
        text = _without_values(text, name)
    return text


def _without_values(text: str, name: re.Pattern[str]) -> str:
    told: list[str] = []
    at = 0
    while (match := name.search(text, at)) is not None:
        bare = match["bare"] if "bare" in name.groupindex else None
        start = match.start("bare") if bare else match.end()
        end = match.end("bare") if bare else _end_of_value(text, start)
        told += [text[at:start], GONE] if end > start else [text[at : match.end()]]
        at = max(end, match.end())
    return "".join((*told, text[at:]))


def _end_of_value(text: str, start: int) -> int:
    """Of the value in quotes or brackets that begins there; `start` if none does. One that was cut before its end
    reaches to the end of its line."""
    awaited: list[str] = []
    at, far = start, max(start + _REACH, _end_of_line(text, start))
    while at < min(len(text), far):
        bracket = text[at]
        if (quote := _QUOTE.match(text, at)) is not None:
            after = _after_quote(text, quote)
            if after is None:
                return _end_of_line(text, quote.start())
            at = after
        elif bracket in _CLOSED_BY:
            awaited.append(_CLOSED_BY[bracket])
            at += 1
        elif not awaited or (bracket == "\n" and not _goes_on(text, at)):
            return at
        else:
            if bracket == awaited[-1]:
                awaited.pop()
            at += 1
        if not awaited:
            return at
        at = found.start() if (found := _STRUCTURE.search(text, at)) else len(text)
    return _end_of_line(text, start)


def _goes_on(text: str, newline: int) -> bool:
    """Do brackets stay open there? In text that is laid out such a line ends with a comma or an opening bracket, or the
    next begins with a closing one."""
    before, after = text[max(0, newline - 200) : newline].rstrip()[-1:], text[newline : newline + 200].lstrip()[:1]
    return before in (",", *_CLOSED_BY) or after in _CLOSED_BY.values()


def _after_quote(text: str, opening: re.Match[str]) -> int | None:
    """Where the quoted text ends that begins there; None: not on this line."""
    escapes, end = len(opening["escapes"]), _end_of_line(text, opening.end())
    for closing in re.compile(rf"\\*{opening['quote']}").finditer(text, opening.end(), end):
        # `\"` inside of "…" belongs to what is quoted, and so does `\\\"` inside of \"…\".
        if (closing.end() - closing.start() - 1) % (2 * (escapes + 1)) == escapes:
            return closing.end()
    return None


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
