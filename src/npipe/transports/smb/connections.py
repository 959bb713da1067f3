"""Connections to hosts: one for each host and user, shared by all pipes of this process, closed when idle."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from npipe.errors import (
    PipeAccessError,
    PipeClosedError,
    PipeError,
    PipeNotFoundError,
    PipeProtocolError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
)
from npipe.transports.smb.library import (
    KERBEROS_ERRORS,
    Dialects,
    NegotiateOptions,
    Session,
    SMBAuthenticationError,
    SMBException,
    SMBResponseException,
    SpnegoError,
    TreeConnect,
    spnego_client,
)
from npipe.transports.smb.status import ACCESS_DENIED, SESSION_OVER, not_opened
from npipe.transports.smb.wire import GiveUp, NotSignedError, Wire, connect_socket, wait_event
from npipe.transports.stopping import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.remote import Remote
    from npipe.transports.stopping import Stop

__all__ = ["IDLE", "Link", "lease"]

IDLE: Final = 10.0
"""Seconds that a connection without open pipes is kept for the next one."""

_DOING: Final = "opening the pipe"
_MORE_CREDITS: Final = 16  # asked for with a request while there are few
_ENOUGH_CREDITS: Final = 256
_PENDING: Final = 0x103
_SMALLEST: Final = 65536  # bytes that any host takes and gives at once

_KERBEROS_REFUSES: Final = {
    -1765328353: None,  # KRB5KRB_AP_ERR_BAD_INTEGRITY, which is a wrong password
    -1765328360: None,  # KRB5KDC_ERR_PREAUTH_FAILED, and so is this
    -1765328378: None,  # KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN
    -1765328361: "the password has expired",  # KRB5KDC_ERR_KEY_EXP
    -1765328366: "the account is disabled or locked",  # KRB5KDC_ERR_CLIENT_REVOKED
    -1765328383: "the account has expired",  # KRB5KDC_ERR_NAME_EXP
}
"""Codes of libkrb5's: the realm does not accept the user, and why, if that is more than who it is."""


def _ignore(_: Any) -> None:
    pass


def _never() -> bool:
    return False


