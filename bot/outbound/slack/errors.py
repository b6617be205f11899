"""Slack's and the network's errors in ours. What matters to the caller: was it refused, may it be tried again, or may
it have had its effect although no answer came?"""

import http.client
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from slack_sdk.errors import SlackApiError, SlackClientError

from bot.ports import GoneError, NoChannelError, SourceError, TooManyError, UnclearError

# Without the header Slack asks for patience of this order.
RETRY_AFTER_SECONDS = 30.0

_GONE = {"message_not_found", "thread_not_found"}
_NO_CHANNEL = {"not_in_channel", "channel_not_found", "is_archived", "user_not_in_channel"}
# Slack could not say whether it did what was asked, or fell over while doing it.
_UNCLEAR = {"fatal_error", "internal_error", "request_timeout", "service_unavailable"}
_TOO_MANY = {"ratelimited", "rate_limited"}

_HINTS = {
    "not_in_channel": "Invite the bot there: /invite @vllm-oncall",
    "channel_not_found": "Is the channel's id right, and is the bot a member? /invite @vllm-oncall",
    "is_archived": "The channel is archived; name another one in fleet.yaml.",
    "invalid_auth": "The bot token is wrong: VLLM_ONCALL_SLACK__BOT_TOKEN.",
    "not_authed": "There is no bot token: VLLM_ONCALL_SLACK__BOT_TOKEN.",
    "token_revoked": "Install the app again, and set VLLM_ONCALL_SLACK__BOT_TOKEN.",
    "account_inactive": "The app was removed from the workspace; install it again.",
    "expired_trigger_id": "Slack gives 3 s between the click and the dialog. Press the button again.",
}


class RefusedError(SourceError):
    """Slack said no; `code` is its word for why."""

    def __init__(self, why: str, hint: str, code: str) -> None:
        super().__init__("Slack", why, hint)
        self.code = code


@contextmanager
def in_our_words(method: str, url: str, *, what: str = "", look_first: bool = False) -> Iterator[None]:
    """`look_first`: the call is not harmless to repeat, so that no answer means UnclearError."""
    doing = f"{method} {what}".strip()
    try:
        yield
    except SlackApiError as error:
        raise _refusal(doing, error, look_first) from error
    except urllib.error.HTTPError as error:
        raise _by_status(doing, error.code, dict(error.headers.items()), "", look_first) from error
    except (TimeoutError, http.client.HTTPException, OSError) as error:
        raise _no_answer(doing, url, error, look_first) from error
    except SlackClientError as error:
        raise SourceError("Slack", f"{doing} failed: {error}", retryable=True) from error


def _refusal(doing: str, error: SlackApiError, look_first: bool) -> SourceError:
    response = error.response
    code = str(response.get("error") or "")
    if response.status_code != 200 or code in _TOO_MANY or code in _UNCLEAR:
        status = 500 if code in _UNCLEAR else 429 if code in _TOO_MANY else response.status_code
        return _by_status(doing, status, dict(response.headers), code, look_first)
    if code in _GONE:
        return GoneError("Slack", f"{doing}: {code}: somebody deleted the message")
    hint = _HINTS.get(code, "")
    if code in _NO_CHANNEL:
        return NoChannelError("Slack", f"refused {doing}: {code}", hint)
    if code == "missing_scope":
        hint = f"Add the scope {response.get('needed')} to the app and install it again."
    details = "; ".join(response.get("response_metadata", {}).get("messages", ())[:3])
    return RefusedError(f"refused {doing}: {code}" + (f" ({details})" if details else ""), hint, code)


def _by_status(doing: str, status: int, headers: Mapping[str, str], code: str, look_first: bool) -> SourceError:
    if status == 429:
        wait = _retry_after(headers)
        return TooManyError(f"wants {wait:g} s of patience before the next {doing}", wait)
    why = f"answered {doing} with {code or f'HTTP {status}'}"
    if status < 500:
        return SourceError("Slack", why)
    kind = UnclearError if look_first else SourceError
    return kind("Slack", why, retryable=True)


def _no_answer(doing: str, url: str, error: Exception, look_first: bool) -> SourceError:
    if isinstance(error, urllib.error.URLError):  # urllib's word for: before the whole request had left
        return SourceError("Slack", f"cannot be reached for {doing} ({url}): {error.reason}", retryable=True)
    broke = "did not answer" if isinstance(error, TimeoutError) else "broke off"
    why = f"{broke} {doing} ({url}): {str(error) or type(error).__name__}"
    kind = UnclearError if look_first else SourceError
    return kind("Slack", why, retryable=True)


def _retry_after(headers: Mapping[str, str]) -> float:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    try:
        return max(float(value), 0.1)
    except ValueError:
        return RETRY_AFTER_SECONDS
