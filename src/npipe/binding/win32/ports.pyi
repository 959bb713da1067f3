from npipe.binding.win32.handles import PyHANDLE, _AnyHandle
from npipe.binding.win32.overlapped import OVERLAPPED

def CreateIoCompletionPort(
    handle: _AnyHandle, existing: _AnyHandle | None, completionKey: int, numThreads: int
) -> PyHANDLE: ...
def GetQueuedCompletionStatus(hPort: _AnyHandle, timeOut: int) -> tuple[int, int, int, OVERLAPPED | None]: ...
def PostQueuedCompletionStatus(
    hPort: _AnyHandle, numberOfbytes: int = 0, completionKey: int = 0, overlapped: OVERLAPPED | None = None
) -> None: ...
