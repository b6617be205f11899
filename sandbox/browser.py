"""A person in front of Slack: Chromium on local-slack's page, by way of the rules' page address.

Everything waits for a condition with a deadline and says what the page showed instead. Playwright's objects belong to
the thread that made them: one `Chromium` per thread.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from playwright.sync_api import Error, Locator, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = [
    "--headless",
    "--no-sandbox",  # as root it does not start otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_DESKTOP = {"width": 1280, "height": 900}
_PHONE = {"width": 390, "height": 844}
# Local-slack's page has one layout, for a desk. On a phone Slack shows one pane at a time.
_PHONE_STYLE = """
.sidebar, .topbar, .thread-resize-handle { display: none !important }
.main { width: 100% !important; min-width: 0 !important }
.app:has(.thread-pane) .main { display: none !important }
.thread-pane { width: 100% !important }
"""
Text = str | re.Pattern[str]


class Chromium:
    """Debian's browser, once; each `open` is a person with a browser of their own (cookies are not shared)."""

    def __init__(self, executable: Path = CHROMIUM) -> None:
        if not executable.exists():
            raise FileNotFoundError(
                f"no {executable}: apt-get install -y --no-install-recommends chromium fonts-noto-color-emoji"
            )
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=str(executable), args=_FLAGS)
        except Error:
            self._playwright.stop()
            raise

    def open(self, page_url: str, user: str, *, seconds: float = 10) -> "SlackBrowser":
        """`page_url` is `SlackRules.page_url`; `user` a name or an id."""
        page = self._browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US").new_page()
        return SlackBrowser(page, page_url, user, seconds=seconds)

    def close(self) -> None:
        self._browser.close()
        self._playwright.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SlackBrowser:
    def __init__(self, page: Page, page_url: str, user: str, *, seconds: float = 10) -> None:
        """`seconds`: how long everything here waits unless told otherwise."""
        self.page = page
        self._seconds = seconds
        page.set_default_timeout(seconds * 1000)
        page.goto(f"{page_url.rstrip('/')}/?as={user}")
        self._wait(lambda: page.locator(".channel-header .channel-title").count() > 0, "the page to open")

    def close(self) -> None:
        self.page.context.close()

    # --- channels and messages

    def open_channel(self, name: str) -> None:
        self.page.locator(".sidebar-item", has_text=re.compile(rf"^(#|🔒)\s*{re.escape(name)}$")).click()
        title = self.page.locator(".channel-title")
        self._wait(lambda: title.inner_text().split()[-1] == name, f"channel {name} to open")

    def messages(self) -> list[str]:
        """The texts that stand in the open channel, oldest first, without replies in threads."""
        return self._texts(self._channel)

    def thread_messages(self) -> list[str]:
        """The texts in the open thread; the first is the message it hangs on."""
        return self._texts(self._thread)

    def wait_message(self, text: Text, *, seconds: float | None = None) -> str:
        """Until a message of the channel shows the text; returns that message's whole text (the newest such)."""
        return self._wait_text(self._channel, text, seconds)

    def wait_reply(self, text: Text, *, after: Text = "", seconds: float | None = None) -> str:
        """The same in the open thread, among the replies below the newest one that shows `after`."""
        return self._wait_text(self._thread, text, seconds, after)

    def open_thread(self, message: Text) -> None:
        """Of the newest message that shows this text. It must have replies, or there is nothing to open."""
        self._newest(self._channel, message, self.page.locator(".thread-summary"), "replies").click()
        self._wait(lambda: self.page.locator(".thread-pane").count() > 0, "the thread to open")

    def close_thread(self) -> None:
        self.page.locator(".thread-x").click()

    # --- what one does

    def buttons(self, message: Text) -> list[str]:
        """Labels of the buttons that the message has now."""
        self._wait_text(self._channel, message, None)
        shown = [one for one in self._channel.all() if _shows(_plain(one.inner_text()), message)]
        return [_plain(label) for label in shown[-1].locator("button.bk-button").all_inner_texts()]

    def click(self, label: Text, *, message: Text = "", thread: bool = False) -> None:
        """Press the button with this label (whole label, or a pattern) in the newest message that has it and shows
        the text."""
        button = self.page.locator("button.bk-button", has_text=_whole(label))
        self._newest(self._thread if thread else self._channel, message, button, f"the button {label!r}").click()

    def choose(self, option: str, *, message: Text = "", thread: bool = False) -> None:
        """Pick an entry of a message's menu, by its text."""
        menus = self.page.locator("select.bk-select").filter(has=self.page.locator("option", has_text=option))
        menu = self._newest(self._thread if thread else self._channel, message, menus, f"a menu with {option!r}")
        menu.select_option("")  # the page keeps the last choice, and would not notice the same one again
        menu.select_option(label=option)

    def type(self, text: str, *, thread: bool = False) -> None:
        """Say something, or give a slash command."""
        composer = self.page.locator(".thread-pane .composer" if thread else ".main .composer")
        composer.locator(".composer-input").fill(text)
        # Not the Enter key: with the list of names open it would pick a name.
        composer.locator(".composer-send").click()

    # --- modals

    def wait_modal(self, text: Text = "", *, seconds: float | None = None) -> str:
        """Until a modal is open and shows the text; returns all of its text."""
        return self._wait_text(self.page.locator(".modal"), text, seconds)

    def modal_open(self) -> bool:
        return self.page.locator(".modal").count() > 0

    def fill(self, label: str, value: str) -> None:
        """The input with this label: text, a choice of a menu, or a radio button or checkbox by its text."""
        block = self.page.locator(".modal .bk-input").filter(has=self.page.locator(".bk-label", has_text=label)).first
        self._wait(lambda: block.count() > 0, f"an input {label!r} in the modal")
        if block.locator("select").count():
            block.locator("select").select_option(label=value)
        elif block.locator(".bk-options").count():
            block.locator(".bk-options label", has_text=value).first.locator("input").check()
        else:
            block.locator("input, textarea").first.fill(value)

    def submit(self) -> None:
        """Press the modal's submit button (once there is one). `wait_modal_closed` or `wait_modal` tells what came."""
        button = self.page.locator(".modal .modal-btn.primary")
        self._wait(lambda: button.count() > 0, "the modal's submit button")
        button.click()

    def submit_label(self) -> str | None:
        """None if the modal has no submit button (yet)."""
        button = self.page.locator(".modal .modal-btn.primary")
        return _plain(button.inner_text()) if button.count() else None

    def close_modal(self) -> None:
        self.page.locator(".modal .modal-x").click()

    def wait_modal_closed(self, *, seconds: float | None = None) -> None:
        self._wait(lambda: not self.modal_open(), "the modal to close", seconds)

    # --- Home

    def open_home(self, app_name: str) -> None:
        self.page.locator(".sidebar-item", has_text=re.compile(rf"🏠\s*{re.escape(app_name)}")).click()
        self._wait(lambda: self.page.locator(".home").count() > 0, f"the Home tab of {app_name}")

    def wait_home(self, text: Text, *, seconds: float | None = None) -> str:
        return self._wait_text(self.page.locator(".home"), text, seconds)

    def click_home(self, label: str) -> None:
        button = self.page.locator(".home button.bk-button", has_text=_whole(label)).first
        self._wait(lambda: button.count() > 0, f"{label!r} in the Home tab")
        button.click()

    # --- pictures

    def screenshot(self, path: Path, *, phone: bool = False, height: int | None = None) -> None:
        """The whole window, at desk or phone width; pictures in it have loaded."""
        size = _PHONE if phone else _DESKTOP
        self.page.set_viewport_size({"width": size["width"], "height": height or size["height"]})
        style = self.page.add_style_tag(content=_PHONE_STYLE) if phone else None
        self._wait(
            lambda: bool(self.page.evaluate("[...document.images].every(image => image.complete)")), "the pictures"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))
        if style is not None:
            style.evaluate("element => element.remove()")
            self.page.set_viewport_size({"width": _DESKTOP["width"], "height": _DESKTOP["height"]})

    # --- waiting

    @property
    def _channel(self) -> Locator:
        return self.page.locator(".main .messages > .msg")

    @property
    def _thread(self) -> Locator:
        return self.page.locator(".thread-pane .thread-body > .msg")

    def _texts(self, found: Locator) -> list[str]:
        return [_plain(text) for text in found.all_inner_texts()]

    def _newest(self, messages: Locator, text: Text, inside: Locator, what: str) -> Locator:
        """What is `inside` the newest message that has it and shows the text; waits for it."""
        holding = messages.filter(has=inside)
        fitting: list[Locator] = []

        def there() -> bool:
            fitting[:] = [message for message in holding.all() if _shows(_plain(message.inner_text()), text)]
            return bool(fitting)

        self._wait(there, f"{what} in a message with {text!r}")
        return fitting[-1].locator(inside).first

    def _wait_text(self, found: Locator, text: Text, seconds: float | None, after: Text = "") -> str:
        fitting: list[str] = []

        def there() -> bool:
            texts = self._texts(found)
            first = 0
            if after:
                first = 1 + max((at for at, shown in enumerate(texts) if _shows(shown, after)), default=len(texts))
            fitting[:] = [shown for shown in texts[first:] if _shows(shown, text)]
            return bool(fitting)

        self._wait(there, f"{text.pattern if isinstance(text, re.Pattern) else text!r} to be shown", seconds)
        return fitting[-1]

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float | None = None) -> None:
        deadline = time.monotonic() + (seconds or self._seconds)
        while not condition():
            if time.monotonic() > deadline:
                shown = _plain(self.page.locator("#root").inner_text())
                raise TimeoutError(
                    f"waited {seconds or self._seconds:.0f} s for {what}; the page shows:\n{shown[-3000:]}"
                )
            # Through Playwright, since its events come only while one waits inside it.
            self.page.wait_for_timeout(30)


def _whole(label: Text) -> re.Pattern[str]:
    return label if isinstance(label, re.Pattern) else re.compile(rf"^\s*{re.escape(label)}\s*$")


def _shows(shown: str, text: Text) -> bool:
    return text.search(shown) is not None if isinstance(text, re.Pattern) else text in shown


def _plain(shown: str) -> str:
    """Without the marks that keep the page's layout: fixed blanks and joiners."""
    return shown.replace("\u00a0", " ").replace("\u2060", "").strip()
