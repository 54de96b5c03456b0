"""Runs cases against a server with the unchanged Ollama SDK and prints one JSON line for each.

    python ollama_suite.py BASE_URL API_KEY PREFIX [CASE...]

As suite.py, which says what the arguments are and how cases report.
"""

import json
import sys
import time
import traceback

import ollama

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


class Server:
    """The server under test, and what its last answer's head was."""

    def __init__(self, base_url, api_key, prefix):
        self.base_url, self.api_key, self.prefix = base_url, api_key, prefix
        self.head = None
        self.client = self.new_client()

    def new_client(self, kind=ollama.Client, **options):
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        options = {"host": self.base_url, "headers": headers, "timeout": 20} | options
        if kind is ollama.Client:
            options["event_hooks"] = {"response": [self.remember]}
        return kind(**options)

    def remember(self, response):
        self.head = {"status": response.status_code} | dict(response.headers)

    def model(self, name):
        return self.prefix + name

    def chat(self, model, content="Hello there", **options):
        """One chat; `content` is the user's message unless there are `messages`."""
        messages = options.pop("messages", None) or [{"role": "user", "content": content}]
        return self.client.chat(model=self.model(model), messages=messages, **options)

    def generate(self, model, prompt="Hello there", **options):
        return self.client.generate(model=self.model(model), prompt=prompt, **options)


def raised(error):
    """What an SDK user can see of an error."""
    return {"type": type(error).__name__, "error": error.error, "status": error.status_code}


def main():
    import ollama_chat, ollama_errors, ollama_models, ollama_tools  # noqa: F401  (they register cases)

    base_url, api_key, prefix, *wanted = sys.argv[1:]
    server = Server(base_url, api_key, prefix)
    for name in wanted or CASES:
        began = time.monotonic()
        line = {"case": name}
        try:
            line["result"] = CASES[name](server)
        except ollama.ResponseError as error:
            line["raised"] = raised(error)
        except Exception as error:  # a bug in the case, or an answer the SDK could not read
            line["crashed"] = "".join(traceback.format_exception(error))
        line["head"] = server.head
        line["seconds"] = round(time.monotonic() - began, 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    # The cases import this file by its name; without this they would register with a second copy.
    sys.modules["ollama_suite"] = sys.modules["__main__"]
    main()
