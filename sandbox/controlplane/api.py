"""The administrator's way into the API server for the sandbox itself: plain objects over HTTPS, nothing cached."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

_SECONDS = 30


class ApiError(RuntimeError):
    """The API server refused. `status` is the HTTP code, `reason` its word ("NotFound", "Conflict")."""

    def __init__(self, method: str, path: str, answer: requests.Response) -> None:
        try:
            body = answer.json()
        except ValueError:
            body = {"message": answer.text[:300]}
        self.status = answer.status_code
        self.reason = str(body.get("reason", ""))
        super().__init__(f"{method} {path}: {answer.status_code} {body.get('message', '')}")


class Api:
    """As the user of a client certificate. Paths start with /api or /apis."""

    def __init__(self, url: str, ca: Path, certificate: tuple[Path, Path]) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and loopback
        self._session.verify = str(ca)
        self._session.cert = (str(certificate[0]), str(certificate[1]))
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._call("GET", path, query)

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(path, **query)["items"]
        return found

    def find(self, path: str) -> dict[str, Any] | None:
        """None if it does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", self._path(manifest).rpartition("/")[0], {}, manifest)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """To a subresource: token, eviction, binding."""
        return self._call("POST", path, {}, body)

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply: create it, or make it so."""
        query = {"fieldManager": "sandbox", "force": "true"}
        return self._call("PATCH", self._path(manifest), query, manifest, "application/apply-patch+yaml")

    def patch(self, path: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """A strategic merge patch; the path may end in a subresource (…/status)."""
        return self._call("PATCH", path, {}, change, "application/strategic-merge-patch+json")

    def delete(self, path: str) -> None:
        """Ends well too if it does not exist."""
        try:
            self._call("DELETE", path, {})
        except ApiError as error:
            if error.status != 404:
                raise

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        answer = self._session.request(
            method,
            self._url + path,
            params=dict(query),
            json=body,
            headers={"Content-Type": content_type} if body is not None else {},
            timeout=_SECONDS,
        )
        if not answer.ok:
            raise ApiError(method, path, answer)
        result: dict[str, Any] = answer.json()
        return result

    def _path(self, manifest: Mapping[str, Any]) -> str:
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if kind not in self._plurals.get(version, {}):
            self._plurals[version] = {
                resource["kind"]: (resource["name"], resource["namespaced"])
                for resource in self.get(root)["resources"]
                if "/" not in resource["name"]
            }
        plural, namespaced = self._plurals[version][kind]
        scope = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{scope}/{plural}/{metadata['name']}"
