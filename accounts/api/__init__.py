"""The management API: a REST API in which people manage the accounts that they belong to.

Views and serializers change nothing themselves; they call `accounts.services`. Only the project's URLs and settings
refer to this package.
"""