class Link:
    """A connection that is logged on, and has the host's pipes open (IPC$)."""

    def __init__(self, key: _Key, wire: Wire, session: Any, tree: Any) -> None:
        self._key = key
        self.wire = wire
        self.host: str = key.host
        self.session = session
        self.tree = tree
        self.encrypted: bool = bool(session.encrypt_data or tree.encrypt_data)
        self.address: str = wire.stream.address
        self.has_modes: bool | None = None
        """Whether the server has read modes (Windows does, Samba does not); None: nobody has asked yet."""
        self.was_used: bool = False
        """Whether a pipe was opened over it already, so that it may have been lost since."""
        self.users: int = 0  # guarded by _pool.lock, as the next
        self.idle_since: float = 0.0
        self._guard = threading.Lock()  # for the next two
        self._turn: object = None  # whose turn to send it is
        self._queue: dict[threading.Event, None] = {}  # of those who wait for theirs
        threading.Thread(target=self._say_all, name="npipe-smb-say", daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether the connection is over: the thread that receives has ended, or is about to."""
        return self.wire.lost or not self.wire.stream.connected

    def release(self) -> None:
        """Use it no more."""
        _pool.release(self)

    def submit(
        self,
        message: Any,
        keep: Callable[[Any], None],
        deadline: float | None,
        *,
        cost: int = 1,
        given_up: Callable[[], bool] = _never,
    ) -> Any:
        """Send a request when there is room for it; return it, or None when the deadline came first: nothing is sent.

        So it is when `given_up` says so: see `wake`. `keep` is told of the request as soon as it may have been sent,
        also if an exception of a signal's handler ends this. Its answer comes in its own time: see `answered`. Raises
        ConnectionError when the connection is lost.
        """
        wire, turn = self.wire, object()
        try:
            if not self._take_turn(turn, deadline, given_up):
                return None
            if wire.credits < cost and not wire.await_credits(cost, deadline, given_up):
                return None
            if not wire.stream.await_room(deadline, given_up) or given_up():
                return None
            if wire.lost:
                raise ConnectionResetError
            number = wire.sequence_window["low"]
            wanted = cost + (_MORE_CREDITS if wire.credits < _ENOUGH_CREDITS else 0)
            try:
                request = wire.send(
                    message, sid=self.session.session_id, tid=self.tree.tree_connect_id, credit_request=wanted
                )
            except SMBException:
                raise ConnectionResetError from None
            except BaseException:
                request = wire.outstanding_requests.get(number)
                if request is not None:
                    keep(request)
                raise
            keep(request)
            return request
        finally:
            with self._guard:
                if self._turn is turn:
                    self._turn = None
            self._pass_on()

    def _take_turn(self, turn: object, deadline: float | None, given_up: Callable[[], bool]) -> bool:
        """Be the one who sends; False when the deadline came first, or it is given up."""
        with self._guard:
            if self._turn is None:
                self._turn = turn
                return True
        event = threading.Event()
        try:
            with self._guard:
                self._queue[event] = None
            while True:
                event.clear()
                with self._guard:
                    if self._turn is None:
                        self._turn = turn
                        return True
                if given_up() or not wait_event(event, deadline):
                    return False
        finally:
            with self._guard:
                self._queue.pop(event, None)

    def _pass_on(self) -> None:
        """Wake the first of those who wait for their turn, if nobody has it."""
        with self._guard:
            first = next(iter(self._queue), None) if self._turn is None else None
        if first is not None:
            first.set()

    def wake(self) -> None:
        """Let all who wait to send look again whether that is given up."""
        with self._guard:
            waiting = list(self._queue)
        for event in waiting:
            event.set()
        self.wire.wake()

    def answered(self, request: Any) -> tuple[int, Any] | None:
        """Return a request's final status and answer; None if there is none yet. The caller has its lock.

        One that tells that the host has ended the session, or its pipes, ends the connection: nobody can use it.
        """
        response = request.response
        if response is None:
            return None
        status = response["status"].get_value()
        if status in SESSION_OVER:
            self.close()
        return None if status == _PENDING else (status, response)

    def done(self, request: Any) -> None:
        """Wait for a request's answer no more."""
        self.wire.outstanding_requests.pop(request.message["message_id"].get_value(), None)

    def abandon(self, request: Any, late: Callable[[int, Any], None] | None = None) -> None:
        """Do not wait for an answer; `late` gets it when it comes, in the thread that receives, and must not wait."""
        if late is None:
            self.done(request)
            return
        with request.response_event_lock:
            answer = self.answered(request)
            if answer is None:
                request.response_event = _Late(self, request, late)
                return
        self.done(request)
        late(*answer)

    def say(self, message: Any) -> None:
        """Let a thread send a request whose answer nobody wants. Takes no lock, and does not wait."""
        self.wire.unsaid.put(message)

    def _say_all(self) -> None:
        """Send what is to be said, each when there is room for it, until the connection is lost.

        Whatever else ends this ends the connection: pipes whose CLOSE is never sent would stay open at the host, and
        their servers wait.
        """
        try:
            with contextlib.suppress(ConnectionError):
                while (message := self.wire.unsaid.get()) is not None:
                    self.done(self.submit(message, _ignore, None))
        finally:
            self.close()

    def close(self) -> None:
        """End the connection, with all that is open on it."""
        self.wire.stream.close()


class _Late:
    """In the place of a request's event: hands the answer to somebody else than who has asked."""

    def __init__(self, link: Link, request: Any, late: Callable[[int, Any], None]) -> None:
        self._link, self._request = link, request
        self._late: Callable[[int, Any], None] | None = late

    def set(self) -> None:
        """Be told that there is an answer, an interim one perhaps, or that the connection is lost."""
        answer = self._link.answered(self._request)
        if answer is None and not self._link.lost:
            return
        late, self._late = self._late, None
        self._link.done(self._request)
        if late is not None:
            late(*(answer or (0xC00000C9, None)))  # NETWORK_NAME_DELETED

    def clear(self) -> None:
        """Nobody waits."""

    def wait(self, _: float | None = None) -> bool:
        """Nobody waits."""
        return False


# ---- Making one


@dataclass(frozen=True)
class _Key:
    """What makes two connections the same."""

    host: str
    remote: Remote


class _Attempt:
    """A connection that is being made by a thread, for all who wait for it."""

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.waiters: set[threading.Event] = set()  # guarded by _pool.lock, as the next
        self.is_over = False
        self.link: Link | None = None
        self.failure: Callable[[str | None], PipeError] | None = None
        self._giving_up = GiveUp()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="npipe-smb-connect", daemon=True).start()

    def give_up(self) -> None:
        """End it: nobody waits."""
        self._giving_up.set()

    def _run(self) -> None:
        wire: Wire | None = None
        try:
            if self.key.remote.username is None and not _has_ticket(self.key.host, self.key.remote):
                raise _RefusedError(_no_ticket)  # noqa: TRY301
            sock = connect_socket(self.key.host, self.key.remote.port, self._giving_up)
            try:
                wire = Wire(self.key.host, self.key.remote.port, sock, _pool.wake)
            except BaseException:
                sock.close()
                raise
            self.link = self._log_on(wire)
        except BaseException as error:  # noqa: BLE001 - those who wait raise it
            # No exception goes on from here: its frames know the password.
            self.failure = _why(error, self.key)
            if wire is not None:
                wire.stream.close()
                if not wire.is_made:
                    wire.stream.release()
        finally:
            self._giving_up.over()
        _pool.made(self)

    def _log_on(self, wire: Wire) -> Link:
        remote = self.key.remote
        wire.connect(timeout=None)
        if wire.dialect < Dialects.SMB_2_1_0:
            raise _RefusedError(_too_old)
        if min(wire.max_read_size, wire.max_write_size, wire.max_transact_size) < _SMALLEST:
            raise _RefusedError(_too_small)
        name = remote.username
        if name is not None and remote.domain is not None:
            name = f"{remote.domain}\\{name}"
        session = Session(
            wire,
            name,
            remote._reveal(),  # noqa: SLF001 - for this very purpose
            require_encryption=remote.encrypt is True,
            auth_protocol=remote.auth,
        )
        try:
            session.connect()
        finally:
            session.password = None
        wire.outstanding_requests.session_id = session.session_id
        tree = TreeConnect(session, rf"\\{self.key.host}\IPC$")
        tree.connect()
        if remote.encrypt is False and (session.encrypt_data or tree.encrypt_data):
            raise _RefusedError(_is_encrypted)
        return Link(self.key, wire, session, tree)


