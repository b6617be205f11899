"""One request to the Kubernetes API server: raw JSON through the official client's transport.

The client's typed methods validate answers after a write has happened, repeat reads that hang, and wait for ever.
Here every request has a deadline, is sent once, and fails with a SourceError that says what to do.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration

from bot.outbound.bounded import TooLong, TooSlow, gather
from bot.ports import ConflictError, SourceError

SOURCE = "Kubernetes"
CONNECT_SECONDS = 2.0
PAGE_SIZE = 500
# A page of 500 pods with their managedFields is 5 to 10 MB.
BODY_LIMIT_BYTES = 64 * 1024 * 1024

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_FORBIDDEN = re.compile(r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"')

Query = Sequence[tuple[str, str]]


def name(value: str) -> str:
    """`value`, fit to stand in a path: a DNS-1123 name. A label of an alert must not choose another path."""
    if not _NAME.fullmatch(value):
        raise SourceError(SOURCE, f"{value!r} is not a name that Kubernetes allows, so it was not asked for")
    return value


def in_cluster_url(environment: Mapping[str, str]) -> str:
    """The API server's address as the kubelet tells every pod: needs no DNS, which may be what is broken."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        hint = "Set VLLM_ONCALL_KUBERNETES__URL, with its TOKEN_FILE and CA_FILE."
        raise SourceError(SOURCE, "has no address: this is not a pod (no KUBERNETES_SERVICE_HOST).", hint)
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        """Empty if it is not a JSON object."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def message(self) -> str:
        """The API server's own words."""
        text = str(self.said.get("message") or "") or self.body[:1000].decode(errors="replace")
        return " ".join(text.split())[:500] or "(an empty answer)"

    @property
    def is_conflict(self) -> bool:
        """A JSON Patch whose `test` failed is told as an invalid object is, except that no field is blamed."""
        causes = (self.said.get("details") or {}).get("causes")
        return self.status == 409 or (self.status == 422 and not causes)


