"""pywin32's `win32security`, as far as pipes need it: who may connect, acting as the client, and whom a token is of.

Descriptors are made as on Windows (SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR, ACL, SID) and say who may connect to a
pipe; `npipe.win32._access` tells how. A name that is not here raises `AttributeError`.
"""
# ruff: noqa: N802, S105 - pywin32's names; a privilege is no password

from __future__ import annotations

import grp  # noqa: F401 - now: who acts as a client later may not be allowed to read the library
import pwd  # noqa: F401
from typing import TYPE_CHECKING, Final

from npipe import win32_error as _error
from npipe.win32 import _named_security, _object_security, _privileges, _sddl, _security, _sid, _tokens
from npipe.win32._offered import _no_such

error = _error.error

SECURITY_ATTRIBUTES = _security.SECURITY_ATTRIBUTES
SECURITY_DESCRIPTOR = _security.SECURITY_DESCRIPTOR
ACL = _security.ACL
SID = _sid.SID

ConvertStringSidToSid: Final = _sid.ConvertStringSidToSid
GetBinarySid: Final = _sid.ConvertStringSidToSid
ConvertSidToStringSid: Final = _sid.ConvertSidToStringSid
CreateWellKnownSid: Final = _sid.CreateWellKnownSid
LookupAccountName: Final = _sid.LookupAccountName
LookupAccountSid: Final = _sid.LookupAccountSid

SDDL_REVISION_1: Final = _sddl.SDDL_REVISION_1
ConvertSecurityDescriptorToStringSecurityDescriptor: Final = _sddl.ConvertSecurityDescriptorToStringSecurityDescriptor
ConvertStringSecurityDescriptorToSecurityDescriptor: Final = _sddl.ConvertStringSecurityDescriptorToSecurityDescriptor

# --- Acting as the client --------------------------------------------------------------------------------------


def ImpersonateNamedPipeClient(handle: object) -> None:
    """Let this thread act as the client at the other end of a pipe, of which something has been read (SEMANTICS §11).

    `error` 1368 when nothing has been read, 1 at a client's end, 1314 when this process may not.
    """
    from npipe.binding.win32 import targets as _targets  # here: whoever only makes descriptors needs no engine

    _targets.ImpersonateNamedPipeClient(handle)  # type: ignore[attr-defined,unused-ignore]


RevertToSelf: Final = _tokens.RevertToSelf
ImpersonateSelf: Final = _tokens.ImpersonateSelf
ImpersonateLoggedOnUser: Final = _tokens.ImpersonateLoggedOnUser
SetThreadToken: Final = _tokens.SetThreadToken

# --- Tokens: whom a process, or this thread, acts for ------------------------------------------------------------

OpenProcessToken: Final = _tokens.OpenProcessToken
OpenThreadToken: Final = _tokens.OpenThreadToken
DuplicateToken: Final = _tokens.DuplicateToken
DuplicateTokenEx: Final = _tokens.DuplicateTokenEx
GetTokenInformation: Final = _tokens.GetTokenInformation
CheckTokenMembership: Final = _tokens.CheckTokenMembership
IsTokenRestricted: Final = _tokens.IsTokenRestricted
AdjustTokenPrivileges: Final = _tokens.AdjustTokenPrivileges
LookupPrivilegeDisplayName: Final = _privileges.LookupPrivilegeDisplayName
LookupPrivilegeName: Final = _privileges.LookupPrivilegeName
LookupPrivilegeValue: Final = _privileges.LookupPrivilegeValue

TOKEN_ASSIGN_PRIMARY = 0x1
TOKEN_DUPLICATE = 0x2
TOKEN_IMPERSONATE = 0x4
TOKEN_QUERY = 0x8
TOKEN_QUERY_SOURCE = 0x10
TOKEN_ADJUST_PRIVILEGES = 0x20
TOKEN_ADJUST_GROUPS = 0x40
TOKEN_ADJUST_DEFAULT = 0x80
TOKEN_READ = 0x20008
TOKEN_WRITE = 0x200E0
TOKEN_EXECUTE = 0x20000
TOKEN_ALL_ACCESS = 0xF01FF

