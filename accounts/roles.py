"""The roles of users in accounts."""

from django.db import models


class Role(models.TextChoices):
    """What a user can do in an account: viewers read, developers change clusters and API keys, owners everything."""

    OWNER = "owner"
    DEVELOPER = "developer"
    VIEWER = "viewer"
