"""The application of `counted.py` with the front door shut."""

import tests.shut_door  # noqa: F401  (it shuts the door before the service is imported)
from tests.soak.counted import application as application  # noqa: PLC0414  (Daphne imports it from here)
