//! The trait an author implements, and the one driver that runs it.
//!
//! [`Exchange`] maps the contract's `step` onto the trait. The exports of a component and the
//! native replay kit both use it, so what passes natively behaves alike in the sandbox. It keeps
//! the contract's promises for the author: an `Err` becomes the last output `failed`, and nothing
//! follows a last output.

use std::{cell::RefCell, marker::PhantomData};

use keyward_contract::Descriptor;

use crate::{
    Failure, Output,
    contract::{self, Context, Frame, Input, Operation, ResponseHead},
};

/// One operation against one vendor. A value lives for one exchange, in an instance of its own.
///
/// The host calls `start`, then for each answer `head`, then either `frame`s or one `body`, then
/// `end`. Each may write to [`Output`]; `Err` ends the exchange as failed, with the events written
/// before it still valid.
pub trait Adapter: Sized + 'static {
    /// What this adapter is and wants. Called once when the component is loaded.
    fn describe() -> Descriptor;

    /// Send the first request, or answer at once.
    ///
    /// # Errors
    /// `unsupported` for operations and fields the vendor has no place for and the answer would be
    /// wrong without; `invalid-request` for the caller's mistakes.
    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure>;

    /// Status and headers of an answer, whatever the status. For rate limits and the like.
    fn head(&mut self, head: &ResponseHead, out: &mut Output) -> Result<(), Failure> {
        let _ = (head, out);
        Ok(())
    }

    /// A piece of a successful answer, cut as the request's framing asked.
    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure>;

    /// The whole body of an answer that isn't framed as asked: any status but 2xx, or JSON where
    /// a stream was expected. A failure returned here gets status and request id from `head`.
    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure>;

    /// The answer is complete. Must call [`Output::done`], send the next request, or fail.
    fn end(&mut self, out: &mut Output) -> Result<(), Failure>;

    /// The time asked for with [`Output::sleep`] has passed.
    fn timer(&mut self, out: &mut Output) -> Result<(), Failure> {
        let _ = out;
        Err(Failure::plugin("a timer ended that was never asked for"))
    }
}

/// Runs an [`Adapter`] as the contract's `exchange`.
pub struct Exchange<A> {
    state: State<A>,
    head: Option<ResponseHead>,
}

enum State<A> {
    Fresh(Box<(Operation, Context)>),
    Running(A),
    Over,
}

impl<A: Adapter> Exchange<A> {
    pub fn new(operation: Operation, context: Context) -> Self {
        Self { state: State::Fresh(Box::new((operation, context))), head: None }
    }

    /// Everything the host has goes in; everything the adapter says comes out. Inputs after the
    /// last output are ignored.
    pub fn step(&mut self, inputs: Vec<Input>) -> Vec<contract::Output> {
        let mut out = Output::default();
        for input in inputs {
            if matches!(self.state, State::Over) {
                break;
            }
            if let Err(failure) = self.take(input, &mut out) {
                out.failed(self.completed(failure));
            }
            if out.is_over() {
                self.state = State::Over;
            }
        }
        out.into_outputs()
    }

    fn take(&mut self, input: Input, out: &mut Output) -> Result<(), Failure> {
        let adapter = match (&mut self.state, input) {
            (state @ State::Fresh(_), Input::Start) => {
                let State::Fresh(begin) = std::mem::replace(state, State::Over) else {
                    return Ok(());
                };
                let (operation, context) = *begin;
                *state = State::Running(A::start(operation, context, out)?);
                return Ok(());
            }
            (State::Running(adapter), input) => (adapter, input),
            (_, _) => return Err(Failure::plugin("an exchange begins with `start`")),
        };
        match adapter {
            (adapter, Input::Head(head)) => {
                let head = self.head.insert(head);
                adapter.head(head, out)
            }
            (adapter, Input::Frame(frame)) => adapter.frame(frame, out),
            (adapter, Input::Body(body)) => {
                let unknown = ResponseHead { status: 0, headers: Vec::new() };
                adapter.body(self.head.as_ref().unwrap_or(&unknown), &body, out)
            }
            (adapter, Input::End) => adapter.end(out),
            (adapter, Input::Timer) => adapter.timer(out),
            // Of a later version: nothing an adapter of this one must know.
            (_, Input::Other(_)) => Ok(()),
            (_, Input::Start) => Err(Failure::plugin("an exchange starts once")),
        }
    }

    /// Adds what the answer's head tells about a failure.
    fn completed(&self, mut failure: Failure) -> Failure {
        if let Some(head) = &self.head {
            if failure.status.is_none() && !head.is_success() {
                failure.status = Some(head.status);
            }
            if failure.request_id.is_none() {
                failure.request_id = head.request_id().map(str::to_owned);
            }
        }
        failure
    }
}

/// What [`export_adapter!`](crate::export_adapter) exports for an adapter.
pub struct Component<A>(PhantomData<A>);

impl<A: Adapter> contract::Guest for Component<A> {
    type Exchange = RefCell<Exchange<A>>;

