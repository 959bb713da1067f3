"""Another machine's client, as far as one machine can show it: a private smbd between it and the article's servers."""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import npipe

NAME = "mynamedpipe"
PORT = 14450
PASSWORD = "of the demonstration"
MODELS = ("threaded", "overlapped", "completion")
CLIENT = Path(__file__).with_name("article_client.py")


def main() -> int:
    """Run the demonstration; 0 if each client got its answer."""
    if importlib.util.find_spec("smbprotocol") is None:
        print("demo-remote: the client's SMB is smbprotocol's, which is not installed: pip install smbprotocol")
        return 1
    me = pwd.getpwuid(os.geteuid()).pw_name
    try:
        from npipe.samba import PrivateSmbd

        with tempfile.TemporaryDirectory(prefix="npipe-demo-") as folder:
            os.environ["NPIPE_ROOT"] = f"{folder}/root"
            with PrivateSmbd(f"{folder}/smb", port=PORT) as smbd:
                smbd.add_user("alice", PASSWORD, local_user=me)
                print(f"$ npipe samba serve --dir {smbd.folder} --port {PORT} &", flush=True)
                smbd.start()
                return max(served(model, me, smbd.samba_dir) for model in MODELS)
    except npipe.PipeError as error:
        print(f"demo-remote: {error}", file=sys.stderr)
        return 1


def served(model: str, user: str, samba_dir: Path) -> int:
    """Start one of the three servers, and run the article's client against it; the client's exit status."""
    options = ["serve", NAME, "--model", model, "--allow", user, "--samba-dir", str(samba_dir)]
    print(f"\n$ npipe {' '.join(options)} &", flush=True)
    command = [sys.executable, "-m", "npipe", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        print(server.stderr.readline(), end="", flush=True)  # it listens now
        print(rf"$ client '\\127.0.0.1\pipe\{NAME}'", flush=True)
        client = subprocess.run(
            [sys.executable, str(CLIENT), "127.0.0.1", str(PORT), NAME, "alice"],
            env={**os.environ, "DEMO_PASSWORD": PASSWORD},
            check=False,
        )
        server.terminate()
        for line in server.stderr:
            print(line, end="", flush=True)
    return client.returncode or server.returncode


if __name__ == "__main__":
    sys.exit(main())
