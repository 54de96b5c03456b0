"""Chat, streamed and plain, for a vendor that speaks a little of OpenAI's chat protocol.

`componentize-py` makes `wit_world` from `wit/adapter.wit`, and looks for the resource `exchange` of
the interface `adapter` here: in a module and a class of these names."""

import json
from dataclasses import fields

import wit_world.exports.adapter as kw

ROLES = {
    kw.Role.SYSTEM: "system",
    kw.Role.DEVELOPER: "system",
    kw.Role.USER: "user",
    kw.Role.ASSISTANT: "assistant",
}

KINDS = {
    401: kw.FailureKind_Authentication,
    403: kw.FailureKind_Permission,
    404: kw.FailureKind_ModelNotFound,
    429: kw.FailureKind_RateLimited,
    503: kw.FailureKind_Overloaded,
}

FAULTS = {
    kw.FailureKind_Authentication: kw.Fault.HOST,
    kw.FailureKind_Permission: kw.Fault.HOST,
    kw.FailureKind_RateLimited: kw.Fault.HOST,
    kw.FailureKind_ModelNotFound: kw.Fault.CALLER,
    kw.FailureKind_InvalidRequest: kw.Fault.CALLER,
    kw.FailureKind_Unsupported: kw.Fault.CALLER,
}


class Failed(Exception):
    def __init__(self, kind, message, code=None, param=None, status=None):
        self.kind, self.message, self.code = kind, message, code
        self.param, self.status = param, status


def unsupported(what):
    return Failed(kw.FailureKind_Unsupported, f"this vendor takes no {what}")


def malformed(message):
    return Failed(kw.FailureKind_MalformedAnswer, message)


class Exchange(kw.Exchange):
    def __init__(self, operation, context):
        self.operation = operation
        self.status = 200
        self.request_id = None
        self.started = self.finished = False

    def step(self, inputs):
        outputs = []
        try:
            for one in inputs:
                outputs.extend(self.take(one))
        except Failed as failed:
            fault = FAULTS.get(failed.kind, kw.Fault.VENDOR)
            failure = kw.Failure(
                failed.kind(), fault, failed.message, failed.code, None, failed.param,
                failed.status, None, self.request_id,
            )
            outputs.append(kw.Output_Failed(failure))
        return outputs

    # A generator: what came out before a failure stays.
    def take(self, one):
        if isinstance(one, kw.Input_Start):
            if not isinstance(self.operation, kw.Operation_Chat):
                raise unsupported("such operation")
            yield from request(self.operation.value)
        elif isinstance(one, kw.Input_Head):
            self.status = one.value.status
            for header in one.value.headers:
                if header.name == "x-request-id":
                    self.request_id = header.value
        elif isinstance(one, kw.Input_Frame):
            for event in self.answer(one.value.data):
                yield kw.Output_Event(event)
        elif isinstance(one, kw.Input_Body):
            try:
                error = json.loads(one.value).get("error")
            except (ValueError, AttributeError):
                error = None
            if self.status < 300 and error is None:
                raise malformed("the vendor's answer isn't what was asked for")
            raise self.vendor_error(error, self.status)
        elif isinstance(one, kw.Input_End):
            if not self.finished:
                raise malformed("the vendor's answer ended before it was finished")
            yield kw.Output_Done()

    def vendor_error(self, error, status):
        error = error if isinstance(error, dict) else {}
        usual = kw.FailureKind_Unavailable if status >= 500 else kw.FailureKind_InvalidRequest
        return Failed(
            KINDS.get(status, usual),
            error.get("message") or "the vendor gave no reason",
            code=error.get("code"),
            status=status if self.status >= 300 else None,
        )

    def answer(self, data):
        if data == "[DONE]":
            return
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise malformed("the vendor's answer isn't JSON")
        if document.get("error"):
            raise self.vendor_error(document["error"], 500)
        if not self.started:
            self.started = True
            yield kw.Event_Started(kw.Started(document.get("id"), document.get("model")))
        for choice in document.get("choices", [])[:1]:
            said = choice.get("delta") or choice.get("message") or {}
            if said.get("content"):
                yield kw.Event_Text(kw.TextDelta(0, said["content"]))
            if reason := choice.get("finish_reason"):
                self.finished = True
                known = {"stop": kw.FinishReason_Stop, "length": kw.FinishReason_Length}
                end = known[reason]() if reason in known else kw.FinishReason_Other(reason)
                yield kw.Event_Finish(kw.Finish(0, end, None))
        if usage := document.get("usage"):
            counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
            yield kw.Event_Usage(kw.Usage(counts[0], None, None, counts[1], None, []))


def dropped(subject):
    message = "this vendor has no such thing"
    return kw.Output_Event(kw.Event_Warning(kw.Warning("dropped", subject, message)))


def request(chat):
    if chat.tools:
        raise unsupported("tools")
    if not isinstance(chat.format, kw.Format_Text):
        raise unsupported("answer format")
    body = {"model": chat.model, "messages": []}
    for message in chat.messages:
        if message.role not in ROLES:
            raise unsupported("results of tools")
        if not all(isinstance(part.body, kw.PartBody_Text) for part in message.parts):
            raise unsupported("parts of messages but text")
        # Marks stay whole in a longer string; the host writes the content in their place.
        content = "".join(part.body.value.value for part in message.parts)
        body["messages"].append({"role": ROLES[message.role], "content": content})
        for part in message.parts:
            if part.cache is not None:
                yield dropped("cache")
            yield from (dropped(f"extra.{field.name}") for field in part.extra)
        if message.name:
            yield dropped("name")
        yield from (dropped(f"extra.{field.name}") for field in message.extra)
    sampling = chat.sampling
    if sampling.max_output_tokens is not None:
        body["max_tokens"] = sampling.max_output_tokens
    if sampling.temperature is not None:
        if not 0 <= sampling.temperature <= 2:
            message = "this vendor takes temperatures from 0 to 2"
            raise Failed(kw.FailureKind_InvalidRequest, message, param="sampling.temperature")
        body["temperature"] = sampling.temperature
    if chat.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    for field in fields(sampling):
        taken = field.name in ("max_output_tokens", "temperature")
        if not taken and getattr(sampling, field.name) not in (None, []):
            yield dropped(f"sampling.{field.name}")
    if chat.reasoning:
        yield dropped("reasoning")
    yield from (dropped(f"extra.{field.name}") for field in chat.extra)
    framing = kw.Framing.SSE if chat.stream else kw.Framing.JSON
    yield kw.Output_Send(
        kw.VendorRequest(
            "api", kw.Method.POST, "/chat/completions", [], kw.Body_Json(json.dumps(body)), framing
        )
    )
