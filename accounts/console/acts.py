"""Changes that a page makes without a form of its own: the next page says what happened."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts.locks import Refused, sentence


def act(request: HttpRequest, done: str, service: Callable[..., Any], *arguments: Any) -> bool:
    """Call a service, and let the next page say that it is done, or why it is not.

    Args:
        request: the request.
        done: a sentence such as "Role changed."
        service: the service.
        arguments: its arguments.

    Returns:
        Whether it is done.
    """
    try:
        service(*arguments)
    except (Refused, ValidationError) as error:
        messages.error(request, sentence(error))
        return False
    messages.success(request, done)
    return True
