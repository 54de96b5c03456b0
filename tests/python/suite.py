"""Runs cases against a server with the unchanged OpenAI SDK and prints one JSON line for each.

    python suite.py BASE_URL API_KEY PREFIX [CASE...]

The cases of the Responses API are in a suite of their own, `responses.py`, run the same way.

PREFIX stands before every model's name: "anthropic/" asks a gateway for that provider's models,
"" asks a vendor directly. A case is a function that returns what it saw; what it raises is
reported as it is, so errors are results too. Judging is left to the caller.
"""

import json
import sys
import time
import traceback

import openai

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
        return openai.OpenAI(**options)

    def model(self, name):
        return self.prefix + name

    def chat(self, model, content="Hello there", **options):
        """One chat; `content` is the user's message or the whole list of messages."""
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return self.client.chat.completions.create(model=self.model(model), messages=messages, **options)


def raised(error):
    """What an SDK user can see of an error."""
    response = getattr(error, "response", None)
    return {
        "type": type(error).__name__,
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "message": str(error),
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "param": getattr(error, "param", None),
        "error_type": getattr(error, "type", None),
        "retry_after": response.headers.get("retry-after") if response is not None else None,
        "body": getattr(error, "body", None),
    }


def main():
    import chat, embeddings, errors, models, structured, tools  # noqa: F401  (they register cases)

    run()


def run():
    base_url, api_key, prefix, *wanted = sys.argv[1:]
    server = Server(base_url, api_key, prefix)
    for name in wanted or CASES:
        began = time.monotonic()
        line = {"case": name}
        try:
            line["result"] = CASES[name](server)
        except openai.OpenAIError as error:
            line["raised"] = raised(error)
        except Exception as error:  # a bug in the case, or an answer the SDK could not read
            line["crashed"] = "".join(traceback.format_exception(error))
        line["seconds"] = round(time.monotonic() - began, 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    # The cases import this file by its name; without this they would register with a second copy.
    sys.modules["suite"] = sys.modules["__main__"]
    main()
