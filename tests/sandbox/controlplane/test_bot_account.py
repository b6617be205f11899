from pathlib import Path

from sandbox.controlplane import bot_account
from sandbox.controlplane.control_plane import ControlPlane


def test_installing_twice_is_no_error_and_the_token_is_the_account_s(
    control_plane: ControlPlane, bot_token_file: Path
) -> None:
    again = bot_account.install(control_plane, namespaces=())
    assert again == bot_token_file
    config = control_plane.kubeconfig_for(bot_account.NAMESPACE, bot_account.SERVICE_ACCOUNT)
    assert bot_account.USER in control_plane.kubectl("auth", "whoami", kubeconfig=config)


def test_the_audit_log_knows_the_bot_by_its_user(control_plane: ControlPlane, bot_token_file: Path) -> None:
    config = control_plane.kubeconfig_for(bot_account.NAMESPACE, bot_account.SERVICE_ACCOUNT)
    control_plane.kubectl("get", "nodes", kubeconfig=config)
    asked = list(control_plane.audit(bot_account.USER))
    assert (asked[-1].verb, asked[-1].resource, asked[-1].code) == ("list", "nodes", 200)
