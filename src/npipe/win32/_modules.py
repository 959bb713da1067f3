"""Which of pywin32's modules there are, and why not the others: the one list of both."""

from __future__ import annotations

from typing import Final

__all__ = ["ABSENT", "NAMES"]

NAMES: Final = (
    "pywintypes",
    "winerror",
    "win32con",
    "ntsecuritycon",
    "winioctlcon",
    "win32timezone",
    "win32api",
    "win32event",
    "win32file",
    "win32pipe",
    "win32process",
    "win32security",
    "win32service",
    "win32serviceutil",
    "servicemanager",
    "win32console",
    "win32gui",
)
"""The modules of pywin32 that there are. The last two are empty: they are imported, and asked for a name they say why
they have none."""

_WINDOWS: Final = "windows, menus and dialogs"
_COM: Final = "COM"
_LOG: Final = "Windows' event log; servicemanager's LogMsg and its like print"
_NETWORK: Final = "networks and their accounts"
_COUNTERS: Final = "Windows' performance counters"
_CRYPTO: Final = "Windows' certificates and credentials"
_MODEMS: Final = "dialling into networks"

ABSENT: Final = {
    "_win32sysloader": "pywin32's own loading of libraries",
    "_winxptheme": _WINDOWS,
    "adodbapi": "databases",
    "afxres": _WINDOWS,
    "commctrl": _WINDOWS,
    "dde": "Dynamic Data Exchange",
    "isapi": "Microsoft's web server",
    "mmapfile": "mappings of memory by name: use mmap",
    "mmsystem": "sound",
    "netbios": _NETWORK,
    "odbc": "databases",
    "perfmon": _COUNTERS,
    "pythoncom": _COM,
    "pythonwin": _WINDOWS,
    "rasutil": _MODEMS,
    "regcheck": "the registry",
    "regutil": "the registry",
    "sspi": "authentication over networks",
    "sspicon": "authentication over networks",
    "timer": "timers by messages of windows: use threading.Timer, or win32event's waitable timers",
    "win2kras": _MODEMS,
    "win32clipboard": _WINDOWS,
    "win32com": _COM,
    "win32comext": _COM,
    "win32cred": _CRYPTO,
    "win32crypt": _CRYPTO,
    "win32cryptcon": _CRYPTO,
    "win32evtlog": _LOG,
    "win32evtlogutil": _LOG,
    "win32gui_struct": _WINDOWS,
    "win32help": _WINDOWS,
    "win32inet": "the internet, as Internet Explorer had it",
    "win32inetcon": "the internet, as Internet Explorer had it",
    "win32job": "job objects: a process group, or a cgroup, is what Linux has",
    "win32lz": "compressed files",
    "win32net": _NETWORK,
    "win32netcon": _NETWORK,
    "win32pdh": _COUNTERS,
    "win32pdhquery": _COUNTERS,
    "win32pdhutil": _COUNTERS,
    "win32print": "printers",
    "win32profile": "profiles of users",
    "win32ras": _MODEMS,
    "win32rcparser": _WINDOWS,
    "win32trace": "a debugger's output from another process",
    "win32traceutil": "a debugger's output from another process",
    "win32transaction": "transactions of NTFS",
    "win32ts": "terminal sessions; win32pipe tells which session a pipe's client is in",
    "win32ui": _WINDOWS,
    "win32uiole": _WINDOWS,
    "win32verstamp": "the version in a program for Windows",
    "win32wnet": _NETWORK,
    "winnt": "constants of a C header: win32con and ntsecuritycon have those that are about pipes",
    "winperf": _COUNTERS,
    "winxpgui": _WINDOWS,
    "winxptheme": _WINDOWS,
}
"""Other modules that pywin32's wheel has: what they are about, which is no pipes."""
