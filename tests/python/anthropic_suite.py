"""Runs cases against a server with the unchanged Anthropic SDK; otherwise as suite.py.

    python anthropic_suite.py BASE_URL API_KEY PREFIX [CASE...]
"""

import json
import sys
import time
import traceback

import anthropic

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


class Server:
    """The server under test, with a client that never retries on its own."""

    def __init__(self, base_url, api_key, prefix):
        self.base_url, self.api_key, self.prefix = base_url, api_key, prefix
        self.client = self.new_client()

    def new_client(self, **options):
        options = {"base_url": self.base_url, "api_key": self.api_key, "max_retries": 0, "timeout": 20} | options
        return anthropic.Anthropic(**options)

    def model(self, name):
        return self.prefix + name

    def request(self, model, content="Hello there", **options):
        """The fields of a request; `content` is the user's message."""
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return {"model": self.model(model), "max_tokens": 1000, "messages": messages} | options

    def chat(self, model, content="Hello there", **options):
        return self.client.messages.create(**self.request(model, content, **options))

    def stream(self, model, content="Hello there", **options):
        return self.client.messages.stream(**self.request(model, content, **options))


def raised(error):
    """What an SDK user can see of an error."""
    response = getattr(error, "response", None)
    return {
        "type": type(error).__name__,
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "message": str(error),
        "status": getattr(error, "status_code", None),
        "error_type": getattr(error, "type", None),
        "request_id": getattr(error, "request_id", None),
        "retry_after": response.headers.get("retry-after") if response is not None else None,
        "body": getattr(error, "body", None),
    }


def main():
    import anthropic_chat, anthropic_errors, anthropic_tools  # noqa: F401  (they register cases)

    base_url, api_key, prefix, *wanted = sys.argv[1:]
    server = Server(base_url, api_key, prefix)
    for name in wanted or CASES:
        began = time.monotonic()
        line = {"case": name}
        try:
            line["result"] = CASES[name](server)
        except anthropic.AnthropicError as error:
            line["raised"] = raised(error)
        except Exception as error:  # a bug in the case, or an answer the SDK could not read
            line["crashed"] = "".join(traceback.format_exception(error))
        line["seconds"] = round(time.monotonic() - began, 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    # The cases import this file by its name; without this they would register with a second copy.
    sys.modules["anthropic_suite"] = sys.modules["__main__"]
    main()
