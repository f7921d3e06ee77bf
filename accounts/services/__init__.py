"""The write path of accounts: each function makes one change in one transaction. Every edge comes through here.

API keys, tickets and identities have modules of their own beside this package. Start with `sign_ins`.
"""

from accounts.services.factors import (
    NewFactor,
    SecondFactorRequiredError,
    begin_factor,
    confirm_factor,
    disable_factor,
    new_recovery_codes,
    remove_factor,
    reseal_factors,
)
from accounts.services.groups import delete_group, refuse_alike, save_group, set_groups
from accounts.services.passwords import change_password, refuse_no_password, set_password
from accounts.services.registration import (
    RegistrationClosedError,
    add_user,
    create_user,
    create_user_from_elsewhere,
    ensure_admin,
    register,
)
from accounts.services.sessions import OpenSession, end_session, open_sessions
from accounts.services.sign_ins import (
    InvalidCredentialsError,
    Tokens,
    check_credentials,
    end_sign_in,
    forget_sign_ins,
    login,
    logout,
    refresh,
    sign_in,
    sign_out_everywhere,
)
from accounts.services.users import (
    USER_FACTS,
    InUseError,
    LastAdminError,
    change_role,
    deactivate,
    delete,
    edit,
    reactivate,
    refuse_taken,
    update_profile,
    update_user,
)

__all__ = [
    "USER_FACTS",
    "InUseError",
    "InvalidCredentialsError",
    "LastAdminError",
    "NewFactor",
    "OpenSession",
    "RegistrationClosedError",
    "SecondFactorRequiredError",
    "Tokens",
    "add_user",
    "begin_factor",
    "change_password",
    "change_role",
    "check_credentials",
    "confirm_factor",
    "create_user",
    "create_user_from_elsewhere",
    "deactivate",
    "delete",
    "delete_group",
    "disable_factor",
    "edit",
    "end_session",
    "end_sign_in",
    "ensure_admin",
    "forget_sign_ins",
    "login",
    "logout",
    "new_recovery_codes",
    "open_sessions",
    "reactivate",
    "refresh",
    "refuse_alike",
    "refuse_no_password",
    "refuse_taken",
    "register",
    "remove_factor",
    "reseal_factors",
    "save_group",
    "set_groups",
    "set_password",
    "sign_in",
    "sign_out_everywhere",
    "update_profile",
    "update_user",
]
