# What the handles of pipes and files stand for.

from libc.stdint cimport uint64_t

from npipe.binding.engine cimport np_follow, np_gate, np_gate_leave, np_handle, np_run
from npipe.binding.win32.handles cimport Target, open_target, target_of
from npipe.binding.win32.overlapped cimport OVERLAPPED


cdef class PipeTarget(Target):
    cdef np_handle *handle
    cdef bint overlapped
    cdef np_gate gate  # of a synchronous handle: one operation at a time (SEMANTICS §6.4)
    cdef Target port
    cdef list pollers  # that are told when a read has changed what there is to read, or None
    cdef uint64_t key
    cdef np_run run  # reads since the last one that has waited, or let others go first
    cdef readonly str name
    cdef public object partner  # of an end that CreatePipe has made: a weak reference to the other one's
    # What the security of the pipe is known by in this process, and the rights that the handle was opened with.
    cdef public object security, rights

    cdef np_handle *valid(self, str function) except NULL
    cdef int enter(self, str function) except -1
    cdef int rearm(self) except -1
    cdef bint bind(self, Target port, uint64_t key) except -1
    cdef Target bound_to(self, uint64_t *key)


cdef class FileTarget(Target):
    cdef readonly object file
    cdef readonly bint overlapped


cdef class FollowingTarget(FileTarget):
    cdef np_follow follow


cdef object descriptor_of(Target target)
cdef PipeTarget refuse(Target target, str function)
cdef Target look_up_for(handle, OVERLAPPED overlapped, str function)


cdef inline PipeTarget pipe_of(handle, str function):
    """The pipe that `handle` stands for; raises 6, as for any other kind of object but a file."""
    cdef Target target = target_of(handle, function)
    return <PipeTarget>target if type(target) is PipeTarget else refuse(target, function)


cdef inline Target target_for(handle, OVERLAPPED overlapped, str function):
    """As target_of. Of what is started on no handle at all the OVERLAPPED says that it is pending, as Windows leaves
    it, and the event stays as it is.
    """
    cdef Target target = open_target(handle)
    return target if target is not None else look_up_for(handle, overlapped, function)


cdef inline void leave(PipeTarget pipe) noexcept:
    """End an operation on a synchronous handle."""
    np_gate_leave(&pipe.gate)
