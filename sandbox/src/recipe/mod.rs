//! How a process is confined: plain data, printable, comparable, the same on every run.
//!
//! A recipe starts from nothing and only adds. Each addition states its reason, and the reasons are what a reviewer
//! reads.

mod call;
mod common;
mod descriptor;
mod display;
mod helper;
mod host;
pub mod kvm;
mod layer;
mod limit;
mod plugin;
mod powers;
mod relay;
mod show;
mod vmm;

pub use call::{Call, Condition, Named, Permit};
pub use descriptor::{Count, DescriptorKind, Keep, Mode, Share};
pub use display::VIEWERS_MAX;
pub use helper::{Helper, HelperForm};
pub use layer::{Layer, LayerName, Part};
pub use limit::{GroupLimits, Limit, Resource, Value};
pub use plugin::{Loading, Shown};
pub use relay::Network;

use crate::label::Label;
use schema::host::Level;
use std::borrow::Cow;

/// Why an entry is in a recipe, for people.
pub type Because = Cow<'static, str>;

/// How a process is confined. `Display` prints all of it, each line with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// What the process is: its devices, or `vmm`.
    pub name: String,
    /// How strict.
    pub level: Level,
    /// The means of confinement, in the order in which they are applied.
    pub layers: Vec<Layer>,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Its label of a security module, if it is to have one.
    pub label: Option<Label>,
    /// Limits of its control group; none where it is not confined.
    pub group: Option<GroupLimits>,
    /// All descriptors that it may hold.
    pub descriptors: Vec<Keep>,
    /// All shared memory that it may have mapped.
    pub memory: Vec<Share>,
    /// Most threads.
    pub threads: u32,
    /// Its number in its process namespace.
    pub number: u32,
    /// All system calls that are left once it is sealed. Empty where no filter is installed.
    pub calls: Vec<Permit>,
    /// Who makes other calls for it, where it needs any.
    pub helper: Option<Helper>,
    /// What it has until it is sealed, if it is a plugin.
    pub loading: Option<Loading>,
}

/// A moment at which a process is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// It has said hello and was granted nothing yet.
    Confined,
    /// It can do only what its recipe says.
    Sealed,
}

/// A level does not have that layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sandbox level `{}` has no layer `{}`", show::level_name(*.level), .layer.name())]
pub struct NoSuchLayer {
    layer: LayerName,
    level: Level,
}

impl Recipe {
    /// One of this level that allows nothing yet: the first process of a process namespace, with one thread.
    pub(crate) fn empty(name: String, level: Level) -> Recipe {
        Recipe {
            name,
            level,
            layers: Vec::new(),
            limits: Vec::new(),
            label: None,
            group: None,
            descriptors: Vec::new(),
            memory: Vec::new(),
            threads: 1,
            number: 1,
            calls: Vec::new(),
            helper: None,
            loading: None,
        }
    }

    /// The recipe of its helper where that is a process, which has the same layers.
    fn helper_mut(&mut self) -> Option<&mut Recipe> {
        let helper = self.helper.as_mut().filter(|helper| helper.form == HelperForm::Process);
        helper.map(|helper| &mut *helper.recipe)
    }

    /// Processes by this recipe: itself, and its helper where that is one.
    pub(crate) fn processes(&self) -> u64 {
        1 + u64::from(self.helper_of(HelperForm::Process).is_some())
    }

    /// Threads of all of them.
    pub(crate) fn tasks(&self) -> u32 {
        self.threads + self.helper_of(HelperForm::Process).map_or(0, |helper| helper.threads)
    }

    /// Sets the limits of its control group, which a helper shares.
    pub(crate) fn set_group(&mut self, group: GroupLimits) {
        if let Some(helper) = &mut self.helper {
            helper.recipe.group = Some(group.clone());
        }
        self.group = Some(group);
    }

