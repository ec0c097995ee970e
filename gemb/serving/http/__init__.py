"""The API: routes, what is decoded, errors, keys and limits, the OpenAPI document, the page."""