TokenUser = 1
TokenGroups = 2
TokenPrivileges = 3
TokenOwner = 4
TokenPrimaryGroup = 5
TokenDefaultDacl = 6
TokenSource = 7
TokenType = 8
TokenImpersonationLevel = 9
TokenStatistics = 10
TokenRestrictedSids = 11
TokenSessionId = 12
TokenGroupsAndPrivileges = 13
TokenSessionReference = 14
TokenSandBoxInert = 15
TokenAuditPolicy = 16
TokenOrigin = 17
TokenElevationType = 18
TokenLinkedToken = 19
TokenElevation = 20
TokenHasRestrictions = 21
TokenAccessInformation = 22
TokenVirtualizationAllowed = 23
TokenVirtualizationEnabled = 24
TokenIntegrityLevel = 25
TokenUIAccess = 26
TokenMandatoryPolicy = 27
TokenLogonSid = 28
TokenPrimary = 1
TokenImpersonation = 2
TokenElevationTypeDefault = 1
TokenElevationTypeFull = 2
TokenElevationTypeLimited = 3
TOKEN_MANDATORY_POLICY_OFF = 0
TOKEN_MANDATORY_POLICY_NO_WRITE_UP = 1
TOKEN_MANDATORY_POLICY_NEW_PROCESS_MIN = 2
TOKEN_MANDATORY_POLICY_VALID_MASK = 3

SE_PRIVILEGE_ENABLED_BY_DEFAULT = 0x1
SE_PRIVILEGE_ENABLED = 0x2
SE_PRIVILEGE_REMOVED = 0x4
SE_PRIVILEGE_USED_FOR_ACCESS = -0x80000000

SE_GROUP_MANDATORY = 0x1
SE_GROUP_ENABLED_BY_DEFAULT = 0x2
SE_GROUP_ENABLED = 0x4
SE_GROUP_OWNER = 0x8
SE_GROUP_USE_FOR_DENY_ONLY = 0x10
SE_GROUP_INTEGRITY = 0x20
SE_GROUP_INTEGRITY_ENABLED = 0x40
SE_GROUP_RESOURCE = 0x20000000
SE_GROUP_LOGON_ID = -0x40000000

LOGON32_LOGON_INTERACTIVE = 2
LOGON32_LOGON_NETWORK = 3
LOGON32_LOGON_BATCH = 4
LOGON32_LOGON_SERVICE = 5
LOGON32_LOGON_UNLOCK = 7
LOGON32_LOGON_NETWORK_CLEARTEXT = 8
LOGON32_LOGON_NEW_CREDENTIALS = 9
LOGON32_PROVIDER_DEFAULT = 0
LOGON32_PROVIDER_WINNT35 = 1
LOGON32_PROVIDER_WINNT40 = 2
LOGON32_PROVIDER_WINNT50 = 3

# --- Security descriptors and their texts ----------------------------------------------------------------------

OWNER_SECURITY_INFORMATION = 0x1
GROUP_SECURITY_INFORMATION = 0x2
DACL_SECURITY_INFORMATION = 0x4
SACL_SECURITY_INFORMATION = 0x8
LABEL_SECURITY_INFORMATION = 0x10
UNPROTECTED_SACL_SECURITY_INFORMATION = 0x10000000
UNPROTECTED_DACL_SECURITY_INFORMATION = 0x20000000
PROTECTED_SACL_SECURITY_INFORMATION = 0x40000000
PROTECTED_DACL_SECURITY_INFORMATION = -0x80000000

SE_OWNER_DEFAULTED = 0x1
SE_GROUP_DEFAULTED = 0x2
SE_DACL_PRESENT = 0x4
SE_DACL_DEFAULTED = 0x8
SE_SACL_PRESENT = 0x10
SE_SACL_DEFAULTED = 0x20
SE_DACL_AUTO_INHERITED = 0x400
SE_SACL_AUTO_INHERITED = 0x800
SE_DACL_PROTECTED = 0x1000
SE_SACL_PROTECTED = 0x2000
SE_SELF_RELATIVE = 0x8000

