"""MLflow's own file of credentials, rewritten while the service runs and rarely tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from stores.rotation import Rotation
from stores.servers import ADMIN, AuthServer
from stores.user import User

pytestmark = [pytest.mark.stores, pytest.mark.live, pytest.mark.timeout(300)]


def section(name: str, password: str) -> str:
    return f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {password}\n"


def test_a_password_that_is_changed_while_the_service_runs(auth_server: AuthServer, user: User, tmp_path: Path) -> None:
    auth_server.add_user("rotating", "first-password-1")
    user.write(".mlflow/credentials", section("rotating", "first-password-1"))
    site = Rotation(tmp_path / "site", None, auth_server.uri)
    with site.running():
        site.drop("by the old password")
        site.delivered()
        auth_server.change_password("rotating", "second-password-2")
        site.drop("by the new password")
        site.refused("does not accept the credentials of 'rotating'")
        user.write(".mlflow/credentials", section("rotating", "second-password-2"))
        site.delivered()
    user.write(".mlflow/credentials", section(*ADMIN))
    site.verified()
