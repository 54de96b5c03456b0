// A whole adapter in C: chat, streamed and plain, for a vendor that speaks a little of OpenAI's
// chat protocol. `contract.h` is generated from `wit/adapter.wit`; the three functions at the end
// are what it asks for. No memory is freed: an instance lives for one exchange.

#include "generated/contract.h"
#include <stdlib.h>
#include <string.h>

typedef contract_string_t str;

static const char DESCRIPTOR[] =
    "{\"name\":\"mini\",\"version\":\"0.1.0\",\"title\":\"Mini\",\"kind\":\"external\","
    "\"summary\":\"The same small adapter, in C.\","
    "\"origins\":[{\"name\":\"api\",\"base_url\":\"https://api.mini.example/v1\"}],"
    "\"auth\":[{\"origin\":\"api\",\"scheme\":{\"type\":\"bearer\"},\"credential\":\"api_key\"}],"
    "\"credentials\":[{\"name\":\"api_key\",\"label\":\"API key\",\"required\":true}],"
    "\"response_headers\":[\"x-request-id\"],\"operations\":[\"chat\"]}";

// ---------------------------------------------------------------- memory and text

static void *need(void *memory) {
  if (!memory) __builtin_trap();
  return memory;
}

static str lit(const char *text) { return (str){(uint8_t *)text, strlen(text)}; }

static bool is(str s, const char *text) {
  return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

typedef struct {
  uint8_t *ptr;
  size_t len, room;
} buffer;

static void put(buffer *b, const void *bytes, size_t len) {
  if (b->len + len > b->room) {
    b->room = (b->len + len) * 2 + 64;
    b->ptr = need(realloc(b->ptr, b->room));
  }
  memcpy(b->ptr + b->len, bytes, len);
  b->len += len;
}

static void puts_(buffer *b, const char *text) { put(b, text, strlen(text)); }

static void put_count(buffer *b, uint32_t count) {
  char digits[10];
  size_t at = sizeof digits;
  do digits[--at] = (char)('0' + count % 10);
  while (count /= 10);
  put(b, digits + at, sizeof digits - at);
}

// The inside of a JSON string.
static void put_escaped(buffer *b, str s) {
  static const char hex[] = "0123456789abcdef";
  for (size_t i = 0; i < s.len; i++) {
    uint8_t c = s.ptr[i];
    if (c == '"' || c == '\\') {
      put(b, "\\", 1);
      put(b, &c, 1);
    } else if (c < 0x20) {
      char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
      put(b, escape, 6);
    } else {
      put(b, &c, 1);
    }
  }
}

static void put_string(buffer *b, str s) {
  put(b, "\"", 1);
  put_escaped(b, s);
  put(b, "\"", 1);
}

// ---------------------------------------------------------------- reading JSON

// Values stay text until they are needed; `{NULL, 0}` is a value that isn't there.
static const str ABSENT = {NULL, 0};

static size_t space(str s, size_t at) {
  while (at < s.len && strchr(" \t\r\n", s.ptr[at]) && s.ptr[at]) at++;
  return at;
}

// Where the value at `at` ends, or 0 if it isn't one.
static size_t skip(str s, size_t at, int depth) {
  at = space(s, at);
  if (at >= s.len || depth > 64) return 0;
  uint8_t open = s.ptr[at];
  if (open == '"') {
    for (at++; at < s.len && s.ptr[at] != '"'; at++)
      if (s.ptr[at] == '\\') at++;
    return at < s.len ? at + 1 : 0;
  }
  if (open == '{' || open == '[') {
    uint8_t close = open == '{' ? '}' : ']';
    at = space(s, at + 1);
    if (at < s.len && s.ptr[at] == close) return at + 1;
    for (;;) {
      if (open == '{') {
        at = space(s, at);
        if (at >= s.len || s.ptr[at] != '"') return 0;
        at = skip(s, at, depth + 1);
        if (!at) return 0;
        at = space(s, at);
        if (at >= s.len || s.ptr[at++] != ':') return 0;
      }
      at = skip(s, at, depth + 1);
      if (!at) return 0;
      at = space(s, at);
      if (at >= s.len) return 0;
      if (s.ptr[at] == close) return at + 1;
      if (s.ptr[at++] != ',') return 0;
    }
  }
  size_t begin = at;
  while (at < s.len && !strchr(",]} \t\r\n", s.ptr[at])) at++;
  return at > begin ? at : 0;
}

static str value_at(str s, size_t at) {
  at = space(s, at);
  size_t end = skip(s, at, 0);
  return end ? (str){s.ptr + at, end - at} : ABSENT;
}

static str member(str object, const char *name) {
  if (!object.len || object.ptr[0] != '{') return ABSENT;
  size_t at = space(object, 1);
  while (at < object.len && object.ptr[at] == '"') {
    str key = value_at(object, at);
    if (!key.len) return ABSENT;
    at = space(object, at + key.len) + 1;
    str value = value_at(object, at);
    if (!value.len) return ABSENT;
    if (is((str){key.ptr + 1, key.len - 2}, name)) return is(value, "null") ? ABSENT : value;
    at = space(object, (size_t)(value.ptr - object.ptr) + value.len) + 1;
    at = space(object, at);
  }
  return ABSENT;
}

static str first(str array) {
  return array.len > 2 && array.ptr[0] == '[' ? value_at(array, 1) : ABSENT;
}

static uint32_t hex4(str s, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4 && i < s.len; i++) {
    uint8_t c = s.ptr[i] | 0x20;
    value = value << 4 | (uint32_t)(c >= 'a' ? c - 'a' + 10 : c - '0');
  }
  return value & 0xffff;
}

