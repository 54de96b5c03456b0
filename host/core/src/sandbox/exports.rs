//! The functions of an adapter: found once a load, checked once, called in every instance.
//!
//! Wasmtime checks a function's type against the host's when a typed handle is made, member by
//! member through the whole contract: some 5 µs, a tenth of what a sandboxed chat may cost. The type
//! is the component's, so it is checked at load, in the instance that describes the adapter, and
//! handles to the same exports of later instances are made without.

use keyward_contract::ADAPTER_INTERFACE;
use wasmtime::{
    Store,
    component::{
        Component, ComponentExportIndex, Func, Instance, InstancePre, Linker, ResourceAny,
        TypedFunc,
    },
};

use super::{
    limits::{Guest, MEMORIES},
    wasi,
};
use crate::contract::{Context, Input, Operation, Output};

type Describe = TypedFunc<(), (String,)>;
type Construct<'a> = TypedFunc<(&'a Operation, &'a Context), (ResourceAny,)>;
type Step<'a> = TypedFunc<(ResourceAny, &'a [Input]), (Vec<Output>,)>;

/// A component whose exports are known but not yet checked.
pub(super) struct Unchecked(Exports);

/// A component whose functions have the contract's types.
pub(super) struct Exports {
    component: InstancePre<Guest>,
    /// Slots of the pool that an instance takes.
    memories: u32,
    describe: ComponentExportIndex,
    construct: ComponentExportIndex,
    step: ComponentExportIndex,
}

impl Unchecked {
    /// # Errors
    /// If the component wants an import or lacks an export.
    pub fn new(component: &Component) -> wasmtime::Result<Self> {
        // Nothing but the empty world is in the linker, and that only as far as it is imported: an
        // import that admission overlooked fails here.
        let mut linker = Linker::new(component.engine());
        wasi::link(&mut linker, component)?;
        let pre = linker.instantiate_pre(component)?;
        let missing = |name: &str| wasmtime::format_err!("it doesn't export '{name}'");
        let interface = component
            .get_export_index(None, ADAPTER_INTERFACE)
            .ok_or_else(|| missing(ADAPTER_INTERFACE))?;
        let function = |name: &str| {
            component.get_export_index(Some(&interface), name).ok_or_else(|| missing(name))
        };
        Ok(Self(Exports {
            component: pre,
            memories: component
                .resources_required()
                .map_or(MEMORIES as u32, |needs| needs.num_memories)
                .clamp(1, MEMORIES as u32),
            describe: function("describe")?,
            construct: function("[constructor]exchange")?,
            step: function("[method]exchange.step")?,
        }))
    }

    pub fn memories(&self) -> u32 {
        self.0.memories
    }

    pub async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        self.0.component.instantiate_async(store).await
    }

    /// Checks the types of all functions in an instance, and calls the one that describes.
    ///
    /// # Errors
    /// The outer one if a type doesn't fit, the inner one if the call traps.
    pub async fn check(
        self,
        store: &mut Store<Guest>,
        instance: &Instance,
    ) -> wasmtime::Result<(Exports, wasmtime::Result<String>)> {
        let Self(exports) = self;
        let describe: Describe =
            exports.function(store, instance, exports.describe)?.typed(&mut *store)?;
        let _: Construct =
            exports.function(store, instance, exports.construct)?.typed(&mut *store)?;
        let _: Step = exports.function(store, instance, exports.step)?.typed(&mut *store)?;
        let document = describe.call_async(store, ()).await.map(|(document,)| document);
        Ok((exports, document))
    }
}

impl Exports {
    pub fn memories(&self) -> u32 {
        self.memories
    }

    fn function(
        &self,
        store: &mut Store<Guest>,
        instance: &Instance,
        index: ComponentExportIndex,
    ) -> wasmtime::Result<Func> {
        let found = instance.get_func(store, index);
        found.ok_or_else(|| wasmtime::format_err!("an export isn't a function"))
    }

    /// A fresh instance with an exchange in it.
    pub async fn open(
        &self,
        store: &mut Store<Guest>,
        operation: &Operation,
        context: &Context,
    ) -> wasmtime::Result<Exchange> {
        let instance = self.component.instantiate_async(&mut *store).await?;
        let construct = self.function(store, &instance, self.construct)?;
        // SAFETY: this export of this component was checked against `Construct` when `Self` was made.
        #[allow(unsafe_code, reason = "only `Unchecked::check` makes `Exports`; see the module")]
        let construct = unsafe { Construct::new_unchecked(construct) };
        let (resource,) = construct.call_async(&mut *store, (operation, context)).await?;
        let step = self.function(store, &instance, self.step)?;
        Ok(Exchange { resource, step })
    }
}

/// The `exchange` resource of one instance.
#[derive(Clone, Copy)]
pub(super) struct Exchange {
    resource: ResourceAny,
    step: Func,
}

impl Exchange {
    /// `store` is the one it was opened in.
    pub async fn step(
        &self,
        store: &mut Store<Guest>,
        inputs: &[Input],
    ) -> wasmtime::Result<Vec<Output>> {
        // SAFETY: only `Exports::open` makes an `Exchange`, with an export that was checked against
        // `Step` when the `Exports` were made.
        #[allow(unsafe_code, reason = "only `Unchecked::check` makes `Exports`; see the module")]
        let step = unsafe { Step::new_unchecked(self.step) };
        let (outputs,) = step.call_async(store, (self.resource, inputs)).await?;
        Ok(outputs)
    }
}
