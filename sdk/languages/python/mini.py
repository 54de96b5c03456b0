"""A whole adapter in Python: what it says of itself. What it does is in `adapter.py`."""

import json

from wit_world import exports

DESCRIPTOR = {
    "name": "mini",
    "version": "0.1.0",
    "title": "Mini",
    "summary": "The same small adapter, in Python.",
    "kind": "external",
    "origins": [{"name": "api", "base_url": "https://api.mini.example/v1"}],
    "auth": [{"origin": "api", "scheme": {"type": "bearer"}, "credential": "api_key"}],
    "credentials": [{"name": "api_key", "label": "API key", "required": True}],
    "response_headers": ["x-request-id"],
    "operations": ["chat"],
}


class Adapter(exports.Adapter):
    def describe(self):
        return json.dumps(DESCRIPTOR)
