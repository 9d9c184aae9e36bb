"""How large the body of a request may be."""

import re
from typing import NamedTuple

from realtime.conf import conf

# The largest body of a request to the REST API, to a page, or of a tenant's server if it publishes nothing. Parsing
# small JSON values takes up to 400 times their size.
MAX_BODY_BYTES = 64 * 1024
# The largest form of the admin. A page with 50 keys, or with all origins of a key, needs up to 100 KB.
MAX_FORM_BYTES = 256 * 1024

_PUBLISH = re.compile(r"/api/(?:v4/)?publish|/apps/[^/]+/(?:batch_)?events")

TOO_LARGE = "The request is larger than {} bytes; send less at a time."


class BodyLimit(NamedTuple):
    """The limit for the body of a request."""

    max_bytes: int
    error_member: str
    """The member of a JSON response in which the sender expects the error sentence."""

    @property
    def sentence(self) -> str:
        """The error sentence for a larger body."""
        return TOO_LARGE.format(self.max_bytes)


def body_limit(path: str) -> BodyLimit:
    """Return the limit for a request.

    Args:
        path: the path, as the client has sent it or decoded. A path with escapes may get a lower limit than the same
            path without, but never a higher one.
    """
    if _PUBLISH.match(path):
        return BodyLimit(conf().max_request_bytes, "error")
    if path.startswith(("/api/", "/apps/", "/users/")) and not path.startswith("/api/v1/"):  # for tenants' servers
        return BodyLimit(MAX_BODY_BYTES, "error")
    return BodyLimit(MAX_FORM_BYTES if path.startswith("/admin/") else MAX_BODY_BYTES, "detail")
