"""Forms of the console. A template shows their errors above the form and at each field."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from accounts.locks import Refused
from accounts.models import ApiKey
from accounts.origins import validate_allowed_origins
from accounts.quotas import QUOTA_FIELDS
from accounts.services import KEY_SETTINGS, MAX_OVERLAP, version_of_settings

from .numbers import whole

PLAIN_TEXT = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class ConsoleForm(forms.Form):
    """A form whose fields get the errors of the service that it calls."""

    def reject(self, error: ValidationError | Refused) -> None:
        """Show why a service did not do what the form asked for, at the fields that the error names."""
        if isinstance(error, Refused):
            self.add_error(None, str(error))
        elif hasattr(error, "error_dict"):
            for name, errors in error.error_dict.items():
                self.add_error(name if name in self.fields else None, errors)
        else:
            self.add_error(None, error)

    def problems(self) -> list[tuple[str, str]]:
        """Return each error with the ID of its field, which is empty for errors of the whole form."""
        return [
            ("" if name == NON_FIELD_ERRORS else self[name].id_for_label or self[name].auto_id, str(sentence))
            for name, sentences in self.errors.items()
            for sentence in sentences
        ]


class NumberField(forms.IntegerField):
    """A whole number, which may be written with commas."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})
        super().__init__(required=False, min_value=1, widget=widget, **options)

    def to_python(self, value: Any) -> Any:
        return super().to_python(value.replace(",", "").strip() if isinstance(value, str) else value)


class OriginsField(forms.CharField):
    """Hosts, one per line. They may be written as browsers show them, such as "https://example.com/"."""

    default_validators = [validate_allowed_origins]

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs={"rows": 3, **PLAIN_TEXT}), required=False, **options)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [host_of(line) for line in (super().to_python(value) or "").splitlines() if line.strip()]


def host_of(origin: str) -> str:
    """Return the host and the port of an origin, such as "example.com" of "https://example.com"."""
    return re.sub(r"^https?://", "", origin.strip().lower()).removesuffix("/")


class ClusterForm(ConsoleForm):
    """Asks for the ID of a new cluster."""

    cluster_id = forms.CharField(
        label="Cluster ID",
        max_length=63,
        widget=forms.TextInput(attrs=PLAIN_TEXT),
        help_text="Lower-case letters, digits and hyphens. It becomes part of the address and cannot be changed later:",
        error_messages={"required": "Enter a cluster ID."},
    )

    def clean_cluster_id(self) -> str:
        return str(self.cleaned_data["cluster_id"]).lower()

    def suggest(self, cluster_id: str) -> None:
        """Fill another cluster ID in, since the one that was sent is taken."""
        self.data = {**dict(self.data.items()), "cluster_id": cluster_id}


class ClusterOptionsForm(ConsoleForm):
    """What clients of Pusher's protocol notice of a cluster."""

    sends_subscription_counts = forms.BooleanField(
        label="Subscription counts",
        required=False,
        help_text="The subscribers of a channel learn how many they are. Presence channels have members instead.",
    )
    sends_watchlist_events = forms.BooleanField(
        label="Watchlists", required=False, help_text="Users who sign in learn who of their watchlist is online."
    )
    closes_unauthorized_connections = forms.BooleanField(
        label="Close unauthorized connections",
        required=False,
        help_text="Clients must sign in, or subscribe to a private or presence channel, within 30 seconds.",
    )


class FirstClusterForm(ClusterForm):
    """Asks for the ID of the first cluster, and for a better name of an account that the user has just created."""

    name = forms.CharField(label="Account name", max_length=100, error_messages={"required": "Enter a name."})

    field_order = ("name", "cluster_id")