    /// What a process by this recipe is to an onlooker: a helper that is a thread is part of it.
    #[must_use]
    pub(crate) fn as_seen(&self, stage: Stage) -> Cow<'_, Recipe> {
        match self.helper_of(HelperForm::Thread) {
            Some(helper) if stage == Stage::Sealed => {
                let mut whole = self.clone();
                whole.limits.extend(helper.limits.iter().cloned());
                whole.descriptors.extend(helper.descriptors.iter().cloned());
                Cow::Owned(whole)
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The recipe of its helper, if it has one of this form.
    #[must_use]
    pub fn helper_of(&self, form: HelperForm) -> Option<&Recipe> {
        self.helper.as_ref().filter(|helper| helper.form == form).map(|helper| &*helper.recipe)
    }

    /// Keeps descriptors.
    #[must_use]
    pub fn keep(
        mut self,
        kind: DescriptorKind,
        mode: Mode,
        count: Count,
        purpose: &'static str,
        because: impl Into<Because>,
    ) -> Recipe {
        let because = because.into();
        self.descriptors.push(Keep { kind, mode, count, at: &[Stage::Sealed], purpose, because });
        self
    }

    /// Permits a system call.
    #[must_use]
    pub fn permit(mut self, call: Call, when: Vec<Condition>, because: impl Into<Because>) -> Recipe {
        self.calls.push(Permit { call, when, because: because.into() });
        self
    }

    /// Sets a resource limit.
    #[must_use]
    pub fn limit(mut self, resource: Resource, value: Value, from: Stage, because: impl Into<Because>) -> Recipe {
        self.limits.push(Limit { resource, value, from, because: because.into() });
        self
    }

    /// Adds shared memory whose size the operator chose: guest memory.
    #[must_use]
    pub fn with_guest_memory(mut self, bytes: u64) -> Recipe {
        let helper = self.helper.as_mut().and_then(|helper| helper.recipe.group.as_mut());
        for group in self.group.iter_mut().chain(helper) {
            group.memory_bytes += bytes;
        }
        self
    }

    /// Gives it a label as its program starts.
    #[must_use]
    pub fn with_label(mut self, label: Label) -> Recipe {
        if let Some(helper) = self.helper_mut() {
            helper.label = Some(label.clone());
        }
        self.label = Some(label);
        self
    }

    /// Makes a layer required that would otherwise be taken only where it is to be had.
    pub fn require(&mut self, layer: LayerName) -> Result<(), NoSuchLayer> {
        self.ask(layer, true)
    }

    /// Goes on without a layer that is not to be had. The audit goes on showing that it is missing.
    pub fn allow_missing(&mut self, layer: LayerName) -> Result<(), NoSuchLayer> {
        self.ask(layer, false)
    }

    fn ask(&mut self, name: LayerName, required: bool) -> Result<(), NoSuchLayer> {
        let found = self.layers.iter_mut().find(|layer| layer.name == name);
        let layer = found.ok_or(NoSuchLayer { layer: name, level: self.level })?;
        (layer.required, layer.asked) = (required, true);
        match self.helper_mut() {
            Some(helper) => helper.ask(name, required),
            None => Ok(()),
        }
    }

    /// Takes a layer out, as if it did not exist: what attacks it stops is shown by their success without it.
    #[must_use]
    pub fn without(mut self, layer: LayerName) -> Recipe {
        self.layers.retain(|have| have.name != layer);
        if layer == LayerName::Filter {
            self.calls.clear();
            self.loading.iter_mut().for_each(|loading| loading.calls.clear());
        }
        self
    }

    /// Takes parts out, as [`Recipe::without`] does with a layer.
    #[must_use]
    pub fn without_parts(mut self, parts: &[Part]) -> Recipe {
        for part in parts {
            match part {
                Part::Layer(layer) => self = self.without(*layer),
                Part::Limit(resource) => self.limits.retain(|limit| limit.resource != *resource),
            }
        }
        self
    }

    /// The layer, if it is part of this recipe.
    #[must_use]
    pub fn layer(&self, name: LayerName) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// Whether a system call filter is part of it.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.layer(LayerName::Filter).is_some()
    }

    /// How many different system calls a sealed process has left, all its threads together; 0 means that none is filtered.
    #[must_use]
    pub fn syscalls_allowed(&self) -> u32 {
        let helper = self.helper_of(HelperForm::Thread).into_iter().flat_map(|helper| &helper.calls);
        let mut numbers: Vec<i64> = self.calls.iter().chain(helper).map(|permit| permit.call.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len() as u32
    }

    /// Descriptors that it holds at `stage`.
    pub fn held_at(&self, stage: Stage) -> impl Iterator<Item = &Keep> {
        self.descriptors.iter().filter(move |keep| keep.at.contains(&stage))
    }

    /// The limits in force at `stage`: a later one replaces an earlier one.
    #[must_use]
    pub fn limits_at(&self, stage: Stage) -> Vec<&Limit> {
        let mut limits: Vec<&Limit> = Vec::new();
        for limit in self.limits.iter().filter(|limit| limit.from <= stage) {
            limits.retain(|have| have.resource != limit.resource);
            limits.push(limit);
        }
        limits
    }
}

#[cfg(test)]
pub(crate) mod tests;
