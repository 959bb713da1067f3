"""Real clients of pywin32, unmodified, on npipe.win32: `make test-clients`, not part of `make test`."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect these only when they are asked for by path: they need the package index."""
    asked = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True


def _fetched(get: Callable[[], Path]) -> Path:
    try:
        return get()
    except fetch.UnreachableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def pywin32() -> Path:
    """The files of pywin32's wheel."""
    return _fetched(fetch.pywin32)


@pytest.fixture(scope="session")
def stubs() -> Path:
    """The folder with pywin32's stubs."""
    return _fetched(fetch.stubs)


@pytest.fixture(scope="session")
def docker_folder() -> Path:
    """Where docker and requests are imported from."""
    return _fetched(fetch.docker)


@pytest.fixture(scope="session")
def rpyc_folder() -> Path:
    """Where rpyc is imported from."""
    return _fetched(fetch.rpyc)


@pytest.fixture(scope="session")
def paramiko_folder() -> Path:
    """Where paramiko is imported from."""
    return _fetched(fetch.paramiko)


@pytest.fixture(scope="session")
def discord_rpc_folder() -> Path:
    """Where discordrpc is imported from."""
    return _fetched(fetch.discord_rpc)


@pytest.fixture(scope="session")
def discord_folder() -> Path:
    """Where pypresence, discordrp, discoIPC and discord_rpc are imported from."""
    return _fetched(fetch.discord)


@pytest.fixture(scope="session")
def uipath_folder() -> Path:
    """The source of uipath-ipc, and what its tests need."""
    return _fetched(fetch.uipath)


@pytest.fixture(scope="session")
def asyncssh_folder() -> Path:
    """Where asyncssh is imported from."""
    return _fetched(fetch.asyncssh)


@pytest.fixture(scope="session")
def osquery_folder() -> Path:
    """Where osquery and thrift are imported from."""
    return _fetched(fetch.osquery)


@pytest.fixture(scope="session")
def openjd_folder() -> Path:
    """Where openjd.adaptor_runtime is imported from."""
    return _fetched(fetch.openjd)


@pytest.fixture(scope="session")
def wrappers_folder() -> Path:
    """Where namedpipe, pywinpipe and communica are imported from."""
    return _fetched(fetch.wrappers)


@pytest.fixture(scope="session")
def web3_folder() -> Path:
    """Where web3 is imported from."""
    return _fetched(fetch.web3)


@pytest.fixture(scope="session")
def watchman_folder() -> Path:
    """Where pywatchman is imported from."""
    return _fetched(fetch.watchman)


@pytest.fixture(scope="session")
def keepassxc_folder() -> Path:
    """Where keepassxc_proxy_client is imported from."""
    return _fetched(fetch.keepassxc)


@pytest.fixture(scope="session")
def wexpect_folder() -> Path:
    """Where wexpect is imported from."""
    return _fetched(fetch.wexpect)


@pytest.fixture(scope="session")
def aiohttp_folder() -> Path:
    """Where aiohttp, aiodocker and pynvim are imported from."""
    return _fetched(fetch.aiohttp)


@pytest.fixture(scope="session")
def green_folder() -> Path:
    """Where gevent and eventlet are imported from."""
    return _fetched(fetch.green)


@pytest.fixture(scope="session")
def winconnect_folder() -> Path:
    """Where winConnect is imported from."""
    return _fetched(fetch.winconnect)


@pytest.fixture(scope="session")
def mypy_folder() -> Path:
    """Where mypy is imported from, in pure Python."""
    return _fetched(fetch.mypy)


@pytest.fixture(params=fetch.MPV_VERSIONS)
def mpv_folder(request: pytest.FixtureRequest) -> Path:
    """Where a version of python_mpv_jsonipc is imported from."""
    return _fetched(functools.partial(fetch.mpv, str(request.param)))


@pytest.fixture(scope="session")
def npipes_folder() -> Path:
    """Where npipes is imported from."""
    return _fetched(fetch.npipes)


@pytest.fixture(scope="module")
def installed() -> Iterator[None]:
    """`import win32pipe` and its like work while the tests of a module run."""
    win32: Any = importlib.import_module("npipe.win32")
    with win32.install():
        yield
