r"""Who to be on other machines: `Remote`, and what is used for a host where `connect` is told nothing.

    npipe.connect(r"\\files1\pipe\jobs", remote=npipe.Remote(username="alice", password=ask()))

    npipe.remote.configure("files1", username="alice", password=ask())
    npipe.connect(r"\\files1\pipe\jobs")

For a host that is not configured it is what the environment says (`Remote.from_environment`), and else the ticket of
Kerberos that this user has. On Windows the system's own redirector opens `\\HOST\pipe\NAME`, unless `remote=` is given
or the host is configured.
"""

from __future__ import annotations

import operator
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, SupportsIndex

from npipe.errors import PipeArgumentError, WinError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Auth", "Remote", "check_remote", "configure", "configured", "forget", "settings_for"]

Auth = Literal["negotiate", "ntlm", "kerberos"]
"""How to prove who one is: Kerberos if that can be had and else NTLM, or one of them alone."""

_PREFIX: Final = "NPIPE_REMOTE_"
_AUTHS: Final = ("negotiate", "ntlm", "kerberos")
_SWITCHES: Final[dict[str, bool | None]] = {
    "": None,
    "1": True,
    "true": True,
    "yes": True,
    "0": False,
    "false": False,
    "no": False,
}
_HIGHEST_PORT: Final = 65535


class _Password:
    """A password that no repr, log or dump of variables shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Password) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return it, for the one who sends its proof."""
        return self._text


