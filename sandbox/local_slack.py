"""Local-slack, a browser Slack with Web API and Socket Mode, on a free loopback port. It polices nothing.

So nobody but `slack_rules` speaks to it: the bot and the browsers use the addresses of the proxy before it.
It listens on every interface and has no option against that; only 127.0.0.1 is ever used.
"""

import json
from pathlib import Path

from sandbox.addresses import free_port
from sandbox.npm.programs import local_slack
from sandbox.part import Part, answers
from sandbox.slack_workspace import SlackWorkspace


class LocalSlack(Part):
    """Its messages live in memory: a restart (same port) begins with empty channels."""

    def __init__(self, workspace: SlackWorkspace, folder: Path, *, program: Path | None = None) -> None:
        """`program`: another build of it than the installed one."""
        port = free_port()
        self.workspace = workspace
        self.url = f"http://127.0.0.1:{port}"
        self._config = folder / "local-slack.json"
        argv = [str(program or local_slack()), "--config", str(self._config), "--port", str(port)]
        # Without the host it hands out addresses on `localhost`, which a machine may resolve to ::1.
        argv += ["--base-host", "127.0.0.1", "--files-dir", str(folder / "files")]
        super().__init__(
            "local-slack", argv, log=folder / "local-slack.log", ready=answers(f"{self.url}/_control/state")
        )

    def launch(self) -> None:
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text(json.dumps(self.workspace.local_slack_config(), indent=1))
        super().launch()
