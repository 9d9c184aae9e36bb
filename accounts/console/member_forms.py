"""Forms about accounts, their people, and the tokens of a person."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from accounts.models import Account, ApiToken, Role
from accounts.users import MAX_EMAIL_LENGTH

from .forms import ConsoleForm

_ROLES = (
    (Role.VIEWER, "Viewer: reads everything but secrets"),
    (Role.DEVELOPER, "Developer: also changes clusters and API keys"),
    (Role.OWNER, "Owner: also changes people and the account"),
)
_NAME_LENGTH: int = Account._meta.get_field("name").max_length  # type: ignore[assignment]
_TOKEN_NAME_LENGTH: int = ApiToken._meta.get_field("name").max_length


class RoleForm(ConsoleForm):
    """Asks for a role."""

    role = forms.ChoiceField(label="Role", choices=_ROLES)


class InvitationForm(RoleForm):
    """Asks whom to invite."""

    email = forms.EmailField(
        label="E-mail address", max_length=MAX_EMAIL_LENGTH, error_messages={"required": "Enter an e-mail address."}
    )

    field_order = ("email", "role")


class AccountNameForm(ConsoleForm):
    """Asks for the name of an account."""

    name = forms.CharField(label="Name", max_length=_NAME_LENGTH, error_messages={"required": "Enter a name."})


class AccountSettingsForm(AccountNameForm):
    """The settings of an account."""

    sends_quota_notices = forms.BooleanField(
        label="E-mail the owners when 80 % and 100 % of a quota are used", required=False
    )


class AccountDeletionForm(ConsoleForm):
    """Asks for the account's name, so that nobody deletes another one by mistake."""

    name = forms.CharField(label="Account name", required=False, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, account: Account, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._expected = account.name

    def clean_name(self) -> str:
        if self.cleaned_data["name"] != self._expected.strip():
            raise ValidationError(f"Type {self._expected} to delete the account.")
        return self._expected


class TokenForm(ConsoleForm):
    """Asks for the name of a new API token."""

    name = forms.CharField(
        label="Name",
        max_length=_TOKEN_NAME_LENGTH,
        help_text="Tells you what uses this token, such as Deployment.",
        error_messages={"required": "Enter a name."},
    )
