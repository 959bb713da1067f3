"""A realm of Kerberos for the tests: a KDC on a port of this machine, in a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

REALM = "NPIPE.TEST"
_PLACES = ("/usr/sbin", "/usr/bin")

_CLIENTS = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    localhost = {realm}
"""

_KDC = """\
[kdcdefaults]
    kdc_listen = ""
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principals
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
        max_life = 1h
        disable_pac = {disable_pac}
    }}
"""


def program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES]))
    if found is None:
        pytest.skip(f"there is no {name} (Debian's packages are krb5-kdc, krb5-admin-server and krb5-user)")
    return found


class Realm:
    """One with the users alice and bob, and a service's key in `keytab`."""

    def __init__(self, folder: Path, service: str, password: str, *, pac: bool = False) -> None:
        """With `pac` its tickets have what MIT's KDC says of a user for Windows' sake, which is little."""
        programs = {name: program(name) for name in ("krb5kdc", "kadmin.local", "kdb5_util", "kinit")}
        self.folder = folder
        self.keytab = folder / "service.keytab"
        self._kinit = programs["kinit"]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        for name, text in (("krb5.conf", _CLIENTS), ("kdc.conf", _KDC)):
            made = text.format(realm=REALM, port=self._port, folder=folder, disable_pac="false" if pac else "true")
            (folder / name).write_text(made)
        (folder / "acl").touch()
        self.environment = {
            "KRB5_CONFIG": str(folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{folder}/tickets",
        }
        self._run(programs["kdb5_util"], "create", "-s", "-r", REALM, "-P", "of the database")
        self._kadmin = programs["kadmin.local"]
        for user in ("alice", "bob"):
            self.add_user(user, password)
        self._run(self._kadmin, "-r", REALM, "addprinc", "-randkey", f"{service}@{REALM}")
        self._run(self._kadmin, "-r", REALM, "ktadd", "-k", str(self.keytab), f"{service}@{REALM}")
        self._kdc = subprocess.Popen(
            [programs["krb5kdc"], "-n", "-r", REALM, "-P", str(folder / "pid")],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._await()
        except BaseException:
            self.close()
            raise

    def _run(self, *command: str, text: str = "") -> None:
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def _await(self) -> None:
        until = time.monotonic() + 20
        while self._kdc.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            assert time.monotonic() < until, "the KDC does not listen"
            time.sleep(0.02)  # nothing tells that it does
        raise AssertionError(f"the KDC has ended: {self._kdc.returncode}")

    @property
    def pid(self) -> int:
        """The KDC's."""
        return self._kdc.pid

    def add_user(self, name: str, password: str) -> None:
        self._run(self._kadmin, "-r", REALM, "addprinc", "-pw", password, f"{name}@{REALM}")

    def get_ticket(self, user: str, password: str) -> None:
        """Let this process have that user's ticket."""
        self._run(self._kinit, f"{user}@{REALM}", text=f"{password}\n")

    def change_key(self, service: str) -> None:
        """Give a service another key than the one in `keytab`."""
        self._run(self._kadmin, "-r", REALM, "change_password", "-randkey", f"{service}@{REALM}")

    def tickets(self) -> str:
        """What this process has, as klist says it."""
        done = subprocess.run(
            [program("klist")], env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=20
        )
        return done.stdout

    def close(self) -> None:
        self._kdc.terminate()
        self._kdc.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
