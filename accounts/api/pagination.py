"""Pagination of the management API."""

import re
from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request


class Pagination(PageNumberPagination):
    """Pages of 50 items by default; `?page_size=` sets another size, up to 200."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int | None:
        page_size = request.query_params.get("page_size")
        if page_size is not None and not re.fullmatch("0*[1-9][0-9]{0,8}", page_size, re.ASCII):
            raise ValidationError({"page_size": ["Enter a whole number that is 1 or more."]})
        return super().get_page_size(request)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            parameter["schema"]["minimum"] = 1
        return parameters