class Remote:
    """Who to be on another machine, and how to get there. It does not change; two with the same content are equal."""

    __slots__ = ("_password", "auth", "domain", "encrypt", "port", "username")

    username: str | None
    """The user's name there; None: of the Kerberos ticket."""
    domain: str | None
    """The domain or machine that the user is of; None: the host's own."""
    port: int
    """The TCP port."""
    auth: Auth
    """How to prove who one is."""
    encrypt: bool | None
    """Whether to encrypt; None: if the server wants it. What is not encrypted is signed."""

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        domain: str | None = None,
        port: int = 445,
        auth: Auth = "negotiate",
        encrypt: bool | None = None,
    ) -> None:
        r"""Nothing is looked up or connected here.

        Args:
            username: USER, DOMAIN\USER or USER@REALM; None is whom this process's Kerberos ticket names.
            password: the user's; None is a ticket too. It cannot be read again, and is in no repr.
            domain: the user's domain, if that is not in `username`.
            port: 1 to 65535.
            auth: "negotiate", "ntlm" or "kerberos".
            encrypt: True demands encryption (SMB 3), False refuses it, None leaves it to the server.

        Raises:
            PipeArgumentError: a value is not one of these, or a password has no user (87).
        """
        secret = _hidden(password)
        password = None  # no traceback that shows variables is to have it
        if secret is not None and username is None:
            raise _bad("a password is a user's: say username= too")
        for what, text in (("username", username), ("domain", domain)):
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{what} is text or None, not {type(text).__name__}")
        if username is not None:
            given, _, name = username.rpartition("\\")
            if given and domain is not None:
                raise _bad("the domain is given twice, in username and in domain")
            if not name:
                raise _bad("username is empty")
            username, domain = name, given or domain
        if auth not in _AUTHS:
            raise _bad(f'auth is "negotiate", "ntlm" or "kerberos", not {auth!r}')
        if encrypt is not None and encrypt is not True and encrypt is not False:
            raise TypeError(f"encrypt is True, False or None, not {type(encrypt).__name__}")
        put = super().__setattr__
        put("username", username)
        put("_password", secret)
        put("domain", domain or None)
        put("port", _port(port))
        put("auth", auth)
        put("encrypt", encrypt)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Remote:
        """Return what the environment says, which is what is used for hosts that are not configured.

        NPIPE_REMOTE_USERNAME, _DOMAIN, _PORT, _AUTH and _ENCRYPT ("1", "0") are as the arguments of `Remote`.
        NPIPE_REMOTE_PASSWORD_FILE is a file whose first line is the password, NPIPE_REMOTE_PASSWORD the password
        itself, which others who act as this user can see.

        Args:
            environment: what to look into, instead of os.environ.

        Raises:
            PipeArgumentError: a value is not as it should be, or the file cannot be read (87).
        """
        found = os.environ if environment is None else environment

        def get(name: str) -> str | None:
            return found.get(_PREFIX + name) or None

        path = get("PASSWORD_FILE")
        secret = _hidden(get("PASSWORD")) if path is None else _first_line(path)
        port, switch = get("PORT"), (get("ENCRYPT") or "").lower()
        if port is not None and not (port.isascii() and port.isdigit()):
            raise _bad(f"{_PREFIX}PORT is a number, not {port!r}")
        if switch not in _SWITCHES:
            raise _bad(f'{_PREFIX}ENCRYPT is "1" or "0", not {switch!r}')
        auth = (get("AUTH") or "negotiate").lower()
        return cls(
            get("USERNAME"),
            secret,  # type: ignore[arg-type]  # hidden already
            domain=get("DOMAIN"),
            port=445 if port is None else int(port),
            auth=auth,  # type: ignore[arg-type]  # which is checked
            encrypt=_SWITCHES[switch],
        )

    @property
    def has_password(self) -> bool:
        """Whether there is a password, which cannot be read."""
        return self._password is not None

    def _reveal(self) -> str | None:
        return None if self._password is None else self._password.reveal()

    _password: _Password | None

    def _identity(self) -> tuple[object, ...]:
        return self.username, self._password, self.domain, self.port, self.auth, self.encrypt

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, Remote) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Remote does not change: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Remote does not change: make another one")

    def __copy__(self) -> Remote:
        return self

    def __deepcopy__(self, _: object) -> Remote:
        return self

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a pickle would have the password in it."""
        raise TypeError("cannot pickle Remote objects, which may hold a password: make one where it is used")

    def __repr__(self) -> str:
        if not hasattr(self, "encrypt"):
            return "<npipe.Remote that could not be made>"
        shown = [] if self.username is None else [repr(self.username)]
        if self._password is not None:
            shown.append("password=***")
        if self.domain is not None:
            shown.append(f"domain={self.domain!r}")
        shown.append(f"port={self.port}")
        if self.auth != "negotiate":
            shown.append(f"auth={self.auth!r}")
        if self.encrypt is not None:
            shown.append(f"encrypt={self.encrypt}")
        return f"npipe.Remote({', '.join(shown)})"


_configured: dict[str, Remote] = {}
_lock = threading.Lock()


def configure(
    host: str,
    remote: Remote | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    domain: str | None = None,
    port: int = 445,
    auth: Auth = "negotiate",
    encrypt: bool | None = None,
) -> None:
    r"""Say what this process uses for pipes of `host` from now on, where a call is told nothing.

    Args:
        host: HOST of `\\HOST\pipe\NAME`; another name of the same machine is another host.
        remote: all of it; the other arguments, which are Remote's, are then not to be given.
        username: as of Remote.
        password: as of Remote.
        domain: as of Remote.
        port: as of Remote.
        auth: as of Remote.
        encrypt: as of Remote.

    Raises:
        PipeArgumentError: a value is not as it should be (87).
    """
    if not isinstance(host, str):
        raise TypeError(f"a host is text, not {type(host).__name__}")
    secret: Any = _hidden(password)
    password = None
    if remote is None:
        remote = Remote(username, secret, domain=domain, port=port, auth=auth, encrypt=encrypt)
    elif not isinstance(remote, Remote):
        raise TypeError(f"remote is a Remote or None, not {type(remote).__name__}")
    elif (username, secret, domain, port, auth, encrypt) != (None, None, None, 445, "negotiate", None):
        raise _bad("give either a Remote or its parts")
    with _lock:
        _configured[host.lower()] = remote


def forget(host: str) -> None:
    """Undo `configure`. A host that is not configured is no error."""
    with _lock:
        _configured.pop(host.lower(), None)


def configured(host: str) -> Remote | None:
    """Return what `configure` was told for a host; None if nothing."""
    with _lock:
        return _configured.get(host.lower())


def settings_for(host: str) -> Remote:
    """Return what is used for a host where a call is told nothing. Raises as Remote.from_environment."""
    return configured(host) or Remote.from_environment()


def check_remote(remote: Remote | None) -> Remote | None:
    """Return `remote`; TypeError for anything but a Remote or None."""
    if remote is None or isinstance(remote, Remote):
        return remote
    raise TypeError(f"remote is a Remote or None, not {type(remote).__name__}")


def _hidden(password: object) -> _Password | None:
    if password is None or isinstance(password, _Password):
        return password
    if not isinstance(password, str):
        raise TypeError(f"password is text or None, not {type(password).__name__}")
    return _Password(password)


def _port(port: SupportsIndex) -> int:
    if isinstance(port, bool):
        raise _bad(f"port is a whole number, not {port!r}")
    try:
        number = operator.index(port)
    except TypeError:
        raise TypeError(f"port is a whole number, not {type(port).__name__}") from None
    if not 1 <= number <= _HIGHEST_PORT:
        raise _bad(f"port is 1 to {_HIGHEST_PORT}, not {number}")
    return number


def _first_line(path: str) -> _Password:
    try:
        with Path(path).open(encoding="utf-8") as file:
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise _bad(f"{_PREFIX}PASSWORD_FILE cannot be read: {reason}") from None
    if not line:
        raise _bad(f"{_PREFIX}PASSWORD_FILE has no password in its first line")
    return _Password(line)


def _bad(detail: str) -> PipeArgumentError:
    return PipeArgumentError(WinError.INVALID_PARAMETER, detail=detail)
