"""Who may connect to a server: its access rule, as a security descriptor and back."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any

import pytest

import npipe
from npipe.options import parse_security
from npipe.servers.base import security_attributes
from npipe.win32._access import access_rule


@pytest.mark.parametrize(
    "security",
    [
        "owner",
        "everyone",
        f"group:{grp.getgrgid(os.getegid()).gr_name}",
        npipe.Security(users=(pwd.getpwuid(os.geteuid()).pw_name, 12345), groups=(54321,)),
        npipe.Security(everyone=True, write=False),
        npipe.Security(users=(12345,), read=False),
        npipe.Security(groups=(54321,), sddl="D:(A;;GA;;;WD)"),  # which is for Windows only
    ],
)
def test_the_security_attributes_say_what_the_security_says(security: Any) -> None:
    assert access_rule(security_attributes(security)) == parse_security(security).resolve()
