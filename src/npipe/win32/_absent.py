"""Why a module of pywin32's name has not all of its names: for who asks for one, and for the test of the list."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["REASONS", "reason_of"]

_WINDOWS: Final = "windows, menus, the mouse and the keyboard"
_REGISTRY: Final = "the registry"
_SOCKETS: Final = "sockets: use socket or asyncio"
_SERIAL: Final = "serial lines: use pyserial"
_DISKS: Final = "disks and volumes: use os.statvfs, shutil.disk_usage"
_ENCRYPTION: Final = "NTFS's encryption"
_BACKUP: Final = "NTFS's streams and backups"
_FILES: Final = "files, which os and shutil copy, link and watch"
_LOCKS: Final = "locks of parts of a file: use fcntl.lockf"
_CHANGES: Final = "changes in folders: use inotify"
_MAILSLOTS: Final = "mailslots, which are no pipes"
_LIBRARIES: Final = "libraries for Windows and what is in them"
_LANGUAGES: Final = "Windows' languages and formats: use locale"
_CLOCK: Final = "setting the clock, and zones by Windows' names: use zoneinfo"
_MACHINE: Final = "this machine's power, memory and processors: use os, psutil"
_PRIORITIES: Final = "priorities, processors and memory of a process: use os, psutil"
_MEMORY: Final = "another process's memory"
_DESKTOPS: Final = "desktops and devices of Windows"
_MANAGER: Final = "the service control manager: a service runs in the foreground, with 'debug'"
_DOMAINS: Final = "domains and directory services"
_POLICIES: Final = "policies and logon sessions of Windows"
_NETWORK_LOGON: Final = "authentication over networks (SSPI)"
_ANOTHER_USER: Final = "acting as a user by a password: only ImpersonateNamedPipeClient does, for root"
_COM: Final = "COM"
_DEVICES: Final = "devices: disks, tapes, CD changers, volumes"
_OTHER_ERRORS: Final = "codes of parts of Windows that pipes, files, processes and security do not pass on"

_COMPLETE_ERRORS: Final = (
    "ERROR_([A-Z]+_)?PIPE|ERROR_(MORE|NO)_DATA$|ERROR_IO_(?!REISSUE|PREEMPTED)|WAIT_|ERROR_SERVICE_(?!EXISTS_AS)"
)
_COMPLETE_CONSTANTS: Final = (
    "FILE_|PIPE_|NMPWAIT_|GENERIC_|STANDARD_RIGHTS|SECURITY_|SE_|TOKEN_|ACL_|DOMAIN_|LOGON32_|SERVICE_|EVENTLOG_"
    "|PROCESS_(?!HEAP)|THREAD_|CREATE_(?!PROCESS_DEBUG|THREAD_DEBUG)|STARTF_|STATUS_|WAIT_|DUPLICATE_|HANDLE_"
    "|MUTEX_|SEMAPHORE_|CTRL_|FORMAT_MESSAGE_|MOVEFILE_|DRIVE_|KEY_|STILL_|MAXIMUM_ALLOWED|SYNCHRONIZE"
)
_COMPLETE_CODES: Final = "FILE_(DEVICE|ANY|SPECIAL|READ|WRITE)|METHOD_|CTL_CODE|DEVICE_TYPE"

REASONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    # Of lists of thousands what is complete is named, and all else is about something else.
    "winerror": ((f"(?!{_COMPLETE_ERRORS}).*", _OTHER_ERRORS),),
    "win32con": ((f"(?!{_COMPLETE_CONSTANTS}).*", f"{_WINDOWS}, printers, sound, memory"),),
    "ntsecuritycon": (
        ("(DS|NTDS|ACTRL_DS|FRSCONN|GUID).*", _DOMAINS),
        ("(SI|CFSTR|PSPCB)_.*", "dialogs about security"),
    ),
    "winioctlcon": ((f"(?!{_COMPLETE_CODES}).*", _DEVICES),),
    "win32console": ((".*", "consoles, which Linux has not: a terminal is a file"),),
    "win32gui": ((".*", "windows, menus and dialogs"),),
    "pywintypes": (
        ("DEVMODEW?Type", "printers and displays"),
        ("WAVEFORMATEX", "sound"),
        ("HKEY", _REGISTRY),
        ("DosDateTimeToTime", "times of FAT"),
        ("UnicodeFromRaw|IsTextUnicode", "text of Python 2: use bytes.decode"),
    ),
    "win32event": (("WaitForInputIdle", _WINDOWS),),
    "win32file": (
        ("_BufferT", "of the stubs alone"),
        (".*(Comm|DCB)[A-Z]?.*|CBR_.*|EV_.*|(SET|CLR)(BREAK|DTR|RTS|XO.*)", _SERIAL),
        ("(DTR|RTS)_CONTROL_.*|PURGE_.*|.*PARITY|.*STOPBITS?", _SERIAL),
        ("WSA.*|FD_.*|SO_.*|TF_.*|TransmitFile|ConnectEx|AcceptEx|.*Sockaddrs|CalculateSocket.*", _SOCKETS),
        (".*Mailslot.*", _MAILSLOTS),
        (".*(Encrypt|Decrypt).*|FILE_(ENCRYPTABLE|IS_ENCRYPTED|READ_ONLY|ROOT_DIR)", _ENCRYPTION),
        ("FILE_(SYSTEM_.*|UNKNOWN|USER_DISALLOWED)|CREATE_FOR_.*|OVERWRITE_HIDDEN", _ENCRYPTION),
        ("Backup.*|FindStreams|SetFileShortName|Sfc.*", _BACKUP),
        (".*(Volume|Drive|DosDevice|DiskFree).*|GetCompressedFileSize", _DISKS),
        ("(Lock|Unlock)File(Ex)?", _LOCKS),
        (".*Change.*|FILE_NOTIFY_INFORMATION", _CHANGES),
        ("(Copy|Move)FileE?x?.*|CopyFileEx|ReplaceFile|COPY_FILE_.*|PROGRESS_.*|CALLBACK_.*|REPLACEFILE_.*", _FILES),
        (
            "CreateDirectoryEx.*|Create(HardLink|SymbolicLink)|SYMBOLIC_LINK_.*|FindFileNames|SetCurrentDirectory",
            _FILES,
        ),
        ("FindClose", "FindFilesIterator closes what it has opened"),
        ("SetFileInformationByHandle|ReOpenFile|OpenFileById|File.*Info|(File|Object)IdType|IoPriority.*", _FILES),
        (".*FileApis.*|Wow64.*|GetBinaryType|SCS_.*", "programs of older Windows"),
    ),
    "win32api": (
        ("_.*|PyDISPLAY.*", "of the stubs alone"),
        ("Reg.*|REG_NOTIFY_.*|(Get|Write)Profile.*", _REGISTRY),
        (".*(Cursor|Display|Monitor|Keyboard|Key|Window|Class|SysColor|Focus|Message|Beep)[A-Z]?.*", _WINDOWS),
        (
            "Drag.*|(keybd|mouse)_event|RGB|MapVirtualKey|ToAsciiEx|.*SystemMetrics|GetLastInputInfo|WinHelp|Apply",
            _WINDOWS,
        ),
        (".*(Resource|Library|ProcAddress|DllDirectory|ModuleHandle|LoadString|FileVersionInfo).*", _LIBRARIES),
        ("V(FT|OS|S)_.*", _LIBRARIES),
        (".*(Locale|LCID|LangID|DateFormat|TimeFormat)", _LANGUAGES),
        ("(Set(Local|System)Time|.*TimeZoneInformation)", _CLOCK),
        (".*(Power|Pwr|Memory|FileCache|CpuSet).*|.*Shutdown|ExitWindows(Ex)?", _MACHINE),
        ("Get(DiskFreeSpace(Ex)?|LogicalDrive.*|VolumeInformation)", _DISKS),
        ("Find(First|Next|Close)Change.*", _CHANGES),
        ("Get(Windows|System)Directory|GetVersion(Ex)?|GetComputerObjectName", "what only Windows has: use platform"),
        (".*ConsoleTitle", "the title of a console"),
        ("ShellExecute|FindExecutable|WinExec", "the shell of Windows: use win32process.CreateProcess"),
        ("DebugBreak", "a debugger"),
    ),
    "win32process": (
        (".*(Priority|Affinity|IdealProcessor|WorkingSet|MemoryInfo|IoCounters|Shutdown|IOPending).*", _PRIORITIES),
        ("GetThreadTimes|GetProcessVersion|GetPriorityClass|SetPriorityClass", _PRIORITIES),
        ("CreateRemoteThread|(Read|Write)ProcessMemory|Virtual.*", _MEMORY),
        ("EnumProcessModules(Ex)?|LIST_MODULES_.*", _LIBRARIES),
        ("GetWindowThreadProcessId|AttachThreadInput|GetGuiResources|GetProcessWindowStation", _WINDOWS),
        ("CreateProcessAsUser", _ANOTHER_USER),
    ),
    "win32security": (
        ("Ds.*|DS_.*|TranslateName|STYPE_.*", _DOMAINS),
        (
            "Lsa.*|POLICY_.*|Policy.*|Audit.*|Trusted.*|GetPolicyHandle|MICROSOFT_.*|MSV1_.*|AllocateLocally.*",
            _POLICIES,
        ),
        (".*(SecurityContext|SecurityPackage|CredentialsHandle|CredHandle|CtxtHandle|SecBuffer).*", _NETWORK_LOGON),
        ("SECPKG_.*|QuerySecurityPackageInfo|EnumerateSecurityPackages|CryptEnumProviders", _NETWORK_LOGON),
        ("LogonUser(Ex)?|ImpersonateAnonymousToken", _ANOTHER_USER),
        (
            "CreateRestrictedToken|DISABLE_MAX_PRIVILEGE|SANDBOX_INERT|AdjustTokenGroups|SetTokenInformation",
            "lesser tokens",
        ),
        (".*UserObjectSecurity", _DESKTOPS),
    ),
    "win32service": (
        (".*(Desktop|WindowStation|UserObject).*|DBT_.*|DF_.*|UOI_.*|WSF_.*|H(DESK|WINSTA)Type", _DESKTOPS),
        (".*Service.*|OpenSCManager|SC_ENUM_.*|SC_GROUP_.*", _MANAGER),
    ),
    "win32serviceutil": (("(Locate|Smart|InstallP).*|(Get|Set)ServiceCustomOption", _MANAGER),),
    "servicemanager": (("Co(Un)?[Ii]nitialize(Ex)?|COINIT_.*", _COM),),
    "win32timezone": (
        ("_.*|log", "of pywin32's own"),
        (".*(SYSTEMTIME|TIME_ZONE_INFORMATION|TimeZoneDefinition|TZ|RangeMap|DLL|MUI).*", _CLOCK),
    ),
}


def reason_of(module: str, name: str) -> str | None:
    """Return why a module of pywin32's has not a name that pywin32 has; None for a name that is not known."""
    for pattern, reason in REASONS.get(module, ()):
        if re.fullmatch(pattern, name):
            return reason
    return None
