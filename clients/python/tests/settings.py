"""The settings of the tests' web process: passwords that are checked at once, on a busy machine too."""

from svops.settings import *  # noqa: F403 - settings on top of others

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
