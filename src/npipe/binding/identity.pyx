# cython: language_level=3, binding=True
"""Whom a thread acts as."""

from npipe.binding.engine cimport (
    np_credentials, np_is_impersonating, np_own_credentials, np_revert, np_settle_identity,
)

import os

from npipe import options
from npipe.win32_error import make_error


def effective_uid():
    """The user whom this thread acts as; a thread that was started by one that acted as a client acts for the process.
    """
    np_settle_identity()
    return os.geteuid()


options.effective_uid = effective_uid  # for whom a Security is resolved


def is_impersonating():
    """Whether this thread acts as a client."""
    return bool(np_is_impersonating())


def own_credentials():
    """(uid, gid, groups) of the process, whomever this thread acts as."""
    cdef np_credentials who
    if not np_own_credentials(&who):
        raise make_error(1314, "OpenProcessToken")
    return who.uid, who.gid, tuple([who.groups[i] for i in range(who.n_groups)])


def RevertToSelf():
    """RevertToSelf: no error when this thread acts as itself already.

    A thread that got a client's credentials from the one that started it gets the process's own. Raises 1314 where the
    process's own cannot be had any more.
    """
    if not np_revert():
        raise make_error(1314, "RevertToSelf")
