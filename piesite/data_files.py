"""The files that the service creates itself: the generated secret key and the SQLite database.

Only their owner can read them, whatever the umask.
"""

import os
import secrets
from pathlib import Path

from environs import EnvError


def read_or_create_secret(path: Path) -> str:
    """Return the secret in a file; if the file does not exist, create it.

    Processes that start at the same time get the same secret.

    Raises:
        EnvError: the file can be neither read nor created.
    """
    try:
        if not path.exists():
            _create_secret(path)
        return path.read_text().strip()
    except OSError as error:
        raise EnvError(
            f"Cannot read or create {path}, which contains the generated secret key: {error.strerror}. "
            "Set SECRET_KEY, or set DATA_DIR to a directory that this user can write."
        ) from None


def create_private_file(path: Path) -> Path:
    """Create an empty file with its directory if it does not exist, make it private, and return its path.

    Failures are not reported: whoever opens the file reports what is wrong with it.
    """
    try:
        _create_directory(path)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError:
        pass
    return path


def _create_secret(path: Path) -> None:
    _create_directory(path)
    # Written to another file and then linked: readers never see an incomplete secret, and the first writer wins.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(50))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _create_directory(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
