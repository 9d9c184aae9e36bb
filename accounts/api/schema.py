"""What the OpenAPI schema has to be told."""

from typing import Any, NamedTuple

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tokens of the management API."""

    target_class = "knox.auth.TokenAuthentication"
    name = "token"
    priority = 1  # over the one that comes with the library

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token …`, as `POST /api/v1/token/` gives it",
        }


DETAIL_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
INVALID_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "Of each field, what is wrong with it; or, as `detail`, with the body as a whole.",
    "additionalProperties": {"oneOf": [{"type": "string"}, {"type": "array"}, {"type": "object"}]},
}


class ErrorResponse(NamedTuple):
    """A way in which an operation can fail."""

    status: str
    meaning: str
    body: dict[str, Any]


ERRORS = {
    "Invalid": ErrorResponse("400", "Something in the request is not valid.", INVALID_SCHEMA),
    "Unauthorized": ErrorResponse("401", "The token is missing or not valid.", DETAIL_SCHEMA),
    "Forbidden": ErrorResponse("403", "You may see this and not change it.", DETAIL_SCHEMA),
    "NotFound": ErrorResponse("404", "It does not exist, or you do not belong to its account.", DETAIL_SCHEMA),
    "Conflict": ErrorResponse("409", "It makes no sense in the state that things are in.", DETAIL_SCHEMA),
    "UnsupportedMediaType": ErrorResponse("415", "The body is neither JSON nor a form.", DETAIL_SCHEMA),
    "TooManyRequests": ErrorResponse(
        "429", "`Retry-After` says in how many seconds it may be asked again.", DETAIL_SCHEMA
    ),
    "Unavailable": ErrorResponse(
        "503", "Something that the service depends on is away; try again soon.", DETAIL_SCHEMA
    ),
}


def document_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say of each operation how it can fail, which the views have no need to repeat."""
    result["components"]["responses"] = {
        name: {"description": error.meaning, "content": {"application/json": {"schema": error.body}}}
        for name, error in ERRORS.items()
    }
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            names = ["TooManyRequests", "Unavailable"]
            if {} not in operation.get("security", []):
                names += ["Unauthorized", "Forbidden"]
            if "requestBody" in operation:
                names += ["UnsupportedMediaType"]
            if method != "get" or any(parameter["in"] == "query" for parameter in operation.get("parameters", [])):
                names += ["Invalid"]
            if "{" in path or method in ("get", "delete"):
                names += ["NotFound"]  # also a page of a list
            if path.endswith("/rotate-secret/"):
                names += ["Conflict"]
            for name in names:
                answer = {"$ref": f"#/components/responses/{name}"}
                operation["responses"].setdefault(ERRORS[name].status, answer)
    return result