static void put_utf8(buffer *b, uint32_t c) {
  uint8_t out[4];
  size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (size_t i = len; i-- > 1; c >>= 6) out[i] = 0x80 | (c & 0x3f);
  out[0] = (uint8_t)(lead[len] | c);
  put(b, out, len);
}

// A JSON string's text; absent for anything else.
static str text_of(str json) {
  if (json.len < 2 || json.ptr[0] != '"') return ABSENT;
  buffer b = {need(malloc(json.len)), 0, json.len};
  for (size_t i = 1; i < json.len - 1; i++) {
    uint8_t c = json.ptr[i];
    if (c != '\\') {
      put(&b, &c, 1);
      continue;
    }
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    c = json.ptr[++i];
    const char *known = strchr(from, c);
    if (c == 'u') {
      uint32_t code = hex4(json, i + 1);
      i += 4;
      bool high = code >= 0xd800 && code < 0xdc00;
      if (high && i + 6 < json.len && json.ptr[i + 1] == '\\' && json.ptr[i + 2] == 'u') {
        uint32_t low = hex4(json, i + 3);
        if (low >= 0xdc00 && low < 0xe000) {
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          i += 6;
        }
      }
      put_utf8(&b, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    } else {
      if (known) c = (uint8_t)to[known - from];
      put(&b, &c, 1);
    }
  }
  return (str){b.ptr, b.len};
}

static contract_option_u64_t count_of(str json) {
  uint64_t value = 0;
  for (size_t i = 0; i < json.len; i++) {
    if (json.ptr[i] < '0' || json.ptr[i] > '9') return (contract_option_u64_t){false, 0};
    value = value * 10 + (json.ptr[i] - '0');
  }
  return (contract_option_u64_t){json.len > 0, value};
}

// ---------------------------------------------------------------- the exchange

struct exports_kw_exchange_t {
  exports_kw_operation_t operation;
  uint16_t status;
  str request_id;
  bool started, finished;
};

typedef struct {
  exports_kw_exchange_t *self;
  exports_kw_output_t *ptr;
  size_t len, room;
  bool over;
} outputs;

static exports_kw_output_t *add(outputs *out, uint8_t tag) {
  if (out->len == out->room) {
    out->room = out->room * 2 + 8;
    out->ptr = need(realloc(out->ptr, out->room * sizeof *out->ptr));
  }
  exports_kw_output_t *added = &out->ptr[out->len++];
  memset(added, 0, sizeof *added);
  added->tag = tag;
  return added;
}

static exports_kw_event_t *event(outputs *out, uint8_t tag) {
  exports_kw_event_t *added = &add(out, EXPORTS_KW_OUTPUT_EVENT)->val.event;
  added->tag = tag;
  return added;
}

static contract_option_string_t some(str s) { return (contract_option_string_t){s.ptr != NULL, s}; }

static exports_kw_failure_t *fail(outputs *out, uint8_t kind, uint8_t fault, str message) {
  exports_kw_failure_t *failure = &add(out, EXPORTS_KW_OUTPUT_FAILED)->val.failed;
  failure->kind.tag = kind;
  failure->fault = fault;
  failure->message = message;
  failure->request_id = some(out->self->request_id);
  out->over = true;
  return failure;
}

static void unsupported(outputs *out, const char *what) {
  buffer b = {0};
  puts_(&b, "this vendor takes no ");
  puts_(&b, what);
  fail(out, EXPORTS_KW_FAILURE_KIND_UNSUPPORTED, EXPORTS_KW_FAULT_CALLER, (str){b.ptr, b.len});
}

static void invalid(outputs *out, const char *param, const char *message) {
  exports_kw_failure_t *failure = fail(out, EXPORTS_KW_FAILURE_KIND_INVALID_REQUEST,
                                       EXPORTS_KW_FAULT_CALLER, lit(message));
  failure->param = some(lit(param));
}

static void malformed(outputs *out, const char *message) {
  fail(out, EXPORTS_KW_FAILURE_KIND_MALFORMED_ANSWER, EXPORTS_KW_FAULT_VENDOR, lit(message));
}

static void dropped(outputs *out, const char *subject) {
  exports_kw_warning_t *warning = &event(out, EXPORTS_KW_EVENT_WARNING)->val.warning;
  warning->code = lit("dropped");
  warning->subject = lit(subject);
  warning->message = lit("this vendor has no such thing");
}

static void dropped_fields(outputs *out, exports_kw_list_field_t fields) {
  for (size_t i = 0; i < fields.len; i++) {
    buffer b = {0};
    puts_(&b, "extra.");
    put(&b, fields.ptr[i].name.ptr, fields.ptr[i].name.len);
    put(&b, "", 1);
    dropped(out, (const char *)b.ptr);
  }
}

static void request(outputs *out, exports_kw_chat_t *chat) {
  static const char *roles[] = {"system", "system", "user", "assistant"};
  if (chat->tools.len) return unsupported(out, "tools");
  if (chat->format.tag != EXPORTS_KW_FORMAT_TEXT) return unsupported(out, "answer format");
  buffer b = {0};
  puts_(&b, "{\"model\":");
  put_string(&b, chat->model);
  puts_(&b, ",\"messages\":[");
  for (size_t i = 0; i < chat->messages.len; i++) {
    exports_kw_message_t *message = &chat->messages.ptr[i];
    if (message->role == EXPORTS_KW_ROLE_TOOL) return unsupported(out, "results of tools");
    puts_(&b, i ? ",{\"role\":\"" : "{\"role\":\"");
    puts_(&b, roles[message->role]);
    puts_(&b, "\",\"content\":\"");
    for (size_t j = 0; j < message->parts.len; j++) {
      exports_kw_part_t *part = &message->parts.ptr[j];
      if (part->body.tag != EXPORTS_KW_PART_BODY_TEXT)
        return unsupported(out, "parts of messages but text");
      put_escaped(&b, part->body.val.text.value);
      if (part->cache.is_some) dropped(out, "cache");
      dropped_fields(out, part->extra);
    }
    puts_(&b, "\"}");
    if (message->name.is_some) dropped(out, "name");
    dropped_fields(out, message->extra);
  }
  puts_(&b, "]");
  exports_kw_sampling_t *sampling = &chat->sampling;
  if (sampling->max_output_tokens.is_some) {
    puts_(&b, ",\"max_tokens\":");
    put_count(&b, sampling->max_output_tokens.val);
  }
  if (sampling->temperature.is_some) {
    double temperature = sampling->temperature.val;
    if (!(temperature >= 0 && temperature <= 2))
      return invalid(out, "sampling.temperature", "this vendor takes temperatures from 0 to 2");
    // Four digits are more than any model feels.
    uint32_t digits = (uint32_t)(temperature * 10000 + 0.5);
    puts_(&b, ",\"temperature\":");
    put_count(&b, digits / 10000);
    puts_(&b, ".");
    for (uint32_t left = digits % 10000, place = 1000; place; left %= place, place /= 10)
      put_count(&b, left / place);
  }
  if (chat->stream) puts_(&b, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
  puts_(&b, "}");
  if (sampling->top_p.is_some) dropped(out, "sampling.top_p");
  if (sampling->top_k.is_some) dropped(out, "sampling.top_k");
  if (sampling->frequency_penalty.is_some) dropped(out, "sampling.frequency_penalty");
  if (sampling->presence_penalty.is_some) dropped(out, "sampling.presence_penalty");
  if (sampling->seed.is_some) dropped(out, "sampling.seed");
  if (sampling->stop.len) dropped(out, "sampling.stop");
  if (sampling->choices.is_some) dropped(out, "sampling.choices");
  if (sampling->logprobs.is_some) dropped(out, "sampling.logprobs");
  if (chat->reasoning.is_some) dropped(out, "reasoning");
  dropped_fields(out, chat->extra);
  exports_kw_vendor_request_t *send = &add(out, EXPORTS_KW_OUTPUT_SEND)->val.send;
  send->origin = lit("api");
  send->method = EXPORTS_KW_METHOD_POST;
  send->path = lit("/chat/completions");
  send->body.tag = EXPORTS_KW_BODY_JSON;
  send->body.val.json = (str){b.ptr, b.len};
  send->framing = chat->stream ? EXPORTS_KW_FRAMING_SSE : EXPORTS_KW_FRAMING_JSON;
}

static uint8_t kind_of(uint16_t status) {
  switch (status) {
  case 401: return EXPORTS_KW_FAILURE_KIND_AUTHENTICATION;
  case 403: return EXPORTS_KW_FAILURE_KIND_PERMISSION;
  case 404: return EXPORTS_KW_FAILURE_KIND_MODEL_NOT_FOUND;
  case 429: return EXPORTS_KW_FAILURE_KIND_RATE_LIMITED;
  case 503: return EXPORTS_KW_FAILURE_KIND_OVERLOADED;
  default:
    return status >= 500 ? EXPORTS_KW_FAILURE_KIND_UNAVAILABLE
                         : EXPORTS_KW_FAILURE_KIND_INVALID_REQUEST;
  }
}

static uint8_t fault_of(uint8_t kind) {
  switch (kind) {
  case EXPORTS_KW_FAILURE_KIND_AUTHENTICATION:
  case EXPORTS_KW_FAILURE_KIND_PERMISSION:
  case EXPORTS_KW_FAILURE_KIND_RATE_LIMITED: return EXPORTS_KW_FAULT_HOST;
  case EXPORTS_KW_FAILURE_KIND_MODEL_NOT_FOUND:
  case EXPORTS_KW_FAILURE_KIND_INVALID_REQUEST: return EXPORTS_KW_FAULT_CALLER;
  default: return EXPORTS_KW_FAULT_VENDOR;
  }
}

static void vendor_error(outputs *out, uint16_t status, str error) {
  uint8_t kind = kind_of(status);
  str message = text_of(member(error, "message"));
  if (!message.ptr) message = lit("the vendor gave no reason");
  exports_kw_failure_t *failure = fail(out, kind, fault_of(kind), message);
  failure->code = some(text_of(member(error, "code")));
  if (out->self->status >= 300) failure->status = (contract_option_u16_t){true, status};
}

static void answer(outputs *out, str json) {
  exports_kw_exchange_t *self = out->self;
  if (is(json, "[DONE]")) return;
  str document = value_at(json, 0);
  if (!document.len || document.ptr[0] != '{')
    return malformed(out, "the vendor's answer isn't JSON");
  str error = member(document, "error");
  if (error.len) return vendor_error(out, 500, error);
  if (!self->started) {
    self->started = true;
    exports_kw_started_t *started = &event(out, EXPORTS_KW_EVENT_STARTED)->val.started;
    started->id = some(text_of(member(document, "id")));
    started->model = some(text_of(member(document, "model")));
  }
  str choice = first(member(document, "choices"));
  str said = member(choice, "delta");
  if (!said.len) said = member(choice, "message");
  str text = text_of(member(said, "content"));
  if (text.len) event(out, EXPORTS_KW_EVENT_TEXT)->val.text.text = text;
  str reason = text_of(member(choice, "finish_reason"));
  if (reason.ptr) {
    self->finished = true;
    exports_kw_finish_reason_t *end = &event(out, EXPORTS_KW_EVENT_FINISH)->val.finish.reason;
    end->tag = is(reason, "stop")     ? EXPORTS_KW_FINISH_REASON_STOP
               : is(reason, "length") ? EXPORTS_KW_FINISH_REASON_LENGTH
                                      : EXPORTS_KW_FINISH_REASON_OTHER;
    if (end->tag == EXPORTS_KW_FINISH_REASON_OTHER) end->val.other = reason;
  }
  str usage = member(document, "usage");
  if (usage.len) {
    exports_kw_usage_t *counts = &event(out, EXPORTS_KW_EVENT_USAGE)->val.usage;
    counts->input = count_of(member(usage, "prompt_tokens"));
    counts->output = count_of(member(usage, "completion_tokens"));
  }
}

static void take(outputs *out, exports_kw_input_t *input) {
  exports_kw_exchange_t *self = out->self;
  switch (input->tag) {
  case EXPORTS_KW_INPUT_START:
    if (self->operation.tag != EXPORTS_KW_OPERATION_CHAT) return unsupported(out, "such operation");
    return request(out, &self->operation.val.chat);
  case EXPORTS_KW_INPUT_HEAD:
    self->status = input->val.head.status;
    for (size_t i = 0; i < input->val.head.headers.len; i++)
      if (is(input->val.head.headers.ptr[i].name, "x-request-id"))
        self->request_id = input->val.head.headers.ptr[i].value;
    return;
  case EXPORTS_KW_INPUT_FRAME: return answer(out, input->val.frame.data);
  case EXPORTS_KW_INPUT_BODY: {
    str error = member(value_at(input->val.body, 0), "error");
    if (self->status < 300 && !error.len)
      return malformed(out, "the vendor's answer isn't what was asked for");
    return vendor_error(out, self->status < 300 ? 500 : self->status, error);
  }
  case EXPORTS_KW_INPUT_END:
    if (!self->finished) return malformed(out, "the vendor's answer ended before it was finished");
    add(out, EXPORTS_KW_OUTPUT_DONE);
    out->over = true;
    return;
  default: return;
  }
}

// ---------------------------------------------------------------- what the contract asks for

void exports_kw_describe(exports_kw_json_t *ret) { contract_string_dup(ret, DESCRIPTOR); }

exports_kw_own_exchange_t exports_kw_constructor_exchange(exports_kw_operation_t *operation,
                                                          exports_kw_context_t *context) {
  (void)context;
  exports_kw_exchange_t *self = need(calloc(1, sizeof *self));
  self->operation = *operation;
  return exports_kw_exchange_new(self);
}

void exports_kw_method_exchange_step(exports_kw_exchange_t *self, exports_kw_list_input_t *inputs,
                                     exports_kw_list_output_t *ret) {
  outputs out = {.self = self};
  for (size_t i = 0; i < inputs->len && !out.over; i++) take(&out, &inputs->ptr[i]);
  *ret = (exports_kw_list_output_t){out.ptr, out.len};
}

void exports_kw_exchange_destructor(exports_kw_exchange_t *self) { (void)self; }

// The contract's types are written into the component by `keyward plugin build`.
void __component_type_object_force_link_contract(void) {}