    fn describe() -> contract::bindings::exports::keyward::adapter::adapter::Json {
        // A descriptor is plain data with string keys; an empty document would be refused.
        serde_json::to_string(&A::describe()).unwrap_or_default()
    }
}

impl<A: Adapter> contract::GuestExchange for RefCell<Exchange<A>> {
    fn new(operation: Operation, context: Context) -> Self {
        RefCell::new(Exchange::new(operation, context))
    }

    fn step(&self, inputs: Vec<Input>) -> Vec<contract::Output> {
        self.borrow_mut().step(inputs)
    }
}

/// Exports an [`Adapter`] from a `cdylib` crate when it is built for WebAssembly; does nothing in
/// a native build, so that the same crate can be tested.
#[macro_export]
macro_rules! export_adapter {
    ($adapter:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(
            unsafe_code,
            reason = "exports of the canonical ABI are unsafe; this code is generated"
        )]
        const _: () = {
            type Component = $crate::Component<$adapter>;
            $crate::contract::bindings::export_provider!(
                Component with_types_in $crate::contract::bindings
            );
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FinishReason, VendorRequest, contract::Event};

    struct Echo;

    impl Adapter for Echo {
        fn describe() -> Descriptor {
            Descriptor { name: "echo".into(), ..Descriptor::default() }
        }

        fn start(operation: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
            match operation {
                Operation::Probe => out.send(VendorRequest::get("/ping")),
                _ => return Err(Failure::unsupported("echo only probes")),
            }
            Ok(Self)
        }

        fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
            out.text(0, frame.data);
            Ok(())
        }

        fn body(&mut self, head: &ResponseHead, body: &str, _: &mut Output) -> Result<(), Failure> {
            Err(Failure::from_status(head.status, body))
        }

        fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
            out.finish(0, FinishReason::Stop);
            out.done();
            out.text(0, "never seen");
            Ok(())
        }
    }

    fn context() -> Context {
        Context { settings: "{}".into(), now_ms: 0, seed: 0, id: "x".into(), grants: Vec::new() }
    }

    fn head(status: u16) -> Input {
        let name = "x-request-id".to_owned();
        Input::Head(ResponseHead {
            status,
            headers: vec![contract::Header { name, value: "req_1".into() }],
        })
    }

    #[test]
    fn an_exchange_goes_from_start_to_done_and_nothing_follows() {
        let mut exchange = Exchange::<Echo>::new(Operation::Probe, context());
        let sent = exchange.step(vec![Input::Start]);
        assert!(matches!(sent.as_slice(), [contract::Output::Send(_)]));
        let frame = Frame { name: String::new(), data: "hi".into() };
        let outputs = exchange.step(vec![head(200), Input::Frame(frame), Input::End]);
        assert!(matches!(outputs[0], contract::Output::Event(Event::Text(_))));
        assert!(matches!(outputs.last(), Some(contract::Output::Done)));
        assert_eq!(outputs.len(), 3);
        assert!(exchange.step(vec![Input::End]).is_empty());
    }

    #[test]
    fn a_failure_is_the_last_output_and_names_status_and_request() {
        let mut exchange = Exchange::<Echo>::new(Operation::Probe, context());
        exchange.step(vec![Input::Start]);
        let outputs = exchange.step(vec![head(401), Input::Body("no".into()), Input::End]);
        let [contract::Output::Failed(failure)] = outputs.as_slice() else {
            panic!("{outputs:?}");
        };
        assert_eq!(failure.kind, contract::FailureKind::Authentication);
        assert_eq!(failure.status, Some(401));
        assert_eq!(failure.request_id.as_deref(), Some("req_1"));
    }

    #[test]
    fn a_failure_has_words_where_the_vendor_has_none() {
        for (failure, words) in [
            (Failure::of(contract::FailureKind::Unavailable, " "), "without saying why"),
            (Failure::from_status(500, "down"), "down"),
        ] {
            let mut out = Output::default();
            out.failed(failure);
            let outputs = out.into_outputs();
            let [contract::Output::Failed(failure)] = outputs.as_slice() else {
                panic!("{outputs:?}");
            };
            assert!(failure.message.contains(words), "{}", failure.message);
        }
        let mut exchange = Exchange::<Echo>::new(Operation::Probe, context());
        exchange.step(vec![Input::Start]);
        let outputs = exchange.step(vec![head(418), Input::Body(String::new()), Input::End]);
        let [contract::Output::Failed(failure)] = outputs.as_slice() else {
            panic!("{outputs:?}");
        };
        assert!(failure.message.contains("418"), "{}", failure.message);
    }

    #[test]
    fn an_exchange_that_does_not_begin_with_start_is_the_hosts_breach_and_fails() {
        let mut exchange = Exchange::<Echo>::new(Operation::Probe, context());
        let outputs = exchange.step(vec![Input::End]);
        assert!(matches!(outputs.as_slice(), [contract::Output::Failed(_)]));
    }
}
