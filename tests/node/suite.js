// Runs cases against a server with the unchanged openai package of npm and prints one JSON line for
// each, as tests/python/suite.py does.
//
//     node suite.js BASE_URL API_KEY PREFIX [CASE...]
//
// The package is looked for from the working directory, where `npm ci` has put it. Judging is left to
// the caller.

import { createRequire } from "node:module";
import { join } from "node:path";

const { OpenAI, OpenAIError } = createRequire(join(process.cwd(), "here.js"))("openai");

const [baseURL, apiKey, prefix, ...wanted] = process.argv.slice(2);
const client = (more) => new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000, ...more });
const openai = client({});

const QUESTION = { role: "user", content: "What is the weather?" };
const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const WEATHER = { name: "get_weather", description: "The weather in a city", parameters: PARAMETERS };
const CHAT_TOOL = { type: "function", function: WEATHER };
const TOOL = { type: "function", ...WEATHER, strict: true };
const EVERY_CHARACTER = "\"quoted\" \\back\\ \n\t\u0001 Grüße 日本語 🦀 </script> \u2028 end";

const chat = (model, content, more) =>
  openai.chat.completions.create({
    model: prefix + model,
    messages: [{ role: "user", content }],
    ...more,
  });
const respond = (model, input, more) =>
  openai.responses.create({ model: prefix + model, input, ...more });
const sunny = (call) => `${JSON.parse(call.arguments).city}: "sunny", 21°`;

async function gatherChat(stream) {
  const seen = { text: "", chunks: 0, finish: null, usage: null };
  for await (const chunk of stream) {
    seen.chunks += 1;
    seen.text += chunk.choices[0]?.delta.content ?? "";
    seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish;
    seen.usage = chunk.usage ?? seen.usage;
  }
  return seen;
}

async function gatherResponse(stream) {
  const seen = { text: "", thinking: "", events: [], last: null };
  for await (const event of stream) {
    seen.events.push(event.type);
    if (event.type === "response.output_text.delta") seen.text += event.delta;
    if (event.type === "response.reasoning_summary_text.delta") seen.thinking += event.delta;
    if (event.response) seen.last = { status: event.response.status, output: event.response.output };
  }
  return seen;
}

// What came before an error, and the error.
async function upToError(stream, text) {
  const seen = { text: "", completed: false };
  try {
    for await (const event of await stream) {
      seen.text += text(event) ?? "";
      seen.completed ||= event.type === "response.completed";
    }
  } catch (error) {
    if (!(error instanceof OpenAIError)) throw error;
    seen.raised = raised(error);
  }
  return seen;
}

const cases = {
  async chat_plain() {
    const answer = await chat("plain-model", EVERY_CHARACTER);
    const [choice] = answer.choices;
    return { text: choice.message.content, finish: choice.finish_reason, usage: answer.usage };
  },
  async chat_streamed() {
    const options = { stream: true, stream_options: { include_usage: true } };
    return gatherChat(await chat("plain-model", EVERY_CHARACTER, options));
  },
  async chat_streamed_with_helper() {
    const runner = openai.chat.completions.stream({
      model: prefix + "tools-parallel",
      messages: [QUESTION],
      tools: [CHAT_TOOL],
    });
    const { message } = (await runner.finalChatCompletion()).choices[0];
    return { calls: message.tool_calls.map((call) => JSON.parse(call.function.arguments)) };
  },
  async chat_tools_are_run() {
    const run = ({ city }) => `${city}: "sunny", 21°`;
    const runner = openai.chat.completions.runTools({
      model: prefix + "tools-parallel",
      messages: [QUESTION],
      tools: [{ type: "function", function: { ...WEATHER, function: run, parse: JSON.parse } }],
    });
    return { text: await runner.finalContent() };
  },
  async chat_an_error_inside_the_stream() {
    const stream = chat("stream-error-6", "one two three four five six", { stream: true });
    return upToError(stream, (chunk) => chunk.choices[0]?.delta.content);
  },
  async response_plain() {
    const { output_text, status, usage, output } = await respond("plain-model", EVERY_CHARACTER);
    return { text: output_text, status, usage, kinds: output.map((item) => item.type) };
  },
  async response_streamed() {
    return gatherResponse(await respond("plain-model", EVERY_CHARACTER, { stream: true }));
  },
  async response_streamed_with_helper() {
    const stream = openai.responses.stream({ model: prefix + "plain-model", input: "Hello there" });
    const kinds = new Set();
    stream.on("event", (event) => kinds.add(event.type));
    const { output_text, status } = await stream.finalResponse();
    return { text: output_text, status, kinds: [...kinds].sort() };
  },
  async response_thinking_streamed() {
    return gatherResponse(await respond("thinking", "Hello there", { stream: true }));
  },
  async response_calls_streamed_with_helper() {
    const stream = openai.responses.stream({
      model: prefix + "tools-parallel",
      input: [QUESTION],
      tools: [TOOL],
    });
    const { output } = await stream.finalResponse();
    const calls = output.filter((item) => item.type === "function_call");
    return { calls: calls.map((call) => JSON.parse(call.arguments)) };
  },
  async response_results_come_back() {
    const input = [QUESTION];
    const first = await respond("tools-parallel", input, { tools: [TOOL] });
    input.push(...first.output);
    for (const call of first.output.filter((item) => item.type === "function_call")) {
      input.push({ type: "function_call_output", call_id: call.call_id, output: sunny(call) });
    }
    return { text: (await respond("tools-parallel", input, { tools: [TOOL] })).output_text };
  },
  async response_an_error_inside_the_stream() {
    const stream = respond("stream-error-8", "one two three four five six", { stream: true });
    return upToError(stream, (event) =>
      event.type === "response.output_text.delta" ? event.delta : "",
    );
  },
  async response_cannot_be_retrieved() {
    return openai.responses.retrieve("resp_none");
  },
  async chat_with_a_wrong_token() {
    const body = { model: prefix + "plain-model", messages: [QUESTION] };
    return client({ apiKey: "wrong-token" }).chat.completions.create(body);
  },
  async response_to_a_wrong_role() {
    return respond("plain-model", [{ role: "nobody", content: "Hello" }]);
  },
};
for (const status of [400, 401, 403, 404, 429, 500, 503]) {
  cases[`chat_${status}`] = () => chat(`status-${status}`, "Hello");
  cases[`chat_${status}_streamed`] = async () =>
    gatherChat(await chat(`status-${status}`, "Hello", { stream: true }));
  cases[`response_${status}`] = () => respond(`status-${status}`, "Hello");
  cases[`response_${status}_streamed`] = async () =>
    gatherResponse(await respond(`status-${status}`, "Hello", { stream: true }));
}

const raised = (error) => ({
  type: error.constructor.name,
  message: error.message,
  status: error.status ?? null,
  code: error.code ?? null,
  param: error.param ?? null,
  error_type: error.type ?? null,
});

for (const name of wanted.length ? wanted : Object.keys(cases)) {
  const line = { case: name };
  try {
    line.result = await cases[name]();
  } catch (error) {
    // Anything else is a bug in the case, or an answer the SDK could not read.
    if (error instanceof OpenAIError) line.raised = raised(error);
    else line.crashed = error.stack;
  }
  console.log(JSON.stringify(line));
}
