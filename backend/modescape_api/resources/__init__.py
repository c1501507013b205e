"""The JSON API, a resource a file, and its OpenAPI document. It knows no page."""
