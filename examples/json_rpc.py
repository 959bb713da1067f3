r"""A JSON-RPC 2.0 service on a pipe, and a client whose threads share a pool of connections.

    python examples/json_rpc.py server              # until Ctrl-C
    python examples/json_rpc.py client              # in another terminal; may be started first

One message is one JSON text, so there is no framing. The service knows notifications and batches, and gives the codes
of the specification: -32700 (no JSON), -32600 (no request), -32601 (no such method), -32602 (wrong parameters), and
-32000 for a method that raises. The client asks from eight threads over four connections; a request that may be
carried out twice is sent again when the service is restarted meanwhile.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import npipe

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = r"\\.\pipe\example-json-rpc"

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, SERVER_ERROR = -32700, -32600, -32601, -32602, -32000


# ---- The service


class RpcError(Exception):
    """An error as JSON-RPC says it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Service:
    """Methods by name. Its `answer` is a handler for npipe.serve."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        self._methods = methods

    def answer(self, message: bytes) -> bytes | None:
        """Return the reply, or None where nobody waits for one."""
        try:
            request = json.loads(message)
        except ValueError as error:  # UnicodeDecodeError is one too
            return _json(_failure(None, RpcError(PARSE_ERROR, f"this is no JSON: {error}")))
        if isinstance(request, list) and request:
            replies = [reply for one in request if (reply := self._one(one)) is not None]
            return _json(replies) if replies else None
        reply = self._one(request)
        return None if reply is None else _json(reply)

    def _one(self, request: Any) -> dict[str, Any] | None:
        number = request.get("id") if isinstance(request, dict) else None
        try:
            result = self._call(request)
        except RpcError as error:
            wanted = error.code == INVALID_REQUEST or "id" in request
            return _failure(number, error) if wanted else None
        return {"jsonrpc": "2.0", "id": number, "result": result} if "id" in request else None

    def _call(self, request: Any) -> Any:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            raise RpcError(INVALID_REQUEST, "a request is an object with a method")
        method = self._methods.get(request["method"])
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, f"there is no method {request['method']}")
        params = request.get("params", [])
        if not isinstance(params, list | dict):
            raise RpcError(INVALID_REQUEST, "params is a list or an object")
        try:
            bound = inspect.signature(method).bind(**params) if isinstance(params, dict) else None
            bound = bound or inspect.signature(method).bind(*params)
        except TypeError as error:
            raise RpcError(INVALID_PARAMS, str(error)) from error
        try:
            return method(*bound.args, **bound.kwargs)
        except Exception as error:  # the caller is to hear of whatever it is
            raise RpcError(SERVER_ERROR, f"{type(error).__name__}: {error}") from error


def _failure(number: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": error.code, "message": error.message}}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# ---- The client


class Client:
    """Calls methods, from any number of threads. `timeout` is in seconds, and for a service that is to start, too."""

    def __init__(self, name: str, size: int = 4, timeout: float = 20.0) -> None:
        self._pool = npipe.Pool(name, size, wait_for_server=True, timeout=timeout)
        self._timeout = timeout
        self._numbers = itertools.count(1)

    def call(self, method: str, *params: Any, retry: bool = False) -> Any:
        """Call a method and return its result.

        Args:
            method: its name.
            params: its arguments, values of JSON.
            retry: the method may be carried out twice.

        Raises:
            RpcError: what the service says.
            npipe.PipeError: no answer came; its `sent` tells whether the method may have been called.
        """
        number = next(self._numbers)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        reply = json.loads(self._pool.call(_json(request), timeout=self._timeout, retry=retry))
        if "error" in reply:
            raise RpcError(reply["error"]["code"], reply["error"]["message"])
        return reply["result"]

    def notify(self, method: str, *params: Any) -> None:
        """Call a method without waiting for it, and without hearing of its result."""
        with npipe.connect(self._pool.name, wait_for_server=True, timeout=self._timeout) as pipe:
            pipe.send(_json({"jsonrpc": "2.0", "method": method, "params": params}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()


# ---- The two programs


def serve(name: str) -> None:
    """Serve until Ctrl-C."""
    counted: dict[str, int] = {}
    lock = threading.Lock()  # each client has a thread of its own

    def divide(a: float, b: float) -> float:
        return a / b

    def join(words: list[str], by: str = " ") -> str:
        return by.join(words)

    def count(what: str) -> int:
        with lock:
            counted[what] = counted.get(what, 0) + 1
            return counted[what]

    service = Service(divide=divide, join=join, count=count)
    with npipe.serve(name, service.answer) as server:
        print(f"serving {server.name}; Ctrl-C ends it", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print(f"{server.stats.answered} requests answered", flush=True)


def ask(name: str, timeout: float) -> None:
    """Ask the service some questions."""
    with Client(name, timeout=timeout) as client, ThreadPoolExecutor(8) as threads:
        print(client.call("join", ["one", "message", "each"]))

        def half(number: int) -> Any:
            return client.call("divide", number, 2, retry=True)

        print(list(threads.map(half, range(16))))
        counts = threads.map(client.call, ["count"] * 100, ["calls"] * 100)
        print(sorted(counts) == list(range(1, 101)))
        for method, params in ("divide", [1, 0]), ("divide", [1]), ("multiply", [2, 2]):
            try:
                client.call(method, *params)
            except RpcError as error:
                print(error.code, error.message)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A JSON-RPC service on a pipe, and its client.")
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--name", default=NAME, help="the pipe's name (%(default)s)")
    parser.add_argument("--timeout", type=float, default=20, help="seconds that the client waits (%(default)s)")
    arguments = parser.parse_args()
    try:
        if arguments.role == "server":
            serve(arguments.name)
        else:
            ask(arguments.name, arguments.timeout)
    except npipe.PipeError as error:  # no service, or a name that somebody serves already: the text says which
        sys.exit(str(error))


if __name__ == "__main__":
    main()
