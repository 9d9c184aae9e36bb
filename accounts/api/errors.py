"""HTTP responses for the exceptions that services raise."""

from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as InvalidValue
from redis.exceptions import RedisError
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from accounts.audit import TooManyChanges
from accounts.locks import AccountSuspended, Gone, Refused
from accounts.services import NotAllowed
from accounts.usage import seconds_to_midnight


class Conflict(exceptions.APIException):
    """The request conflicts with the current state of the resource."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class Unavailable(exceptions.APIException):
    """The cache that counts requests is unavailable. Without it there would be no limit on guessing passwords."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "Redis is unavailable. Try again later."


def api_exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response for an exception of a service, of Redis, or of Django REST framework."""
    match error:
        case InvalidValue():
            messages: dict[str, Any] = (
                dict(error.message_dict) if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
            )
            if NON_FIELD_ERRORS in messages:
                messages[api_settings.NON_FIELD_ERRORS_KEY] = messages.pop(NON_FIELD_ERRORS)
            error = exceptions.ValidationError(messages)
        case Gone():
            error = exceptions.NotFound(str(error))
        case AccountSuspended() | NotAllowed():
            error = exceptions.PermissionDenied(str(error))
        case TooManyChanges():
            error = exceptions.Throttled(seconds_to_midnight(), str(error))
        case Refused():
            error = Conflict(str(error))
        case RedisError():
            error = Unavailable()
        case RecursionError():  # raised by the JSON parser
            error = exceptions.ParseError("JSON parse error - nested too deeply")
    return exception_handler(error, context)
