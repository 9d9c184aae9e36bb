"""The users who log in. Their e-mail address, which is always in lower case, is their login name."""

import unicodedata
from typing import Any

from allauth.core import context
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models.functions import Lower
from django.utils import timezone

from .signals import password_changed

MAX_EMAIL_LENGTH = 254  # RFC 5321


def normalize_email(text: str) -> str:
    """Return the spelling of an e-mail address that is stored, looked up and rate-limited."""
    # NFKC is how internationalized domain names are compared (RFC 3491), and what Django's login form applies.
    return unicodedata.normalize("NFKC", text).strip().lower()


class NormalizedEmailField(models.EmailField):
    """Normalizes e-mail addresses in forms, on every kind of save, and in lookups."""

    def to_python(self, value: Any) -> Any:
        # Validation calls this, and so does every save and lookup, through get_prep_value().
        text = super().to_python(value)
        return text if text is None else normalize_email(text)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        email = super().pre_save(model_instance, add)
        if isinstance(email, str):  # it may also be an expression
            email = normalize_email(email)
            setattr(model_instance, self.attname, email)
        return email


def may_operate(user: Any, action: str, kind: type[models.Model]) -> bool:
    """Return whether a user is an operator who may do this in the admin, and therefore everywhere.

    Args:
        user: the user, who may be anonymous.
        action: "view", "add", "change" or "delete".
        kind: the model of what the action concerns.
    """
    return bool(
        user.is_active and user.is_staff and user.has_perm(f"{kind._meta.app_label}.{action}_{kind._meta.model_name}")
    )


class UserManager(BaseUserManager["User"]):
    """Creates users, and finds a user by any spelling of their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create a user; without a password, nobody can log in as them.

        Args:
            fields: values of further fields.

        Raises:
            ValueError: the e-mail address is empty.
            IntegrityError: the e-mail address is taken.
        """
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=email, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create a user who may do everything in the admin. See `create_user`."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):  # type: ignore[django-manager-missing]  # of the library of tokens
    """A person who uses the admin, the REST API, or both."""

    email = NormalizedEmailField(
        "e-mail address",
        max_length=MAX_EMAIL_LENGTH,
        unique=True,
        help_text="The login name. Upper and lower case make no difference.",
        error_messages={"unique": "A user with this e-mail address already exists."},
    )
    name = models.CharField(max_length=150, blank=True)
    is_staff = models.BooleanField("staff", default=False, help_text="Whether this user can log in to the admin.")
    is_active = models.BooleanField(
        "active",
        default=True,
        help_text="Whether this user can log in at all. Turn this off instead of deleting users.",
    )
    date_joined = models.DateTimeField(default=timezone.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = EMAIL_FIELD = "email"

    signs_up = False
    """Whether this object is a person who is just signing up, whose e-mail address allauth verifies."""
    _password: str | None  # Django's: the new password until it is saved
    _password_removed = False  # whether it was removed since the last save

    class Meta:
        ordering = ["email"]
        constraints = [
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="user_email_is_lower_case"),
        ]

    def set_password(self, raw_password: str | None) -> None:
        super().set_password(raw_password)
        self._password_removed = raw_password is None

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._password_removed = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the user, with the address that allauth knows. If the password was changed, also end the user's logins.

        Operators and commands vouch for the e-mail addresses that they enter, so those need no verification.
        """
        # Django resets `_password` when it only stores the same password with a newer hash algorithm.
        is_changed = not self._state.adding and (self._password is not None or self._password_removed)
        with transaction.atomic():
            super().save(*args, **kwargs)
            if not self.signs_up:
                self._keep_address()
            if is_changed:
                self.end_logins()
                password_changed.send(User, user=self)
        self._password_removed = False

    def has_verified_address(self) -> bool:
        """Return whether it is known that the e-mail address is the user's."""
        user: Any = self  # type checkers do not know the relations of the libraries' models
        return bool(user.emailaddress_set.filter(email=self.email, verified=True).exists())

    def _keep_address(self) -> None:
        user: Any = self  # type checkers do not know the relations of the libraries' models
        addresses = user.emailaddress_set
        if not addresses.filter(email=self.email, primary=True).exists():
            addresses.all().delete()
            addresses.create(email=self.email, primary=True, verified=True)

    def end_logins(self) -> None:
        """End all API tokens and sessions of this user, and forget the networks from which they have logged in.

        The session of the current request remains, but Django ends it too unless the view gives it the hash of the new
        password, as Django's views do.
        """
        user: Any = self  # type checkers do not know the relations of the libraries' models
        request = context.request
        sessions = user.usersession_set.exclude(session_key=request and request.session.session_key)
        Session.objects.filter(session_key__in=sessions.values("session_key")).delete()
        sessions.delete()
        user.auth_token_set.all().delete()
        user.known_networks.all().delete()

    def get_full_name(self) -> str:
        """Return the name, which the admin shows in an object's history."""
        return self.name

    def get_short_name(self) -> str:
        """Return the name, with which the admin greets the user."""
        return self.name


class KnownNetwork(models.Model):
    """A network from which a user has logged in, where guesses from elsewhere do not hold them up."""

    user = models.ForeignKey(User, models.CASCADE, related_name="known_networks")
    network = models.CharField(max_length=50)
    last_login = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "network"], name="one_row_per_user_and_network"),
        ]

    def __str__(self) -> str:
        return self.network
