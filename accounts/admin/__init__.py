"""The admin, in which operators of the service manage tenants. All changes go through the services."""

from . import accounts, audit, clusters, invitations, keys, tokens, users, webhooks

__all__ = ["accounts", "audit", "clusters", "invitations", "keys", "tokens", "users", "webhooks"]
