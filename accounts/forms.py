"""Forms of the admin."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms

from .models import ApiKey, Cluster, Membership, Webhook, WebhookKind
from .services import CLUSTER_SETTINGS, KEY_SETTINGS, MAX_OVERLAP


class LinesField(forms.CharField):
    """A list of short texts, one per line."""

    widget = forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class FixedFieldsForm(forms.ModelForm):
    """A form in which some fields cannot be changed after the object is created."""

    fixed_fields: ClassVar[set[str]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            for name in self.fixed_fields & set(self.fields):
                self.fields[name].disabled = True


class MembershipForm(FixedFieldsForm):
    """A membership, whose user cannot be changed."""

    fixed_fields = {"user"}

    class Meta:
        model = Membership
        fields = ["user", "role"]


class ClusterForm(FixedFieldsForm):
    """A cluster. Once it exists, only its options change; an operation that asks first switches it on or off."""

    fixed_fields = {"account", "cluster_id", "enabled"}

    class Meta:
        model = Cluster
        fields = ["account", "cluster_id", *CLUSTER_SETTINGS]


class RotationForm(forms.Form):
    """When the old secret of an API key ends."""

    overlap = forms.TypedChoiceField(
        label="The old secret ends",
        choices=[
            (0, "immediately"),
            (3600, "in 1 hour"),
            (86400, "in 1 day"),
            (int(MAX_OVERLAP.total_seconds()), f"in {MAX_OVERLAP.days} days"),
        ],
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        initial=0,
    )


class ApiKeyForm(FixedFieldsForm):
    """An API key, whose cluster cannot be changed. Of a revoked key, nothing can."""

    fixed_fields = {"cluster"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.revoked:
            for field in self.fields.values():
                field.disabled = True

    allowed_origins = LinesField(
        required=False,
        help_text="Websites whose pages may connect, one host per line, such as example.com or *.example.com. "
        "Leave empty to allow all websites.",
    )

    class Meta:
        model = ApiKey
        fields = ["cluster", *KEY_SETTINGS]

    def clean_allowed_origins(self) -> list[str]:
        return [origin.lower() for origin in self.cleaned_data["allowed_origins"]]


class WebhookForm(forms.ModelForm):
    """The settings of a webhook, without its extra headers, whose values are secret."""

    kinds = forms.MultipleChoiceField(
        label="Events",
        choices=WebhookKind.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text="The kinds of events to send.",
    )

    class Meta:
        model = Webhook
        fields = ["url", "kinds", "channel_prefix", "batches", "signing_key"]
        widgets = {"url": forms.URLInput(attrs={"class": "vURLField"})}