SE_UNKNOWN_OBJECT_TYPE = 0
SE_FILE_OBJECT = 1
SE_SERVICE = 2
SE_PRINTER = 3
SE_REGISTRY_KEY = 4
SE_LMSHARE = 5
SE_KERNEL_OBJECT = 6
SE_WINDOW_OBJECT = 7
SE_DS_OBJECT = 8
SE_DS_OBJECT_ALL = 9
SE_PROVIDER_DEFINED_OBJECT = 10
SE_WMIGUID_OBJECT = 11
SE_REGISTRY_WOW64_32KEY = 12

# --- The security of pipes, files and other objects ------------------------------------------------------------

GetFileSecurity: Final = _named_security.GetFileSecurity
GetKernelObjectSecurity: Final = _object_security.GetKernelObjectSecurity
GetNamedSecurityInfo: Final = _named_security.GetNamedSecurityInfo
GetSecurityInfo: Final = _object_security.GetSecurityInfo
MapGenericMask: Final = _object_security.MapGenericMask
SetFileSecurity: Final = _named_security.SetFileSecurity
SetKernelObjectSecurity: Final = _object_security.SetKernelObjectSecurity
SetNamedSecurityInfo: Final = _named_security.SetNamedSecurityInfo
SetSecurityInfo: Final = _object_security.SetSecurityInfo

# --- Access control lists --------------------------------------------------------------------------------------

ACL_REVISION = 2
ACL_REVISION_DS = 4
ACCESS_ALLOWED_ACE_TYPE = 0
ACCESS_DENIED_ACE_TYPE = 1
SYSTEM_AUDIT_ACE_TYPE = 2
ACCESS_ALLOWED_OBJECT_ACE_TYPE = 5
ACCESS_DENIED_OBJECT_ACE_TYPE = 6
SYSTEM_AUDIT_OBJECT_ACE_TYPE = 7
SYSTEM_MANDATORY_LABEL_NO_WRITE_UP = 1
SYSTEM_MANDATORY_LABEL_NO_READ_UP = 2
SYSTEM_MANDATORY_LABEL_NO_EXECUTE_UP = 4
SYSTEM_MANDATORY_LABEL_VALID_MASK = 7

NO_INHERITANCE = 0x0
OBJECT_INHERIT_ACE = 0x1
CONTAINER_INHERIT_ACE = 0x2
NO_PROPAGATE_INHERIT_ACE = 0x4
INHERIT_ONLY_ACE = 0x8
INHERITED_ACE = 0x10
SUCCESSFUL_ACCESS_ACE_FLAG = 0x40
FAILED_ACCESS_ACE_FLAG = 0x80
SUB_OBJECTS_ONLY_INHERIT = 0x1
SUB_CONTAINERS_ONLY_INHERIT = 0x2
SUB_CONTAINERS_AND_OBJECTS_INHERIT = 0x3
NOT_USED_ACCESS = 0
GRANT_ACCESS = 1
SET_ACCESS = 2
DENY_ACCESS = 3
REVOKE_ACCESS = 4
SET_AUDIT_SUCCESS = 5
SET_AUDIT_FAILURE = 6
TRUSTEE_IS_SID = 0
TRUSTEE_IS_NAME = 1
TRUSTEE_BAD_FORM = 2
TRUSTEE_IS_OBJECTS_AND_SID = 3
TRUSTEE_IS_OBJECTS_AND_NAME = 4
TRUSTEE_IS_UNKNOWN = 0
TRUSTEE_IS_USER = 1
TRUSTEE_IS_GROUP = 2
TRUSTEE_IS_DOMAIN = 3
TRUSTEE_IS_ALIAS = 4
TRUSTEE_IS_WELL_KNOWN_GROUP = 5
TRUSTEE_IS_DELETED = 6
TRUSTEE_IS_INVALID = 7
TRUSTEE_IS_COMPUTER = 8

# --- Security identifiers --------------------------------------------------------------------------------------

SECURITY_NULL_SID_AUTHORITY = (0, 0, 0, 0, 0, 0)
SECURITY_WORLD_SID_AUTHORITY = (0, 0, 0, 0, 0, 1)
SECURITY_LOCAL_SID_AUTHORITY = (0, 0, 0, 0, 0, 2)
SECURITY_CREATOR_SID_AUTHORITY = (0, 0, 0, 0, 0, 3)
SECURITY_NON_UNIQUE_AUTHORITY = (0, 0, 0, 0, 0, 4)
SECURITY_NT_AUTHORITY = (0, 0, 0, 0, 0, 5)
SECURITY_RESOURCE_MANAGER_AUTHORITY = (0, 0, 0, 0, 0, 9)

