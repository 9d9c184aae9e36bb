"""Code with which a tenant's server verifies webhooks. Each piece runs as it stands."""

from .snippets import Snippet

VERIFYING = (
    Snippet(
        "python",
        "Python",
        "Python",
        "Install the package standardwebhooks, and set the environment variable WEBHOOK_SECRET to the secret of the "
        "webhook.",
        """import os

from standardwebhooks import Webhook


def events_of(raw_body, headers):
    \"\"\"Return the events of a request. Raises an exception if it does not come from this service.\"\"\"
    webhook = Webhook(os.environ["WEBHOOK_SECRET"])
    return webhook.verify(raw_body, headers)["events"]""",
    ),
    Snippet(
        "node",
        "Node.js",
        "JavaScript",
        "Install the package standardwebhooks, and set the environment variable WEBHOOK_SECRET to the secret of the "
        "webhook.",
        """import { Webhook } from "standardwebhooks";

// Returns the events of a request. Throws an exception if it does not come from this service.
export function eventsOf(rawBody, headers) {
  const webhook = new Webhook(process.env.WEBHOOK_SECRET);
  return webhook.verify(rawBody, headers).events;
}""",
    ),
    Snippet(
        "pusher",
        "Pusher’s library",
        "Python",
        "Install the package pusher, and set the environment variables WEBHOOK_KEY and WEBHOOK_KEY_SECRET to the API "
        "key that signs and to its secret. Pusher’s libraries for other languages work in the same way.",
        """import os

import pusher

library = pusher.Pusher("1", os.environ["WEBHOOK_KEY"], os.environ["WEBHOOK_KEY_SECRET"])


def events_of(raw_body, headers):
    \"\"\"Return the events of a request. Raises an exception if it does not come from this service.\"\"\"
    body = library.validate_webhook(headers["X-Pusher-Key"], headers["X-Pusher-Signature"], raw_body)
    if body is None:
        raise ValueError("The signature is not valid.")
    return body["events"]""",
    ),
)
"""In the order of the tabs."""
