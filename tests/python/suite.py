"""What the suites of all SDKs share: cases register here, are run against a server, and reported.

    python NAME_suite.py BASE_URL API_KEY PREFIX [CASE...]

A suite prints one JSON line for each case. PREFIX stands before every model's name: "anthropic/"
asks a gateway for that provider's models, "" asks a vendor directly. A case is a function that
returns what it saw; what it raises is reported as it is, so errors are results too. Judging is left
to the caller.
"""

import json
import sys
import time
import traceback

CASES = {}


def case(function, name=None):
    CASES[name or function.__name__] = function
    return function


def failures(make, statuses):
    """A case for each status that a vendor may answer, whole and streamed; `make` takes the model's
    name and whether to stream."""
    for status in statuses:
        for stream, end in ((False, ""), (True, "_streamed")):
            case(make(f"status-{status}", stream), f"vendor_says_{status}{end}")


def broken_streams(make, pieces=6):
    """A case for each way in which a stream breaks after some pieces; `make` takes the model's name."""
    case(make(f"stream-error-{pieces}"), "an_error_inside_the_stream")
    case(make(f"cut-{pieces}"), "a_stream_that_is_reset")
    case(make(f"eof-orderly-{pieces}"), "a_stream_that_ends_early")


class Server:
    """The server under test. Each SDK's own has `new_client`, which makes a client of the SDK that
    never retries on its own."""

    OPTIONS = {"max_retries": 0, "timeout": 20}
    head = None  # of the last answer, where a client tells it

    def __init__(self, base_url, api_key, prefix):
        self.base_url, self.api_key, self.prefix = base_url, api_key, prefix
        self.client = self.new_client()

    def model(self, name):
        return self.prefix + name


def raised(error):
    """What an SDK's user can see of an error: of each SDK's attributes those that it has."""
    response = getattr(error, "response", None)
    return {
        "type": type(error).__name__,
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "message": str(error),
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "param": getattr(error, "param", None),
        "error": getattr(error, "error", None),
        "error_type": getattr(error, "type", None),
        "request_id": getattr(error, "request_id", None),
        "retry_after": response.headers.get("retry-after") if response is not None else None,
        "body": getattr(error, "body", None),
    }


def run(new_server, sdk_error):
    """Runs the cases named on the command line, or all. `sdk_error` is the class of the SDK's own
    errors: any other is a bug in a case, or an answer that the SDK could not read."""
    base_url, api_key, prefix, *wanted = sys.argv[1:]
    server = new_server(base_url, api_key, prefix)
    for name in wanted or CASES:
        began = time.monotonic()
        line = {"case": name}
        try:
            line["result"] = CASES[name](server)
        except sdk_error as error:
            line["raised"] = raised(error)
        except Exception as error:
            line["crashed"] = "".join(traceback.format_exception(error))
        line["head"] = server.head
        line["seconds"] = round(time.monotonic() - began, 3)
        print(json.dumps(line), flush=True)
