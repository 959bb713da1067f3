"""A domain for the tests: Samba's controller of an Active Directory and a member of it, in namespaces of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Sequence

DOMAIN = "NPIPEAD"
MEMBER = "member.ad.npipe.test"
PASSWORD = "Word-of-the-tests-1"
_PROGRAMS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "samba": "samba-ad-dc",
    "samba-tool": "samba",
    "smbd": "samba",
    "net": "samba-common-bin",
    "winbindd": "winbind",
    "kinit": "krb5-user",
}
_PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")

_MACHINES = r"""
set -e
cd "$1"
mkdir run-dc run-member private lock state cache pid ncalrpc log
ip link set lo up
ip address add 10.99.0.1/32 dev lo
ip address add 10.99.0.2/32 dev lo
printf '127.0.0.1 localhost\n10.99.0.1 dc.ad.npipe.test dc\n10.99.0.2 member.ad.npipe.test member\n' >hosts
printf 'search ad.npipe.test\nnameserver 10.99.0.1\n' >resolv.conf
sed 's/^passwd:.*/passwd: files winbind/; s/^group:.*/group: files winbind/' /etc/nsswitch.conf >nsswitch.conf
cat >krb5.conf <<END
[libdefaults]
    default_realm = AD.NPIPE.TEST
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
[realms]
    AD.NPIPE.TEST = {
        kdc = 10.99.0.1
    }
[domain_realm]
    .ad.npipe.test = AD.NPIPE.TEST
END
export KRB5_CONFIG=$PWD/krb5.conf
mount --bind hosts /etc/hosts
mount --bind resolv.conf /etc/resolv.conf
mount --bind nsswitch.conf /etc/nsswitch.conf
listens() {
    turn=0
    until (echo >"/dev/tcp/$1") 2>/dev/null; do # nothing tells that it does
        turn=$((turn + 1))
        [ $turn -lt 400 ] || { echo "nobody listens at $1"; exit 1; }
        sleep 0.2
    done
}

echo "# the controller"
mkdir -p /run/samba
mount --bind run-dc /run/samba
samba-tool domain provision --realm=AD.NPIPE.TEST --domain=NPIPEAD --adminpass="$2" --server-role=dc \
    --dns-backend=SAMBA_INTERNAL --targetdir="$PWD/dc" --host-name=dc --host-ip=10.99.0.1 \
    --option="interfaces=10.99.0.1/32" --option="bind interfaces only=yes"
unshare --uts sh -c 'hostname dc && exec samba -i --debug-stdout -s dc/etc/smb.conf' >dc.log 2>&1 </dev/null &
listens 10.99.0.1/389
listens 10.99.0.1/88
for user in alice bob; do samba-tool user create $user "$2" -s dc/etc/smb.conf; done
samba-tool group add clerks -s dc/etc/smb.conf
samba-tool group addmembers clerks alice -s dc/etc/smb.conf
samba-tool user show alice -s dc/etc/smb.conf | sed -n 's/^objectSid: //p' >alice.sid
samba-tool group show clerks -s dc/etc/smb.conf | sed -n 's/^objectSid: //p' >clerks.sid

echo "# the member"
cat >smb.conf <<END
[global]
    security = ads
    realm = AD.NPIPE.TEST
    workgroup = NPIPEAD
    netbios name = MEMBER
    interfaces = 10.99.0.2/32
    bind interfaces only = yes
    private dir = $PWD/private
    lock directory = $PWD/lock
    state directory = $PWD/state
    cache directory = $PWD/cache
    pid directory = $PWD/pid
    ncalrpc dir = $PWD/ncalrpc
    log file = $PWD/log/%m
    idmap config * : backend = tdb
    idmap config * : range = 100000-199999
    disable spoolss = yes
    load printers = no
END
# The place of winbindd's socket is fixed: the controller has another one.
exec unshare --mount --propagation private --uts bash -c '
    set -e
    eval "$1"
    hostname member
    mount --bind run-member /run/samba
    net ads join -s smb.conf -U "Administrator%$2" --no-dns-updates
    LD_LIBRARY_PATH=$3 winbindd -F --debug-stdout -s smb.conf >winbindd.log 2>&1 </dev/null &
    LD_LIBRARY_PATH=$3 smbd -F --debug-stdout -s smb.conf >smbd.log 2>&1 </dev/null &
    listens 10.99.0.2/445
    echo "# ready"
    exec cat >/dev/null' bash "$(declare -f listens)" "$2" "$3"
"""


def _library() -> Path:
    """The folder of what makes users of this system of a domain's."""
    places = [*Path("/lib").glob("*/libnss_winbind.so.2"), *Path("/usr/lib").glob("*/libnss_winbind.so.2")]
    places += h.CHECKOUT.glob("build/libnss-winbind/**/libnss_winbind.so.2")
    if not places:
        pytest.skip("there is no libnss_winbind.so.2 (Debian's package is libnss-winbind)")
    return places[0].parent


class Domain:
    """Both, with the users alice, who is a clerk, and bob. All of it ends with this process."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root makes a domain's machines")
        places = os.pathsep.join([*_PLACES, os.environ.get("PATH", os.defpath)])  # this system's Samba has a controller
        for program, package in _PROGRAMS.items():
            if shutil.which(program, path=places) is None:
                pytest.skip(f"there is no {program} (Debian's package is {package})")
        if not Path("/usr/share/samba/setup").is_dir():
            pytest.skip("there is nothing to make a domain from (Debian's package is samba-ad-provision)")
        self.folder = folder
        self.samba_dir = folder / "ncalrpc"
        self._environment = {**os.environ, "PATH": places, "KRB5_CONFIG": str(folder / "krb5.conf")}
        spaces = ("--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
        with (folder / "errors").open("wb") as log:
            self._machines = subprocess.Popen(
                ["unshare", *spaces, "bash", "-c", _MACHINES, "bash", str(folder), PASSWORD, str(_library())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                text=True,
            )
        said = []
        assert self._machines.stdout is not None
        for line in self._machines.stdout:
            said.append(line)
            if line == "# ready\n":
                return
        self.close()
        errors = (folder / "errors").read_text()
        raise AssertionError(f"there is no domain: {''.join(said)}{errors}")

    def sid(self, name: str) -> str:
        """The one of alice or clerks, as the controller says it."""
        return (self.folder / f"{name}.sid").read_text().strip()

    def run(self, script: str, *arguments: str, text: str = "") -> Sequence[str]:
        """Run a program in Python on the member's machine; the lines that it prints."""
        inside = Path(f"/proc/{self._machines.pid}/task/{self._machines.pid}/children").read_text().split()[0]
        done = subprocess.run(
            [
                "nsenter",
                "-t",
                inside,
                "--net",
                "--mount",
                f"--wd={h.CHECKOUT}",
                sys.executable,
                "-c",
                script,
                *arguments,
            ],
            input=text,
            env={**self._environment, "KRB5CCNAME": f"FILE:{self.folder}/tickets"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def close(self) -> None:
        assert self._machines.stdin is not None
        assert self._machines.stdout is not None
        self._machines.stdin.close()
        self._machines.wait(30)
        self._machines.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