SidTypeUser = 1
SidTypeGroup = 2
SidTypeDomain = 3
SidTypeAlias = 4
SidTypeWellKnownGroup = 5
SidTypeDeletedAccount = 6
SidTypeInvalid = 7
SidTypeUnknown = 8
SidTypeComputer = 9

WinNullSid = 0
WinWorldSid = 1
WinLocalSid = 2
WinCreatorOwnerSid = 3
WinCreatorGroupSid = 4
WinCreatorOwnerServerSid = 5
WinCreatorGroupServerSid = 6
WinNtAuthoritySid = 7
WinDialupSid = 8
WinNetworkSid = 9
WinBatchSid = 10
WinInteractiveSid = 11
WinServiceSid = 12
WinAnonymousSid = 13
WinProxySid = 14
WinEnterpriseControllersSid = 15
WinSelfSid = 16
WinAuthenticatedUserSid = 17
WinRestrictedCodeSid = 18
WinTerminalServerSid = 19
WinRemoteLogonIdSid = 20
WinLogonIdsSid = 21
WinLocalSystemSid = 22
WinLocalServiceSid = 23
WinNetworkServiceSid = 24
WinBuiltinDomainSid = 25
WinBuiltinAdministratorsSid = 26
WinBuiltinUsersSid = 27
WinBuiltinGuestsSid = 28
WinBuiltinPowerUsersSid = 29
WinBuiltinAccountOperatorsSid = 30
WinBuiltinSystemOperatorsSid = 31
WinBuiltinPrintOperatorsSid = 32
WinBuiltinBackupOperatorsSid = 33
WinBuiltinReplicatorSid = 34
WinBuiltinPreWindows2000CompatibleAccessSid = 35
WinBuiltinRemoteDesktopUsersSid = 36
WinBuiltinNetworkConfigurationOperatorsSid = 37
WinAccountAdministratorSid = 38
WinAccountGuestSid = 39
WinAccountKrbtgtSid = 40
WinAccountDomainAdminsSid = 41
WinAccountDomainUsersSid = 42
WinAccountDomainGuestsSid = 43
WinAccountComputersSid = 44
WinAccountControllersSid = 45
WinAccountCertAdminsSid = 46
WinAccountSchemaAdminsSid = 47
WinAccountEnterpriseAdminsSid = 48
WinAccountPolicyAdminsSid = 49
WinAccountRasAndIasServersSid = 50
WinNTLMAuthenticationSid = 51
WinDigestAuthenticationSid = 52
WinSChannelAuthenticationSid = 53
WinThisOrganizationSid = 54
WinOtherOrganizationSid = 55
WinBuiltinIncomingForestTrustBuildersSid = 56
WinBuiltinPerfMonitoringUsersSid = 57
WinBuiltinPerfLoggingUsersSid = 58
WinBuiltinAuthorizationAccessSid = 59
WinBuiltinTerminalServerLicenseServersSid = 60
WinBuiltinDCOMUsersSid = 61
WinBuiltinIUsersSid = 62
WinIUserSid = 63
WinBuiltinCryptoOperatorsSid = 64
WinUntrustedLabelSid = 65
WinLowLabelSid = 66
WinMediumLabelSid = 67
WinHighLabelSid = 68
WinSystemLabelSid = 69
WinWriteRestrictedCodeSid = 70
WinCreatorOwnerRightsSid = 71
WinEnterpriseReadonlyControllersSid = 74
WinAccountReadonlyControllersSid = 75
WinCacheablePrincipalsGroupSid = 72
WinNonCacheablePrincipalsGroupSid = 73
WinBuiltinEventLogReadersGroup = 76

# --- Impersonation levels --------------------------------------------------------------------------------------

SecurityAnonymous = 0
SecurityIdentification = 1
SecurityImpersonation = 2
SecurityDelegation = 3

UNICODE = 1

# --- Names of privileges, and of rights to log on --------------------------------------------------------------

