"""A secret that is generated once and kept in a file."""

import os
import secrets
from pathlib import Path


def read_or_create_secret(path: Path) -> str:
    """Return the secret in a file; if the file does not exist, create it, readable only by its owner.

    Processes that start at the same time get the same secret.

    Raises:
        OSError: the file can be neither read nor created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written to another file and then linked: readers never see an incomplete secret, and the first writer wins.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
