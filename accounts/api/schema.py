"""Extensions of the OpenAPI schema: the authentication scheme and the error responses."""

from typing import Any, NamedTuple

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

_SUMMARIES = {
    "list": "List {many}",
    "create": "Create {one}",
    "retrieve": "Read {one}",
    "partial_update": "Change {one}",
    "destroy": "Delete {one}",
}


class Schema(AutoSchema):
    """Gives each operation a summary: the first sentence of its docstring, or what it does with which resource."""

    def get_summary(self) -> str:
        view: Any = self.view
        action = getattr(view, "action", None) or self.method.lower()
        sentence = str(getattr(view, action).__doc__ or "").partition(".")[0]
        if sentence:
            return sentence
        resource = view.queryset.model._meta
        article = "an" if resource.verbose_name[0].lower() in "aeiou" else "a"
        one, many = f"{article} {resource.verbose_name}", str(resource.verbose_name_plural)
        return _SUMMARIES[action].format(one=one, many=many)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The tokens of the management API."""

    target_class = "accounts.api.authentication.TokenAuthentication"
    name = "token"
    priority = 1  # takes precedence over the library's own extension

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token …`, with the token that `POST /api/v1/token/` returns.",
        }


DETAIL_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
INVALID_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "The errors of each field by its name, or an error in the body as a whole as `detail`.",
    "additionalProperties": {"oneOf": [{"type": "string"}, {"type": "array", "items": {}}, {"type": "object"}]},
}


class ErrorResponse(NamedTuple):
    """A way in which an operation can fail."""

    status: str
    meaning: str
    body: dict[str, Any]


ERRORS = {
    "Invalid": ErrorResponse("400", "The request is invalid.", INVALID_SCHEMA),
    "Unauthorized": ErrorResponse("401", "The token is missing or invalid.", DETAIL_SCHEMA),
    "Forbidden": ErrorResponse(
        "403", "Your permissions do not allow this, or the account is suspended.", DETAIL_SCHEMA
    ),
    "NotFound": ErrorResponse(
        "404", "The resource does not exist, or you do not belong to its account.", DETAIL_SCHEMA
    ),
    "Conflict": ErrorResponse("409", "The request conflicts with the current state of the resource.", DETAIL_SCHEMA),
    "ContentTooLarge": ErrorResponse("413", "The body is larger than 64 KiB.", DETAIL_SCHEMA),
    "NotAcceptable": ErrorResponse("406", "The `Accept` header excludes JSON.", DETAIL_SCHEMA),
    "UnsupportedMediaType": ErrorResponse("415", "The body is neither JSON nor a form.", DETAIL_SCHEMA),
    "TooManyRequests": ErrorResponse(
        "429", "You have sent too many requests. Retry after the number of seconds in `Retry-After`.", DETAIL_SCHEMA
    ),
    "Unavailable": ErrorResponse("503", "The service is temporarily unavailable. Try again later.", DETAIL_SCHEMA),
}


def document_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the error responses of each operation to the schema, so that views need not repeat them."""
    result["components"]["responses"] = {
        name: {"description": error.meaning, "content": {"application/json": {"schema": error.body}}}
        for name, error in ERRORS.items()
    }
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            names = ["NotAcceptable", "TooManyRequests", "Unavailable"]
            if {} not in operation.get("security", []):
                names += ["Unauthorized", "Forbidden"]
            if "requestBody" in operation:
                names += ["ContentTooLarge", "UnsupportedMediaType"]
            if method != "get" or any(parameter["in"] == "query" for parameter in operation.get("parameters", [])):
                names += ["Invalid"]
            if "{" in path or method in ("get", "delete"):
                names += ["NotFound"]  # lists too, for a page that does not exist
            if method == "post" and "/token/" not in path and not path.endswith("/decline/"):
                names += ["Conflict"]
            for name in names:
                response = {"$ref": f"#/components/responses/{name}"}
                operation["responses"].setdefault(ERRORS[name].status, response)
    return result
