"""One question to an HTTP API that answers in JSON, for the outside systems that `requests` reaches.

Every way in which it can fail becomes a SourceError that names the system, the address and what to look at.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from bot.outbound.bounded import TooLong, TooSlow, gather
from bot.ports import SourceError

# A range query over a big fleet is some megabytes; more is a mistake in the query.
BODY_LIMIT_BYTES = 32 * 1024 * 1024
CONNECT_SECONDS = 2.0


# A refused connection is tried once more (a pod being replaced); a question that was heard never is: it costs the
# other side the same again, when it is slow already.
RETRY = Retry(total=1, connect=1, read=False, redirect=0, status=0, other=0, backoff_factor=0.2)


def session(threads: int) -> requests.Session:
    """For `threads` callers at once; requests' own pool keeps ten connections and throws the rest away."""
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, HTTPAdapter(max_retries=RETRY, pool_maxsize=threads))
    return made


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """Raises ValueError if it is none."""
        return json.loads(self.body)

    @property
    def is_json(self) -> bool:
        return "json" in self.headers.get("Content-Type", "")


@dataclass(frozen=True)
class JsonHttp:
    """`setting` is named in hints: where somebody would correct the address."""

    source: str
    url: str
    setting: str
    timeout_seconds: float
    session: requests.Session
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        form: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        """The answer, whatever its status; SourceError if there was none."""
        address = self.url.rstrip("/") + path
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with self.session.request(
                method,
                address,
                params=list(query),
                data=form,
                json=body,
                headers=dict(self.headers),
                timeout=(min(CONNECT_SECONDS, self.timeout_seconds), self.timeout_seconds),
                allow_redirects=False,  # a redirected POST loses its body, and a token must not travel elsewhere
                stream=True,
            ) as answer:
                text = gather(answer.raw, deadline=deadline, limit_bytes=BODY_LIMIT_BYTES)
                return self._judged(Reply(answer.status_code, text, answer.headers))
        except requests.ConnectTimeout as error:
            why = f"cannot be reached: no connection to {self.url} within {CONNECT_SECONDS:g} s"
            raise self.error(why, f"Is it up? {self._check_url()}", retryable=True) from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TooSlow) as error:
            raise self._slow() from error
        except TooLong as error:
            raise self.error(f"{path}: {error}", "Narrow the query: add labels, or aggregate.") from error
        except requests.exceptions.SSLError as error:
            raise self.error(f"no trusted TLS connection to {self.url}: {error}", self._check_url()) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            why = f"cannot be reached at {self.url} ({_root(error)})"
            raise self.error(why, f"Is it up? {self._check_url()}", retryable=True) from error

    def json(self, method: str, path: str, **question: Any) -> Any:
        """The JSON of a 200; SourceError for every other answer."""
        reply = self.ask(method, path, **question)
        if reply.status != 200:
            raise self.refused(path, reply)
        return self.parsed(path, reply)

    def parsed(self, path: str, reply: Reply) -> Any:
        try:
            return reply.json()
        except ValueError as error:
            why = f"{self.url}{path} answered {reply.status} with something other than JSON: {_excerpt(reply.body)}"
            raise self.error(why, f"Is there another server at that address? {self._check_url()}") from error

    def refused(self, path: str, reply: Reply, why: str = "") -> SourceError:
        hint = "Is its token right, and may it read?" if reply.status in (401, 403) else ""
        retryable = reply.status in (429, 500, 502, 503, 504)
        return self.error(f"{path} answered {reply.status}: {why or _excerpt(reply.body)}", hint, retryable=retryable)

    def error(self, why: str, hint: str = "", *, retryable: bool = False) -> SourceError:
        return SourceError(self.source, why, hint, retryable=retryable)

    def _judged(self, reply: Reply) -> Reply:
        if 300 <= reply.status < 400:
            to = reply.headers.get("Location", "elsewhere")
            raise self.error(f"{self.url} redirects to {to}", f"Set {self.setting} to the address it answers at.")
        return reply

    def _slow(self) -> SourceError:
        why = f"did not answer within {self.timeout_seconds:g} s ({self.url})"
        return self.error(why, "Is it up, and not overloaded?", retryable=True)

    def _check_url(self) -> str:
        return f"Check {self.setting}."


def _root(error: BaseException) -> str:
    """The system's own words ("Connection refused"), without the libraries' wrapping."""
    seen: BaseException = error
    while inner := seen.__cause__ or seen.__context__:
        seen = inner
    return str(seen)


def _excerpt(body: bytes, length: int = 200) -> str:
    text = " ".join(body[: length * 4].decode(errors="replace").split())
    return text[:length] or "(an empty body)"