SE_CREATE_TOKEN_NAME = "SeCreateTokenPrivilege"
SE_ASSIGNPRIMARYTOKEN_NAME = "SeAssignPrimaryTokenPrivilege"
SE_LOCK_MEMORY_NAME = "SeLockMemoryPrivilege"
SE_INCREASE_QUOTA_NAME = "SeIncreaseQuotaPrivilege"
SE_UNSOLICITED_INPUT_NAME = "SeUnsolicitedInputPrivilege"
SE_MACHINE_ACCOUNT_NAME = "SeMachineAccountPrivilege"
SE_TCB_NAME = "SeTcbPrivilege"
SE_SECURITY_NAME = "SeSecurityPrivilege"
SE_TAKE_OWNERSHIP_NAME = "SeTakeOwnershipPrivilege"
SE_LOAD_DRIVER_NAME = "SeLoadDriverPrivilege"
SE_SYSTEM_PROFILE_NAME = "SeSystemProfilePrivilege"
SE_SYSTEMTIME_NAME = "SeSystemtimePrivilege"
SE_PROF_SINGLE_PROCESS_NAME = "SeProfileSingleProcessPrivilege"
SE_INC_BASE_PRIORITY_NAME = "SeIncreaseBasePriorityPrivilege"
SE_CREATE_PAGEFILE_NAME = "SeCreatePagefilePrivilege"
SE_CREATE_PERMANENT_NAME = "SeCreatePermanentPrivilege"
SE_BACKUP_NAME = "SeBackupPrivilege"
SE_RESTORE_NAME = "SeRestorePrivilege"
SE_SHUTDOWN_NAME = "SeShutdownPrivilege"
SE_DEBUG_NAME = "SeDebugPrivilege"
SE_AUDIT_NAME = "SeAuditPrivilege"
SE_SYSTEM_ENVIRONMENT_NAME = "SeSystemEnvironmentPrivilege"
SE_CHANGE_NOTIFY_NAME = "SeChangeNotifyPrivilege"
SE_REMOTE_SHUTDOWN_NAME = "SeRemoteShutdownPrivilege"
SE_UNDOCK_NAME = "SeUndockPrivilege"
SE_SYNC_AGENT_NAME = "SeSyncAgentPrivilege"
SE_ENABLE_DELEGATION_NAME = "SeEnableDelegationPrivilege"
SE_MANAGE_VOLUME_NAME = "SeManageVolumePrivilege"
SE_IMPERSONATE_NAME = "SeImpersonatePrivilege"
SE_CREATE_GLOBAL_NAME = "SeCreateGlobalPrivilege"
SE_TRUSTED_CREDMAN_ACCESS_NAME = "SeTrustedCredManAccessPrivilege"
SE_RELABEL_NAME = "SeRelabelPrivilege"
SE_INC_WORKING_SET_NAME = "SeIncreaseWorkingSetPrivilege"
SE_TIME_ZONE_NAME = "SeTimeZonePrivilege"
SE_CREATE_SYMBOLIC_LINK_NAME = "SeCreateSymbolicLinkPrivilege"
SE_INTERACTIVE_LOGON_NAME = "SeInteractiveLogonRight"
SE_NETWORK_LOGON_NAME = "SeNetworkLogonRight"
SE_BATCH_LOGON_NAME = "SeBatchLogonRight"
SE_SERVICE_LOGON_NAME = "SeServiceLogonRight"
SE_DENY_INTERACTIVE_LOGON_NAME = "SeDenyInteractiveLogonRight"
SE_DENY_NETWORK_LOGON_NAME = "SeDenyNetworkLogonRight"
SE_DENY_BATCH_LOGON_NAME = "SeDenyBatchLogonRight"
SE_DENY_SERVICE_LOGON_NAME = "SeDenyServiceLogonRight"
SE_REMOTE_INTERACTIVE_LOGON_NAME = "SeRemoteInteractiveLogonRight"
SE_DENY_REMOTE_INTERACTIVE_LOGON_NAME = "SeDenyRemoteInteractiveLogonRight"

if not TYPE_CHECKING:  # a type checker knows the names that are here

    def __getattr__(name: str) -> object:
        raise _no_such("win32security", name)


del annotations, TYPE_CHECKING  # `from win32security import *` is for what pywin32 has