class _RefusedError(Exception):
    def __init__(self, failure: Callable[[str | None, _Key], PipeError]) -> None:
        super().__init__()
        self.failure = failure


def _too_old(name: str | None, key: _Key) -> PipeError:
    detail = f"{key.host} speaks SMB 2.0.2 at most, and npipe 2.1 to 3.1.1"
    return PipeStateError(WinError.NOT_SUPPORTED, name, _DOING, detail)


def _too_small(name: str | None, key: _Key) -> PipeError:
    detail = f"{key.host} takes or gives less than {_SMALLEST:,} bytes at once, and may cut messages"
    return PipeStateError(WinError.NOT_SUPPORTED, name, _DOING, detail)


def _is_encrypted(name: str | None, key: _Key) -> PipeError:
    detail = f"{key.host} demands encryption, and the Remote says encrypt=False"
    return PipeStateError(WinError.NOT_SUPPORTED, name, _DOING, detail)


def _why(error: BaseException, key: _Key) -> Callable[[str | None], PipeError]:
    """Return what makes the error of each who waits out of a failure's own, which is not kept."""
    host, remote = key.host, key.remote
    if isinstance(error, _RefusedError):
        failure = error.failure
        return lambda name: failure(name, key)
    if isinstance(error, SMBResponseException):
        status = int(error.header["status"].get_value())
        if status == ACCESS_DENIED and remote.username is None:
            return lambda name: _nobody(name, host)
        return lambda name: not_opened(status, name, host)
    text = str(error)
    if isinstance(error, SMBAuthenticationError):
        return lambda name: _no_proof(name, key, text)
    if isinstance(error, KERBEROS_ERRORS):
        code = getattr(error, "err_code", None)
        if code in _KERBEROS_REFUSES:
            why = _KERBEROS_REFUSES[code]
            return lambda name: PipeAccessError(WinError.LOGON_FAILURE, name, _DOING, why)
        return lambda name: _no_proof(name, key, text)
    if isinstance(error, socket.gaierror):
        return lambda name: PipeNotFoundError(WinError.BAD_NETPATH, name, _DOING, f"no host {host} is known")
    if isinstance(error, NotSignedError):
        detail = f"{text}: somebody in between may have changed it"
        return lambda name: PipeProtocolError(WinError.INVALID_DATA, name, _DOING, detail)
    if isinstance(error, OSError):
        why = (error.strerror or "the connection has ended").lower()
        detail = f"port {remote.port} of {host}: {why}"
        return lambda name: PipeNotFoundError(WinError.BAD_NETPATH, name, _DOING, detail)
    if isinstance(error, SMBException):
        return lambda name: _other(name, key, text)
    if isinstance(error, MemoryError):
        return lambda name: PipeError(WinError.NOT_ENOUGH_MEMORY, name, _DOING)
    kind = type(error).__name__  # smbprotocol could make nothing of an answer
    detail = f"{host} does not answer as an SMB server does ({kind})"
    return lambda name: PipeProtocolError(WinError.INVALID_DATA, name, _DOING, detail)


