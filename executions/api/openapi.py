"""Making the OpenAPI document, with what holds of every request."""

from typing import Any

from drf_spectacular.generators import SchemaGenerator


class DocumentGenerator(SchemaGenerator):
    """Says that no text among the parameters is empty, and that no body has further fields."""

    def get_schema(self, request: Any = None, public: bool = False) -> Any:
        document = super().get_schema(request, public)  # type: ignore[no-untyped-call]
        schemas = document["components"]["schemas"]
        for operation in [each for path in document["paths"].values() for each in path.values()]:
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query" and parameter["schema"].get("type") == "string":
                    parameter["schema"].setdefault("minLength", 1)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"]["$ref"].rpartition("/")[2]
                schemas[name].setdefault("additionalProperties", False)
        return document
