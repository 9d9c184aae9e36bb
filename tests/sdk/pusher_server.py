"""Call one method of the `pusher` package after another, and print their results as JSON."""

import json
import sys

from pusher import Pusher
from pusher.errors import PusherError

request = json.loads(sys.argv[1])
client = Pusher(**request["options"])
results = []
for method, *values in request["calls"]:
    try:
        results.append(getattr(client, method)(*values))
    except PusherError as error:
        results.append({"raised": type(error).__name__, "said": str(error)})
print(json.dumps(results))
