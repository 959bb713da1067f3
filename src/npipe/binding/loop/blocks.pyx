# cython: language_level=3, binding=True
"""What npipe.aio's reserve and recv_view return."""

cimport cython
from libc.stdint cimport uint32_t

from npipe.binding.engine cimport NP_OK, np_forks, np_poll_wake_deferred, np_view_put_back
from npipe.binding.loop.calls cimport PipeState, ReceiveView, Reserve, prepare
from npipe.binding.loop.polled cimport PolledHandle
from npipe.binding.system cimport look_at_word
from npipe.binding.views cimport OUT, Received, Reserved

from npipe.errors import PipeClosedError
from npipe.reasons import closed_by_fork, still_exported


@cython.no_gc_clear
cdef class LoopReservation(Reserved):
    """What npipe.aio.MessagePipe.reserve returns."""

    cdef PipeState pipe

    def __cinit__(self, handle, size, timeout, PipeState pipe not None):
        self.pipe = pipe

    def __dealloc__(self):
        if self.stage == OUT:
            self.finish(False, False)

    cdef unsigned int finish(self, bint commit, bint exported):
        cdef unsigned int code
        self.pipe.end_reserving(self)
        code = self.end(commit, exported)
        if self.pipe._waker is not None:
            self.pipe._waker.wake_all()  # what stood behind it may have gone into the pipe
        return code

    def __aenter__(self):
        cdef Reserve call = Reserve.__new__(Reserve)
        prepare(call, self.pipe, self.timeout, "MessagePipe.reserve")
        call.data = self
        return call

    async def __aexit__(self, kind, error, trace):
        cdef bint exported, commit
        if not self.leave():
            return
        exported = self.take_view()
        commit = kind is None and not exported
        code = self.finish(commit, exported)
        if kind is not None:
            return
        if exported:
            raise still_exported(self.handle.name, writes=True)
        if self.handle.forks != np_forks:
            raise closed_by_fork(self.handle.name, "sending")
        if self.private is not None:
            await self.pipe.send(memoryview(self.private)[:look_at_word(&self.size)], timeout=self.timeout)
        elif code != NP_OK:
            failed = self.handle.explain(code, "sending")
            raise self.pipe._explained(failed) if isinstance(failed, PipeClosedError) else failed


@cython.no_gc_clear
cdef class LoopView(Received):
    """What npipe.aio.MessagePipe.recv_view returns."""

    cdef PipeState pipe

    def __cinit__(self, handle, timeout, copied, PipeState pipe not None):
        self.pipe = pipe

    def __dealloc__(self):
        if self.stage == OUT:
            self.finish(False, False)

    def __aenter__(self):
        cdef ReceiveView call = ReceiveView.__new__(ReceiveView)
        prepare(call, self.pipe, self.timeout, "MessagePipe.recv_view")
        call.data = self
        return call

    cdef unsigned int finish(self, bint consume, bint exported):
        cdef PolledHandle handle = <PolledHandle>self.handle
        cdef unsigned int code
        cdef bint in_place = self.private is None
        if consume:
            code = self.end(True, exported)
        else:
            code = self.withdraw(exported)
        handle.end_reading()
        if in_place and consume and code == NP_OK and handle.owed:
            handle.has_delivered()
        return code

    cdef uint32_t withdraw(self, bint exported) noexcept:
        cdef PolledHandle handle = <PolledHandle>self.handle
        if self.private is not None and handle.forks == np_forks:
            np_view_put_back(handle.handle, &self.place, self.data, self.length)
            handle.owed += self.answers
        return self.end(False, exported)

    async def __aexit__(self, kind, error, trace):
        cdef bint exported
        if not self.leave():
            return
        exported = self.take_view()
        code = self.finish(kind is None, exported)
        if self.handle.forks != np_forks:
            return
        if self.pipe.native is not None and np_poll_wake_deferred((<PolledHandle>self.handle).handle):
            self.pipe.native.plan_pause()
        if kind is not None:
            return
        if exported:
            raise still_exported(self.handle.name, writes=False)
        if code != NP_OK:
            raise self.handle.explain(code, "receiving a message")
