"""The reasons for which the data plane refuses clients, in words for people."""

from typing import NamedTuple


class Reason(NamedTuple):
    """A reason, as people read it."""

    name: str
    code: int
    """The close code that the client gets; for a request or a subscription, the status in the answer."""


REASONS = {
    "bad_request": Reason("Channel ID or option not valid", 4000),
    "bad_key": Reason("API key not valid", 4001),
    "bad_secret": Reason("Secret not valid", 401),
    "bad_origin": Reason("Origin not allowed", 4003),
    "cluster_off": Reason("Cluster is off", 4003),
    "account_suspended": Reason("Account suspended", 4003),
    "quota_used_up": Reason("Connection quota used up", 4004),
    "too_many_members": Reason("Channel has too many members", 4004),
    "too_many_channels": Reason("Too many channels on one connection", 4004),
    "bad_subscription": Reason("Subscription not allowed", 401),
    "bad_jwt": Reason("JWT not valid", 4009),
    "bad_version": Reason("Version of Pusher's protocol not supported", 4007),
    "not_authorized": Reason("No sign-in or private channel in time", 4009),
    "bad_sign_in": Reason("Sign-in not valid", 4009),
    "restarting": Reason("Server restarts", 1012),
    "over_capacity": Reason("Server at capacity", 1013),
    "no_database": Reason("Server not ready", 1013),
    "too_many_of_address": Reason("Too many connections from one address", 1013),
    "too_big": Reason("Message too large", 1009),
    "too_fast": Reason("Too many messages", 4301),
    "day_used_up": Reason("Message quota used up", 429),
}
"""By the label in the metrics. Reasons of a newer version may be missing."""


def name_of_reason(label: str) -> str:
    """Return the name of a reason, by its label in the metrics."""
    return REASONS[label].name if label in REASONS else label.replace("_", " ").capitalize()