def _nobody(name: str | None, host: str) -> PipeError:
    detail = f"{host} does not let anonymous users in, and does not know the user of a ticket, if there is one"
    hint = "say who you are: remote=npipe.Remote(username=, password=), or npipe.remote.configure()"
    return PipeAccessError(WinError.ACCESS_DENIED, name, _DOING, detail, hint=hint)


def _no_ticket(name: str | None, key: _Key) -> PipeError:
    return _no_proof(name, key, "")


def _no_proof(name: str | None, key: _Key, text: str) -> PipeError:
    if key.remote.username is None:
        detail = f"it is a pipe of {key.host}, and there is neither a user for that host nor a ticket of Kerberos"
    else:
        detail = f"no proof of who {key.remote.username} is could be made ({_first_sentence(text)})"
    hint = "give remote=npipe.Remote(username=, password=), or npipe.remote.configure() the host; or kinit"
    return PipeStateError(
        WinError.NOT_SUPPORTED, name, _DOING, detail, text="There are no credentials for the host", hint=hint
    )


def _first_sentence(text: str) -> str:
    return text.removeprefix("Failed to authenticate with server: ").splitlines()[0][:200] if text else "no reason"


def _other(name: str | None, key: _Key, text: str) -> PipeError:
    if "encryption is required" in text:
        detail = f"{key.host} cannot encrypt (that takes SMB 3), and the Remote says encrypt=True"
        return PipeStateError(WinError.NOT_SUPPORTED, name, _DOING, detail)
    if "guest" in text:
        detail = f"{key.host} takes the user for a guest, whose connections nothing protects"
        hint = "check username and password"
        return PipeAccessError(WinError.LOGON_FAILURE, name, _DOING, detail, hint=hint)
    if "closed" in text.lower():
        return PipeNotFoundError(
            WinError.BAD_NETPATH, name, _DOING, f"{key.host} has closed the connection before the user was known"
        )
    return PipeProtocolError(WinError.INVALID_DATA, name, _DOING, f"{key.host}: {_first_sentence(text)}")


# ---- All of them


