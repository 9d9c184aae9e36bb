"""Forms about webhooks."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.views.decorators.debug import sensitive_variables

from accounts.models import ApiKey, Webhook, WebhookKind
from accounts.services import WEBHOOK_SETTINGS, version_of_webhook
from accounts.webhooks.addresses import validate_url

from .forms import PLAIN_TEXT, ConsoleForm, VersionedForm

# How many API keys the form offers. Who has more can choose any with the REST API.
MAX_KEYS = 500
_MINUTES = "%Y-%m-%dT%H:%M"
"""How browsers write the value of a field for a time."""


class HeadersField(forms.CharField):
    """Extra headers, one per line."""

    def __init__(self, **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "placeholder": "Authorization: Bearer …", **PLAIN_TEXT})
        super().__init__(widget=widget, required=False, **options)

    @sensitive_variables()
    def to_python(self, value: Any) -> Any:
        lines = [line for line in (super().to_python(value) or "").splitlines() if line.strip()]
        pairs = [line.partition(":") for line in lines]
        if not all(colon for _, colon, _ in pairs):
            raise ValidationError("Write each header on a line of its own, as “Name: value”.")
        names = [name.strip() for name, _, _ in pairs]
        if len({name.lower() for name in names}) < len(names):
            raise ValidationError("Enter each header once.")
        return {name: text.strip() for name, (_, _, text) in zip(names, pairs, strict=True)}


class WebhookForm(VersionedForm):
    """The settings of a webhook."""

    url = forms.CharField(
        label="URL",
        max_length=2000,
        widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://", **PLAIN_TEXT}),
        help_text="Your server receives the events here, as HTTP requests with the method POST.",
        error_messages={"required": "Enter a URL."},
        validators=[validate_url],  # so that errors of other fields do not hide its own
    )
    kinds = forms.MultipleChoiceField(
        label="Events",
        choices=WebhookKind.choices,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one kind of event."},
    )
    channel_prefix = forms.CharField(
        label="Beginning of channel IDs",
        required=False,
        max_length=257,
        widget=forms.TextInput(attrs=PLAIN_TEXT),
        help_text="Only events of channels whose IDs begin like this are sent. Leave empty for all channels.",
    )
    batches = forms.BooleanField(
        label="Batches",
        required=False,
        help_text="A request contains up to 100 events, which wait for at most 1 s. Otherwise it contains one event.",
    )
    signing_key = forms.ChoiceField(
        label="Key for Pusher’s libraries",
        required=False,
        help_text="Pusher’s libraries verify requests with the secret of this key.",
    )
    headers = HeadersField(label="Extra headers")
    removes_headers = forms.BooleanField(label="Remove the extra headers", required=False)
    enabled = forms.BooleanField(
        label="On", required=False, initial=True, help_text="If this is off, no events are sent."
    )

    def __init__(
        self, keys: Iterable[ApiKey], webhook: Webhook | None = None, header_names: Iterable[str] = (), data: Any = None
    ) -> None:
        """
        Args:
            keys: the active API keys that can sign.
            webhook: the webhook to change; None for a new one.
            header_names: the names of its extra headers.
            data: the form as it was sent; None to show the current settings.
        """
        initial = {name: getattr(webhook, name) for name in WEBHOOK_SETTINGS} if webhook else {}
        if webhook is not None:
            initial["version"] = version_of_webhook(webhook)
        super().__init__(data, initial=initial)
        by_cluster: dict[str, list[tuple[str, str]]] = {}
        for key in keys:
            by_cluster.setdefault(key.cluster.cluster_id, []).append((key.public_key, str(key)))
        choices = (
            list(by_cluster.items()) if len(by_cluster) > 1 else [pair for own in by_cluster.values() for pair in own]
        )
        self.fields["signing_key"].choices = [("", "The oldest active key"), *choices]  # type: ignore[attr-defined]
        names = ", ".join(header_names)
        hint = "One per line, as Name: value. Their values are not shown again."
        if names:
            hint = f"{names}: the values are not shown again. Leave empty to keep them, or enter all headers anew."
        else:
            del self.fields["removes_headers"]
        self.fields["headers"].help_text = hint

    def settings(self) -> dict[str, Any]:
        """Return the settings that were sent, besides the URL of a new webhook."""
        return {name: self.cleaned_data[name] for name in WEBHOOK_SETTINGS}

    @sensitive_variables()
    def new_headers(self) -> dict[str, str] | None:
        """Return the new extra headers; None to keep those that the webhook has."""
        if self.cleaned_data.get("removes_headers"):
            return {}
        return self.cleaned_data["headers"] or None


class NewWebhookForm(WebhookForm):
    """Asks for the settings of a new webhook, and for its cluster if there are several."""

    cluster = forms.ChoiceField(label="Cluster")

    field_order = ("url", "cluster")

    def __init__(self, clusters: Iterable[str], keys: Iterable[ApiKey], data: Any = None, cluster: str = "") -> None:
        """
        Args:
            clusters: the IDs of the account's clusters.
            keys: their active API keys.
            data: the form as it was sent; None for an empty one.
            cluster: the cluster that is chosen at first.
        """
        super().__init__(keys, data=data)
        names = list(clusters)
        field: Any = self.fields["cluster"]
        field.choices = [(name, name) for name in names]
        field.initial = cluster if cluster in names else names[0]
        if len(names) == 1:
            field.widget = forms.HiddenInput()


class SinceForm(ConsoleForm):
    """Asks since when deliveries are sent again."""

    since = forms.CharField(
        label="Failed or dropped since (UTC)", widget=forms.TextInput(attrs={"type": "datetime-local"}), required=False
    )

    def clean_since(self) -> datetime:
        try:
            return datetime.strptime(self.cleaned_data["since"], _MINUTES).replace(tzinfo=UTC)
        except ValueError:
            raise ValidationError("Enter a day and a time, such as 2026-11-27T14:30.") from None


def as_field(moment: datetime) -> str:
    """Return a point in time as the value of `SinceForm.since`, without its seconds."""
    return moment.astimezone(UTC).strftime(_MINUTES)
