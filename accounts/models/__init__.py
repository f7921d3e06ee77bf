"""The tables of accounts: users, sign-ins, API keys and tickets, the audit trail.

Nothing here decides on a right or writes a row by itself: the services do. Start with `users`.
"""

from accounts.models.audit import AuditEntry, AuditHead
from accounts.models.credentials import ApiKey, Ticket
from accounts.models.factors import RecoveryCode, SecondFactor
from accounts.models.sessions import BrowserSession, Notice, NoticeKind
from accounts.models.sign_ins import EndReason, SignIn
from accounts.models.users import UNBOUNDED, Bounds, Identity, Role, User

__all__ = [
    "UNBOUNDED",
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "Bounds",
    "BrowserSession",
    "EndReason",
    "Identity",
    "Notice",
    "NoticeKind",
    "RecoveryCode",
    "Role",
    "SecondFactor",
    "SignIn",
    "Ticket",
    "User",
]