class _Pool:
    """The process's connections."""

    def __init__(self) -> None:
        # One that a thread may take again: a pipe may be collected, and so closed, anywhere.
        self.lock: threading.Condition = threading.Condition(threading.RLock())
        self._links: dict[_Key, Link] = {}
        self._closing: list[Link] = []  # nobody gets them any more: that thread closes them
        self._attempts: dict[_Key, _Attempt] = {}
        self._reaps = False  # a thread closes what is idle
        self._next: float | None = None  # when it looks again

    def lease(self, key: _Key, deadline: float | None, name: str | None, stop: Stop) -> Link:
        """Return a connection, which the caller releases."""
        woken = threading.Event()
        while True:
            stop.check()
            with self.lock:
                link = self._links.get(key)
                if link is not None and not link.lost:
                    link.users += 1
                    return link
                attempt = self._attempts.get(key)
                starts = attempt is None
                if attempt is None:
                    attempt = self._attempts[key] = _Attempt(key)
                attempt.waiters.add(woken)
            try:
                if starts:
                    attempt.start()
                with stop.waking(woken.set):
                    wait_event(woken, deadline)
            finally:
                with self.lock:
                    attempt.waiters.discard(woken)
                    is_over = attempt.is_over
                    gives_up = not (attempt.waiters or is_over)
                    if gives_up and self._attempts.get(key) is attempt:
                        del self._attempts[key]
                if gives_up:
                    attempt.give_up()
            stop.check()
            if not is_over:
                detail = f"{key.host} has not answered in that time"
                hint = "nothing was sent to the pipe; wait longer (timeout=), or check that the host is up"
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, name, _DOING, detail, hint=hint)
            if attempt.failure is not None:
                raise attempt.failure(name)
            with self.lock:
                link = attempt.link
                if link is not None and not link.lost and self._links.get(key) is link:
                    link.users += 1
                    return link
            # It was lost, or closed for nobody had it yet, in just that moment: once more.
            woken.clear()
            if deadline is not None and time.monotonic() >= deadline:
                raise PipeClosedError(WinError.NETNAME_DELETED, name, _DOING)

    def made(self, attempt: _Attempt) -> None:
        """Take over what an attempt has made."""
        unwanted: list[Link] = []
        with self.lock:
            wanted = self._attempts.get(attempt.key) is attempt
            if wanted:
                del self._attempts[attempt.key]
            if attempt.link is not None:
                if wanted:
                    self._links[attempt.key] = attempt.link
                    self._is_idle(attempt.link)
                else:
                    unwanted.append(attempt.link)
            attempt.is_over = True
            for woken in attempt.waiters:
                woken.set()
        for link in unwanted:
            link.close()

    def release(self, link: Link) -> None:
        with self.lock:
            link.users -= 1
            if link.users == 0:
                self._is_idle(link)

    def _is_idle(self, link: Link) -> None:
        """Note that nobody uses it now. The caller has the lock."""
        link.idle_since = time.monotonic()
        if not self._reaps:
            self._reaps = True
            threading.Thread(target=self._reap, name="npipe-smb-idle", daemon=True).start()
        elif self._next is None:
            self.lock.notify()

    def wake(self) -> None:
        """Look for connections that are lost."""
        with self.lock:
            self.lock.notify()

    def _reap(self) -> None:
        """Close what is idle, and forget what is lost, until there is nothing left."""
        while True:
            with self.lock:
                now = time.monotonic()
                over, self._closing = self._closing, []
                self._next = None
                for key, link in list(self._links.items()):
                    until = link.idle_since + IDLE
                    if link.lost or (link.users == 0 and until <= now):
                        over.append(self._links.pop(key))
                    elif link.users == 0:
                        self._next = until if self._next is None else min(self._next, until)
                if not over:
                    if not self._links:
                        self._reaps = False
                        return
                    self.lock.wait(None if self._next is None else self._next - now)
            for link in over:
                link.close()

    def close_idle(self) -> None:
        """Close the connections that nobody uses: whoever comes from now on gets another one."""
        with self.lock:
            for key, link in list(self._links.items()):
                if link.users == 0:
                    self._closing.append(self._links.pop(key))
            self.lock.notify()  # the thread is there: it waits for as long as there is an idle one

    def forget(self) -> None:
        """Have nothing: this is a forked child, and the connections are the parent's."""
        links = [*self._links.values(), *self._closing]
        self.__init__()  # type: ignore[misc]  # its locks may be another thread's, which is not here
        for link in links:
            link.wire.lost = True
            link.wire.stream.forget()


_pool = _Pool()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _pool.forget())


def lease(host: str, remote: Remote, deadline: float | None, name: str | None, stop: Stop = NEVER) -> Link:
    """Return a connection to a host, which the caller releases; it is made if there is none.

    One that is being made, and for which nobody waits any more, is given up.

    Raises:
        PipeNotFoundError: the host is not known or not reached (53), or has no pipes.
        PipeAccessError: it does not accept the user (1326, 5).
        PipeTimeoutError: it has not answered in time (121).
        PipeStateError: there are no credentials, or it cannot do what is demanded (50).
        PipeProtocolError: it is no SMB server, or somebody is in between (13).
        StoppedError: `stop` is set.
    """
    return _pool.lease(_Key(host.lower(), remote), deadline, name, stop)


def close_idle() -> None:
    """Close the connections that no pipe uses, instead of keeping them for a while."""
    _pool.close_idle()


def _has_ticket(host: str, remote: Remote) -> bool:
    """Whether who this process is can be proved without a name: by Kerberos, or on Windows by who is logged on."""
    try:
        client = spnego_client(
            None,
            None,
            service="cifs",
            hostname=host,
            options=NegotiateOptions.session_key,
            protocol=remote.auth,
        )
        client.step(None)
    except (SpnegoError, ImportError):
        return False
    except KERBEROS_ERRORS:
        return False
    return True
