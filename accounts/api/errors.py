"""What goes wrong in a service, as an HTTP answer."""

from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as InvalidValue
from redis.exceptions import RedisError
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from accounts.services import KeyRevoked


class Conflict(exceptions.APIException):
    """What was asked for makes no sense in the state that things are in."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class Unavailable(exceptions.APIException):
    """What requests are counted in is away. It is not done without: that would be the time to guess passwords."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "Redis cannot be reached; try again soon."


def api_exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response to an error: 400 for invalid values, 409 for a conflict, 503 without Redis."""
    match error:
        case InvalidValue():
            sentences: dict[str, Any] = (
                dict(error.message_dict) if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
            )
            if NON_FIELD_ERRORS in sentences:
                sentences[api_settings.NON_FIELD_ERRORS_KEY] = sentences.pop(NON_FIELD_ERRORS)
            error = exceptions.ValidationError(sentences)
        case KeyRevoked():
            error = Conflict(str(error))
        case RedisError():
            error = Unavailable()
        case RecursionError():  # of the JSON parser
            error = exceptions.ParseError("JSON parse error - nested too deeply")
    return exception_handler(error, context)
