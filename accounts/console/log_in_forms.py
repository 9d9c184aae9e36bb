"""The forms with which people sign up, log in and change how they log in: those of django-allauth, with limits."""

from typing import Any

from allauth.account import forms as account_forms
from allauth.account.fields import EmailField
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as code_forms
from allauth.mfa.totp import forms as totp_forms
from allauth.mfa.webauthn import forms as passkey_forms
from django import forms
from django.contrib.auth.hashers import make_password
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from accounts import attempts, logins
from accounts.invitation_links import invitation_in
from accounts.users import MAX_EMAIL_LENGTH, User, normalize_email

MAX_CODE_LENGTH = 20
MAX_NAME_LENGTH = 100
CODE = {"autocomplete": "one-time-code", "inputmode": "numeric", "autocapitalize": "off", "spellcheck": "false"}
HINT_FOR_PASSWORDS = "At least 8 characters. Common passwords, and those of digits only, are not accepted."


class _Labels(forms.Form):
    """Gives the fields of a form our labels and hints, and no placeholders."""

    labels: dict[str, str]
    hints: dict[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.widget.attrs.pop("placeholder", None)
            field.label = self.labels.get(name, field.label)
            field.help_text = self.hints.get(name, "")


class _EmailField(EmailField):  # type: ignore[misc]
    """Takes the spellings of an e-mail address that all other doors take."""

    def to_python(self, value: Any) -> str:
        return normalize_email(super().to_python(value))


class LoginForm(_Labels, account_forms.LoginForm):  # type: ignore[misc]
    """The log-in. The adapter limits the attempts."""

    labels = {"login": "E-mail address", "password": "Password"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"] = _EmailField(label=self.labels["login"], max_length=MAX_EMAIL_LENGTH)
        self.fields["login"].widget.attrs.update(autocomplete="username", autofocus=True)
        self.fields["login"].widget.attrs.pop("placeholder")
        self.order_fields(["login", "password"])


class SignUpForm(_Labels, account_forms.SignupForm):  # type: ignore[misc]
    """The sign-up."""

    labels = {"email": "E-mail address", "password1": "Password"}
    hints = {"password1": HINT_FOR_PASSWORDS}
    email = _EmailField(max_length=MAX_EMAIL_LENGTH)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if invited := invitation_in(context.request):
            self.invitation = invited[0]
            self.initial["email"] = self.invitation.email
            self.fields["email"].disabled = True

    def clean(self) -> dict[str, Any]:
        attempts.check_network(attempts.SIGN_UPS, context.request)
        return super().clean() or {}

    @sensitive_variables()
    def try_save(self, request: HttpRequest) -> Any:
        if self.account_already_exists:
            make_password(self.cleaned_data["password1"])  # takes as long as for an address without a user
        return super().try_save(request)


class ResetPasswordForm(_Labels, account_forms.ResetPasswordForm):  # type: ignore[misc]
    """Asks for the link that resets a password."""

    labels = {"email": "E-mail address"}
    email = _EmailField(max_length=MAX_EMAIL_LENGTH)

    def clean(self) -> dict[str, Any]:
        attempts.check_network(attempts.RESETS, context.request)
        return super().clean() or {}


class ChangePasswordForm(_Labels, account_forms.ChangePasswordForm):  # type: ignore[misc]
    """Changes one's own password. The current one can be tried as often as at a log-in."""

    labels = {"oldpassword": "Current password", "password1": "New password", "password2": "New password again"}
    hints = {"password1": HINT_FOR_PASSWORDS}

    def clean_oldpassword(self) -> str:
        user: Any = self.user
        if obstacle := logins.obstacle(context.request, user.email):
            raise obstacle
        return str(super().clean_oldpassword())


class _LimitedCode(_Labels):
    """A code of a user's second factors, which can be tried only so often."""

    labels = {"code": "Code"}
    user: User

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].validators.append(MaxLengthValidator(MAX_CODE_LENGTH))
        self.fields["code"].widget.attrs.update(CODE)

    def clean_code(self) -> str:
        attempts.check(attempts.CODES, str(self.user.pk))
        code = str(super().clean_code())  # type: ignore[misc]
        attempts.forget(attempts.CODES, str(self.user.pk))
        return code


class CodeForm(_LimitedCode, code_forms.AuthenticateForm):  # type: ignore[misc]
    """The second step of a log-in."""


class CodeAgainForm(_LimitedCode, code_forms.ReauthenticateForm):  # type: ignore[misc]
    """Proves that a logged-in user still has their second factor."""


class ActivateAppForm(_LimitedCode, totp_forms.ActivateTOTPForm):  # type: ignore[misc]
    """Adds an authenticator app."""


class _Credential(forms.Form):
    """The answer of a passkey, as JSON. The libraries expect an object and raise all kinds of exceptions for others."""

    def clean_credential(self) -> Any:
        try:
            if not isinstance(self.cleaned_data["credential"], dict):
                raise TypeError
            parent: Any = super()
            return parent.clean_credential() if hasattr(parent, "clean_credential") else self.cleaned_data["credential"]
        except (TypeError, AttributeError, KeyError, ValueError):
            raise get_adapter().validation_error("incorrect_code") from None


class AddPasskeyForm(_Credential, _Labels, passkey_forms.AddWebAuthnForm):  # type: ignore[misc]
    """Adds a passkey."""

    labels = {"name": "Name"}
    hints = {"name": "A name that tells you where this passkey is."}
    passwordless = forms.BooleanField(widget=forms.HiddenInput, initial=True, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].validators.append(MaxLengthValidator(MAX_NAME_LENGTH))

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean() or {}
        except (TypeError, AttributeError, KeyError, ValueError):
            raise get_adapter().validation_error("incorrect_code") from None


class PasskeyForm(_Credential, passkey_forms.AuthenticateWebAuthnForm):  # type: ignore[misc]
    """The second step of a log-in, with a passkey."""


class PasskeyAgainForm(_Credential, passkey_forms.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """Proves that a logged-in user still has their passkey."""


class PasskeyLoginForm(_Credential, passkey_forms.LoginWebAuthnForm):  # type: ignore[misc]
    """A log-in with a passkey alone."""