class NewKeyForm(ConsoleForm):
    """Asks for the label of a new key, and for its cluster if there are several."""

    cluster = forms.ChoiceField(label="Cluster")
    label = forms.CharField(
        label="Label",
        max_length=100,
        help_text="A name that tells people what uses this key, such as Web shop. You can change it later.",
        error_messages={"required": "Enter a label."},
    )

    def __init__(self, clusters: Iterable[str], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        names = list(clusters)
        self.fields["cluster"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        if len(names) == 1:
            self.fields["cluster"].widget = forms.HiddenInput()
            self.fields["cluster"].initial = names[0]


class VersionedForm(ConsoleForm):
    """Settings that several people may change at the same time."""

    version = forms.CharField(widget=forms.HiddenInput(), required=False)

    def take_version(self, version: str) -> None:
        """Let the user save the values in this form after they have read that someone else has changed them."""
        data: Any = self.data
        data = data.copy()
        data["version"] = version
        self.data = data


class KeyForm(VersionedForm):
    """The settings of a key."""

    label = forms.CharField(
        label="Label",
        max_length=100,
        help_text="A name that tells people what uses this key.",
        error_messages={"required": "Enter a label."},
    )
    # The template shows a hint with code.
    allowed_origins = OriginsField(label="Allowed origins", help_text=" ")
    allows_client_messages = forms.BooleanField(
        label="Clients may send messages", required=False, help_text="If this is off, only servers can publish."
    )
    protects_channels = forms.BooleanField(
        label="Every channel needs a JWT", required=False, help_text="Private channels always need one."
    )
    closes_expired_connections = forms.BooleanField(
        label="Close connections when their JWT expires",
        required=False,
        help_text="Clients must then reconnect with a new JWT. PieSocket’s SDKs do not do that by themselves.",
    )
    max_connections = NumberField(label="Connections")
    max_messages_per_second = NumberField(label="Messages a second, per connection")
    max_message_bytes = NumberField(label="Largest message, in bytes")

    def __init__(
        self, key: ApiKey, limits: dict[str, int | None], data: Any = None, origins: Iterable[str] = ()
    ) -> None:
        """
        Args:
            key: the key.
            limits: the account's own quotas in force, which the key cannot exceed, by field name; None for no quota.
            data: the form as it was sent; None to show the current settings.
            origins: origins to add to the allowed ones, which the user has not saved yet.
        """
        initial = {name: getattr(key, name) for name in KEY_SETTINGS}
        initial["allowed_origins"] = list(dict.fromkeys([*initial["allowed_origins"], *origins]))
        super().__init__(data, initial={**initial, "version": version_of_settings(key)})
        self._limits = limits
        for name in QUOTA_FIELDS:
            limit, field = limits[name], self.fields[name]
            if limit is None:
                field.help_text = "Leave empty to use the server’s limit."
                continue
            field.widget.attrs["placeholder"] = whole(limit)
            allows = f"The account allows up to {whole(limit)}."
            field.help_text = "Leave empty to use the account’s." if initial[name] is None else allows

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        for name in QUOTA_FIELDS:
            value, limit = values.get(name), self._limits[name]
            if value is not None and limit is not None and value > limit:
                self.add_error(name, f"The account allows up to {whole(limit)}.")
        return values

    def settings(self) -> dict[str, Any]:
        """Return the settings that were sent."""
        return {name: self.cleaned_data[name] for name in KEY_SETTINGS}


class RotationForm(ConsoleForm):
    """Asks how long the old secret stays valid."""

    overlap = forms.TypedChoiceField(
        label="Old secret valid for",
        choices=[
            (0, "0 – end it now"),
            (3600, "1 hour"),
            (86400, "1 day"),
            (int(MAX_OVERLAP.total_seconds()), f"{MAX_OVERLAP.days} days"),
        ],
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        initial=86400,
        widget=forms.RadioSelect,
    )


class DeletionForm(ConsoleForm):
    """Asks for the name of what is deleted."""

    name = forms.CharField(label="Cluster ID", widget=forms.TextInput(attrs=PLAIN_TEXT), required=False)

    def __init__(self, expected: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._expected = expected

    def clean_name(self) -> str:
        if self.cleaned_data["name"].strip() != self._expected:
            raise ValidationError(f"Type {self._expected} to delete it.")
        return self._expected


class MessageForm(ConsoleForm):
    """Asks for the first message."""

    message = forms.CharField(max_length=1000, strip=False, error_messages={"required": "Enter a message."})