class KubernetesHttp:
    """As the ServiceAccount whose token is in `token_file`. Used by all threads at once."""

    def __init__(
        self,
        url: str,
        *,
        token_file: Path,
        ca_file: Path,
        timeout_seconds: float,
        threads: int = 32,
        page_size: int = PAGE_SIZE,
    ) -> None:
        configuration = Configuration(host=url.rstrip("/"), ssl_ca_cert=str(ca_file) if ca_file.exists() else None)
        configuration.retries = False  # None would ask four times, and four times as long
        configuration.connection_pool_maxsize = threads
        self._api = ApiClient(configuration)
        self._api.user_agent = "vllm-oncall"  # how an audit log names the program, beside its ServiceAccount
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout_seconds = timeout_seconds
        self._page_size = page_size

    def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        """The object; SourceError if there is none."""
        return self._json(self._ask("GET", path, query))

    def find(self, path: str) -> dict[str, Any] | None:
        """The object, or None if the API server says that it does not exist."""
        reply = self._send("GET", path)
        return None if reply.status == 404 else self._json(self.checked(reply, "GET", path))

    def items(self, path: str, query: Query = ()) -> Iterator[dict[str, Any]]:
        """All of a list, page by page."""
        more = ""
        while True:
            page = self.get(path, [*query, ("limit", str(self._page_size)), *([("continue", more)] if more else [])])
            yield from page.get("items") or ()
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return

    def text(self, path: str, query: Query = ()) -> str:
        return self._ask("GET", path, query, accept="*/*").body.decode(errors="replace")

    def patch_json(self, path: str, operations: Sequence[Mapping[str, Any]], query: Query = ()) -> dict[str, Any]:
        """A JSON Patch. ConflictError if one of its `test`s failed. After a timeout it may have happened all the same:
        look before trying again."""
        return self._json(self._ask("PATCH", path, query, list(operations), "application/json-patch+json"))

    def send(self, method: str, path: str, body: Mapping[str, Any], query: Query = ()) -> Reply:
        """Unjudged, for requests whose refusal is an answer, too; `checked` judges the rest."""
        return self._send(method, path, query, dict(body), "application/json")

    def _ask(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Any = None,
        content_type: str | None = None,
        accept: str = "application/json",
    ) -> Reply:
        return self.checked(self._send(method, path, query, body, content_type, accept), method, path)

    def _send(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Any = None,
        content_type: str | None = None,
        accept: str = "application/json",
    ) -> Reply:
        headers = {"Accept": accept, "Authorization": f"Bearer {self._token()}"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        request = self._api.param_serialize(
            method=method, resource_path=path, query_params=list(query), header_params=headers, body=body
        )
        seconds = self._timeout_seconds
        deadline = time.monotonic() + seconds
        timeouts = (min(CONNECT_SECONDS, seconds), seconds)
        try:
            answer = self._api.call_api(*request, _request_timeout=timeouts).response
            with answer:
                text = gather(answer, deadline=deadline, limit_bytes=BODY_LIMIT_BYTES)
                return Reply(answer.status, text)
        except (urllib3.exceptions.HTTPError, ApiException, TooSlow, TooLong, OSError) as error:
            self._unanswered(error, method, path)

    def _token(self) -> str:
        """Read for every request: the kubelet replaces the file long before the token in it expires."""
        try:
            return self._token_file.read_text().strip()
        except OSError as error:
            hint = "Does the pod have a ServiceAccount (automountServiceAccountToken)?"
            raise SourceError(SOURCE, f"no token to ask with: {self._token_file}: {error.strerror}", hint) from error

    def _json(self, reply: Reply) -> dict[str, Any]:
        found = reply.said
        if not found:
            why = f"{self._url} answered {reply.status} with something other than an object: {reply.message}"
            raise SourceError(SOURCE, why, "Is that the API server? Check VLLM_ONCALL_KUBERNETES__URL.")
        return found

    def checked(self, reply: Reply, method: str, path: str) -> Reply:
        if 200 <= reply.status < 300:
            return reply
        what = f"{method} {path}"
        if reply.status == 401:
            hint = f"Has the token in {self._token_file} expired, or is it of another cluster?"
            raise SourceError(SOURCE, f"does not know who asks ({what}: {reply.message})", hint)
        if reply.status == 403:
            raise SourceError(SOURCE, *_forbidden(reply.message))
        if reply.is_conflict:
            raise ConflictError(SOURCE, f"it has changed meanwhile ({what}: {reply.message})", "Look again.")
        retryable = reply.status in (410, 429, 500, 502, 503, 504)
        raise SourceError(SOURCE, f"{what} answered {reply.status}: {reply.message}", retryable=retryable)

    def _unanswered(self, error: Exception, method: str, path: str) -> NoReturn:
        what = f"{method} {path}"
        maybe = "" if method == "GET" else " It may have happened all the same: look before trying again."
        if isinstance(error, urllib3.exceptions.ConnectTimeoutError | urllib3.exceptions.NewConnectionError):
            hint = "Is the API server up? Check VLLM_ONCALL_KUBERNETES__URL."
            raise SourceError(SOURCE, f"cannot be reached at {self._url} ({error})", hint, retryable=True) from error
        if isinstance(error, TooLong):
            raise SourceError(SOURCE, f"{what}: {error}") from error
        if isinstance(error, ApiException):  # how the client tells of a TLS error, and of nothing else
            why = f"no trusted TLS connection to {self._url}: {error.reason}"
            raise SourceError(SOURCE, why, f"Is {self._ca_file} this cluster's CA?") from error
        if isinstance(error, urllib3.exceptions.TimeoutError | TooSlow):
            why = f"did not answer within {self._timeout_seconds:g} s ({what}).{maybe}"
            raise SourceError(SOURCE, why, "Is the API server up, and not overloaded?", retryable=True) from error
        why = f"the connection to {self._url} broke ({what}: {error}).{maybe}"
        raise SourceError(SOURCE, why, retryable=True) from error


def _forbidden(message: str) -> tuple[str, str]:
    """Why and hint: which verb on which resource is missing in whose role."""
    found = _FORBIDDEN.search(message)
    if found is None:
        return f"refused: {message}", "A quota or an admission webhook says no."
    user, verb, resource = found["user"], found["verb"], found["resource"]
    namespace = re.search(r'in the namespace "([^"]+)"', message)
    where = f" -n {namespace[1]}" if namespace else ""
    why = f"the role of {user} does not allow `{verb}` on `{resource}`"
    why += f" in namespace {namespace[1]}" if namespace else ""
    return why, f"Compare the role with deploy/, then: kubectl auth can-i {verb} {resource}{where} --as={user}"
