"""Which passwords are too common."""

from __future__ import annotations

import re

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.password_validation import CommonPasswordValidator as DjangosValidator
from django.core.exceptions import ValidationError

# What people add to a common password to make it longer: digits, signs and years, in front and behind.
ADDED = re.compile(r"^[\W\d_]+|[\W\d_]+$")
SWAPPED = str.maketrans("013457@$!", "oleastasi")


class CommonPasswordValidator(DjangosValidator):
    """Refuses the 20,000 passwords of Django's list, also repeated, longer at the ends, or with swapped letters."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        lowered = password.lower().strip()
        core = ADDED.sub("", lowered)
        tried = (lowered, core, lowered.translate(SWAPPED), core.translate(SWAPPED))
        if any(once(text) in self.passwords for text in tried if text):
            raise ValidationError(self.get_error_message(), code="password_too_common")


def once(text: str) -> str:
    """Return the part that the text repeats, or the text."""
    # A text that is a repetition occurs in its own double before the end.
    period = (text + text).find(text, 1)
    return text[:period]
