"""The pages of the audit log."""

from django.contrib import admin
from django.utils.html import format_html_join

from ..models import AuditEntry
from .base import ReadOnly


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    """The audit log, read-only."""

    show_full_result_count = False
    list_per_page = 50
    list_display = ["at", "what", "account_name", "who", "changed"]
    list_filter = ["at", "source", "verb", "kind"]
    search_fields = ["email", "name", "label", "account_name"]
    fields = ["at", "account_name", "kind", "label", "name", "verb", "changed", "who"]
    change_form_template = "accounts/audit_entry.html"

    @admin.display(description="what", ordering="verb")
    def what(self, entry: AuditEntry) -> str:
        return f"{entry.get_kind_display()} {entry.label}: {entry.get_verb_display().lower()}"

    @admin.display(description="by", ordering="email")
    def who(self, entry: AuditEntry) -> str:
        return entry.author

    @admin.display(description="changes")
    def changed(self, entry: AuditEntry) -> str:
        return format_html_join("", "<div>{}</div>", ([change] for change in entry.described_changes()))
