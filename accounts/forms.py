"""Forms of the admin."""

from typing import Any

from django import forms

from .models import ApiKey, Cluster


class LinesField(forms.CharField):
    """A list of short texts, one a line."""

    widget = forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class ClusterForm(forms.ModelForm):
    """A cluster, whose ID and account stay what they were once it exists."""

    class Meta:
        model = Cluster
        fields = ["account", "cluster_id", "enabled"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            for name in {"account", "cluster_id"} & set(self.fields):
                self.fields[name].disabled = True


class ApiKeyForm(forms.ModelForm):
    """A key, which stays in its cluster once it exists."""

    allowed_origins = LinesField(
        required=False,
        help_text="The web sites whose pages may connect, one a line: example.com or *.example.com. Empty: all.",
    )

    class Meta:
        model = ApiKey
        fields = ["cluster", "label", "protects_channels", "allows_client_messages", "allowed_origins"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "cluster" in self.fields:
            self.fields["cluster"].disabled = True

    def clean_allowed_origins(self) -> list[str]:
        return [origin.lower() for origin in self.cleaned_data["allowed_origins"]]
