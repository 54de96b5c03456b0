//! What each bundled adapter costs in the sandbox, by its own recordings.
//!
//! The recordings `plain` and `streamed` are carried out as the host would: a fresh instance, one
//! step for a whole answer, one step for each event of a stream. They are as short as vendors'
//! answers to a greeting, and not the same for all vendors, so a figure says what this adapter costs
//! and not which is better. Each stands as a ratio to the native build of `openai` on its own
//! recordings in the same run, because ratios move less from machine to machine.

use std::{fs, path::Path};

use keyward::{
    contract as host,
    egress::{Decoder, FrameLimits},
    sandbox::{Compiler, Plugin},
};
use keyward_adapter_openai::OpenAi;
use keyward_sdk::{
    Exchange,
    contract::{self as sdk, Frame, Input, ResponseHead},
    replay::{Recording, Step},
};
use tokio::runtime::Runtime;

use crate::{EXCHANGES, cost, load, sources, types::Across};

/// Prints a line for each adapter in `components` whose sources are here.
pub fn print(components: &Path, compiler: &Compiler, runtime: &Runtime) {
    let mut names: Vec<String> = fs::read_dir(components)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".wasm")?.into()))
        .filter(|name: &String| sources().join(name).is_dir())
        .collect();
    names.sort();
    let openai = runtime.block_on(load(compiler, &components.join("openai.wasm")));
    let script = |plugin: &Plugin, name: &str, recording: &str| {
        let path = sources().join(name).join(format!("recordings/{recording}.json"));
        runtime.block_on(Script::learn(plugin, &Recording::load(&path).unwrap()))
    };
    let plain = script(&openai, "openai", "plain");
    let streamed = script(&openai, "openai", "streamed");
    let native_plain = cost(EXCHANGES, || plain.native(usize::MAX));
    let native_event = streamed.each(|steps| cost(EXCHANGES, || streamed.native(steps))).unwrap();

    println!("\n{:<44} {:>18} {:>18}", "each adapter's own recordings", "plain", "streamed event");
    let figure = |cost: f64, native: f64| format!("{cost:>5.1} us {:>7.1} x", cost / native);
    let line = |name: &str, plain: f64, event: Option<f64>| {
        let event = event.map_or("none".to_owned(), |event| figure(event, native_event));
        println!("{name:<44} {:>18} {event:>18}", figure(plain, native_plain));
    };
    line("openai, native", native_plain, Some(native_event));
    for name in &names {
        let plugin = runtime.block_on(load(compiler, &components.join(format!("{name}.wasm"))));
        let plain = script(&plugin, name, "plain");
        let plain = cost(EXCHANGES, || runtime.block_on(plain.sandboxed(&plugin, usize::MAX)));
        let streamed = script(&plugin, name, "streamed");
        let event = streamed
            .each(|steps| cost(EXCHANGES, || runtime.block_on(streamed.sandboxed(&plugin, steps))));
        line(name, plain, event);
    }
}

/// A recording as what an adapter gets, step by step.
struct Script {
    operation: sdk::Operation,
    context: sdk::Context,
    steps: Vec<Vec<Input>>,
    host: (host::Operation, host::Context, Vec<Vec<host::Input>>),
    /// Steps before the first that brings an event of a stream.
    before: usize,
}

impl Script {
    /// Carries the recording out once: which framing an answer has is the adapter's wish.
    async fn learn(plugin: &Plugin, recording: &Recording) -> Self {
        let (operation, context) = (recording.operation.clone(), recording.context.clone());
        let is_stream = matches!(&operation, sdk::Operation::Chat(chat) if chat.stream);
        let host_operation: host::Operation = operation.clone().across();
        let host_context: host::Context = context.clone().across();
        let mut instance = plugin.open(&host_operation, &host_context).await.unwrap();
        let mut steps = vec![vec![Input::Start]];
        let mut recorded = recording.steps.iter();
        let mut before = 1;
        let mut next = 0;
        while let Some(inputs) = steps.get(next) {
            let inputs: Vec<host::Input> = inputs.clone().across();
            for output in instance.step(&inputs).await.unwrap() {
                match (output, is_stream) {
                    (host::Output::Send(request), _) => {
                        let Some(Step::Request { answer, .. }) = recorded.next() else {
                            panic!("{}: a request more than recorded", recording.name)
                        };
                        let framing = request.framing;
                        let arrivals = arrivals(plugin, answer, framing);
                        if is_stream {
                            before = steps.len() + 1;
                            steps.extend(arrivals.into_iter().map(|input| vec![input]));
                        } else {
                            steps.push(arrivals);
                        }
                    }
                    (host::Output::Sleep(_), _) => {
                        recorded.next();
                        steps.push(vec![Input::Timer]);
                    }
                    (host::Output::Failed(failure), _) => panic!("{}: {failure:?}", recording.name),
                    _ => {}
                }
            }
            next += 1;
        }
        let host_steps: Vec<Vec<host::Input>> = steps.clone().across();
        let host = (host_operation, host_context, host_steps);
        Self { operation, context, steps, host, before }
    }

    /// The first steps in a fresh instance.
    async fn sandboxed(&self, plugin: &Plugin, steps: usize) {
        let (operation, context, all) = &self.host;
        let mut instance = plugin.open(operation, context).await.unwrap();
        for inputs in all.iter().take(steps) {
            instance.step(inputs).await.unwrap();
        }
    }

    /// The same with the native build of `openai`.
    fn native(&self, steps: usize) {
        let mut exchange = Exchange::<OpenAi>::new(self.operation.clone(), self.context.clone());
        for inputs in self.steps.iter().take(steps) {
            exchange.step(inputs.clone());
        }
    }

    /// The cost of one event of a stream, if there are any: of all steps without those before.
    fn each(&self, cost_of: impl Fn(usize) -> f64) -> Option<f64> {
        let events = self.steps.len() - self.before;
        (events > 0).then(|| (cost_of(usize::MAX) - cost_of(self.before)) / events as f64)
    }
}

/// A vendor's answer as the host passes it on.
fn arrivals(
    plugin: &Plugin,
    answer: &keyward_sdk::replay::Answer,
    framing: host::Framing,
) -> Vec<Input> {
    let shown = &plugin.descriptor.response_headers;
    let headers = answer.headers.iter().filter(|(name, _)| shown.contains(name));
    let headers = headers.cloned().map(|(name, value)| sdk::Header { name, value }).collect();
    let mut decoder = Decoder::new(framing, FrameLimits::default());
    let mut frames = Vec::new();
    decoder.push(&answer.body, &mut frames).unwrap();
    decoder.finish(&mut frames).unwrap();
    let frames: Vec<Frame> = frames.into_iter().map(Across::across).collect();
    let mut arrivals = vec![Input::Head(ResponseHead { status: answer.status, headers })];
    arrivals.extend(frames.into_iter().map(Input::Frame));
    arrivals.push(Input::End);
    arrivals
}
