// A whole adapter in JavaScript: chat, streamed and plain, for a vendor that speaks a little of
// OpenAI's chat protocol. The names follow from `wit/adapter.wit`: the interface `adapter` has one
// function and one resource, a variant is `{tag, val}`, an absent option `null`.

const DESCRIPTOR = {
  name: "mini",
  version: "0.1.0",
  title: "Mini",
  summary: "The same small adapter, in JavaScript.",
  kind: "external",
  origins: [{ name: "api", base_url: "https://api.mini.example/v1" }],
  auth: [{ origin: "api", scheme: { type: "bearer" }, credential: "api_key" }],
  credentials: [{ name: "api_key", label: "API key", required: true }],
  response_headers: ["x-request-id"],
  operations: ["chat"],
};

const ROLES = { system: "system", developer: "system", user: "user", assistant: "assistant" };

const KINDS = {
  401: "authentication",
  403: "permission",
  404: "model-not-found",
  429: "rate-limited",
  503: "overloaded",
};

const FAULTS = {
  authentication: "host",
  permission: "host",
  "rate-limited": "host",
  "model-not-found": "caller",
  "invalid-request": "caller",
  unsupported: "caller",
};

class Failed {
  constructor(kind, message, more = {}) {
    Object.assign(this, { kind, message, ...more });
  }
}

const unsupported = (what) => new Failed("unsupported", `this vendor takes no ${what}`);
const malformed = (message) => new Failed("malformed-answer", message);
const event = (tag, val) => ({ tag: "event", val: { tag, val } });

const dropped = (subject) =>
  event("warning", { code: "dropped", subject, message: "this vendor has no such thing" });

// JSON that may be anything, or `undefined`.
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function* request(chat) {
  if (chat.tools.length) throw unsupported("tools");
  if (chat.format.tag !== "text") throw unsupported("answer format");
  const body = { model: chat.model, messages: [] };
  for (const message of chat.messages) {
    if (!ROLES[message.role]) throw unsupported("results of tools");
    if (!message.parts.every((part) => part.body.tag === "text")) {
      throw unsupported("parts of messages but text");
    }
    // Marks stay whole in a longer string; the host writes the content in their place.
    const content = message.parts.map((part) => part.body.val.value).join("");
    body.messages.push({ role: ROLES[message.role], content });
    for (const part of message.parts) {
      if (part.cache !== null) yield dropped("cache");
      for (const field of part.extra) yield dropped(`extra.${field.name}`);
    }
    if (message.name) yield dropped("name");
    for (const field of message.extra) yield dropped(`extra.${field.name}`);
  }
  const { maxOutputTokens, temperature, ...rest } = chat.sampling;
  if (maxOutputTokens !== null) body.max_tokens = maxOutputTokens;
  if (temperature !== null) {
    if (!(temperature >= 0 && temperature <= 2)) {
      const message = "this vendor takes temperatures from 0 to 2";
      throw new Failed("invalid-request", message, { param: "sampling.temperature" });
    }
    body.temperature = temperature;
  }
  if (chat.stream) Object.assign(body, { stream: true, stream_options: { include_usage: true } });
  for (const [name, value] of Object.entries(rest)) {
    if (value === null || value.length === 0) continue;
    yield dropped(`sampling.${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`);
  }
  if (chat.reasoning) yield dropped("reasoning");
  for (const field of chat.extra) yield dropped(`extra.${field.name}`);
  yield {
    tag: "send",
    val: {
      origin: "api",
      method: "post",
      path: "/chat/completions",
      headers: [],
      body: { tag: "json", val: JSON.stringify(body) },
      framing: chat.stream ? "sse" : "json",
    },
  };
}

class Exchange {
  constructor(operation, _context) {
    this.operation = operation;
    this.status = 200;
    this.requestId = null;
    this.started = this.finished = false;
  }

  step(inputs) {
    const outputs = [];
    try {
      for (const input of inputs) for (const output of this.take(input)) outputs.push(output);
    } catch (failed) {
      if (!(failed instanceof Failed)) throw failed;
      const { kind, message, code, param = null, status = null } = failed;
      outputs.push({
        tag: "failed",
        val: {
          kind: { tag: kind },
          fault: FAULTS[kind] ?? "vendor",
          message,
          code: code ?? null,
          type: null,
          param,
          status,
          retryAfterMs: null,
          requestId: this.requestId,
        },
      });
    }
    return outputs;
  }

  // A generator: what came out before a failure stays.
  *take({ tag, val }) {
    switch (tag) {
      case "start":
        if (this.operation.tag !== "chat") throw unsupported("such operation");
        yield* request(this.operation.val);
        break;
      case "head":
        this.status = val.status;
        this.requestId = val.headers.find(({ name }) => name === "x-request-id")?.value ?? null;
        break;
      case "frame":
        yield* this.answer(val.data);
        break;
      case "body": {
        const error = parse(val)?.error;
        if (this.status < 300 && !error) {
          throw malformed("the vendor's answer isn't what was asked for");
        }
        throw this.vendorError(error, this.status);
      }
      case "end":
        if (!this.finished) {
          throw malformed("the vendor's answer ended before it was finished");
        }
        yield { tag: "done" };
    }
  }

  vendorError(error, status) {
    const kind = KINDS[status] ?? (status >= 500 ? "unavailable" : "invalid-request");
    return new Failed(kind, error?.message ?? "the vendor gave no reason", {
      code: error?.code,
      status: this.status >= 300 ? status : null,
    });
  }

  *answer(data) {
    if (data === "[DONE]") return;
    const document = parse(data);
    if (typeof document !== "object" || document === null) {
      throw malformed("the vendor's answer isn't JSON");
    }
    if (document.error) throw this.vendorError(document.error, 500);
    if (!this.started) {
      this.started = true;
      yield event("started", { id: document.id ?? null, model: document.model ?? null });
    }
    const choice = document.choices?.[0];
    const text = (choice?.delta ?? choice?.message)?.content;
    if (text) yield event("text", { choice: 0, text });
    const reason = choice?.finish_reason;
    if (reason) {
      this.finished = true;
      const known = reason === "stop" || reason === "length";
      const end = known ? { tag: reason } : { tag: "other", val: reason };
      yield event("finish", { choice: 0, reason: end, stopSequence: null });
    }
    const usage = document.usage;
    if (usage) {
      yield event("usage", {
        input: usage.prompt_tokens ?? null,
        cacheRead: null,
        cacheWrite: null,
        output: usage.completion_tokens ?? null,
        reasoning: null,
        units: [],
      });
    }
  }
}

export const adapter = { describe: () => JSON.stringify(DESCRIPTOR), Exchange };
