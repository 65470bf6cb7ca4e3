//! The recipe of a helper, which does for a host in seccomp mode 1 the calls that mode has no room for.

use super::common::{common_limits, layers, placeholders, process_limits};
use super::powers::{file, file_bytes, getrandom, has};
use super::{Call, Condition, Count, DescriptorKind, Mode, Permit, Recipe, Resource, Share, Stage};
use schema::host::{HELPER_REGION_BYTES, Level};
use schema::manifest::{Manifest, Power};

/// Powers that take more system calls than mode 1 has.
const NEED_CALLS: [Power; 3] = [Power::FileRead, Power::FileWrite, Power::Entropy];

/// What a helper is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HelperForm {
    /// A process of its own, with an address space of its own.
    #[default]
    Process,
    /// A thread of the host. Its address space is the host's, where one store undoes any check: no boundary, kept to compare
    /// with.
    Thread,
}

impl HelperForm {
    /// The word by which a person asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HelperForm::Process => "process",
            HelperForm::Thread => "thread",
        }
    }
}

/// The helper of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// What it is.
    pub form: HelperForm,
    /// What it may be and hold; of a thread, what it holds beside what its process does.
    pub recipe: Box<Recipe>,
}

impl Helper {
    /// The one that a host of `devices` needs at this level, if any.
    pub(super) fn of(level: Level, devices: &[Manifest], form: HelperForm) -> Option<Helper> {
        let needed = level == Level::Strict && has(devices, &NEED_CALLS);
        needed.then(|| Helper { form, recipe: Box::new(recipe(devices, form)) })
    }
}

/// Memory between a host and its helper.
pub(super) fn region() -> Share {
    Share {
        name: "cofferdam:helper",
        mode: Mode::Both,
        bytes: Some(HELPER_REGION_BYTES),
        guest: false,
        because: "between a host and its helper: what is asked and answered, and the bytes".into(),
    }
}

fn recipe(devices: &[Manifest], form: HelperForm) -> Recipe {
    let process = form == HelperForm::Process;
    let names = devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" + ");
    let mut recipe = Recipe::empty(format!("{names}: helper"), Level::Seccomp);
    recipe.number = 2;
    if process {
        recipe.layers = layers(Level::Seccomp);
        common_limits(&mut recipe);
        process_limits(&mut recipe, 1);
        placeholders(&mut recipe);
        recipe.descriptors.push(super::Keep {
            kind: DescriptorKind::Channel,
            mode: Mode::Write,
            count: Count::Exactly(1),
            at: &[Stage::Confined, Stage::Sealed],
            purpose: "channel",
            because: "to the supervisor: grants come in until it is sealed, then only log lines go out".into(),
        });
        recipe.memory.push(region());
    }
    let (bytes, because) = file_bytes(devices);
    let one = Count::Exactly(1);
    recipe = recipe
        .limit(Resource::FileBytes, bytes, Stage::Sealed, because)
        .keep(DescriptorKind::Eventfd, Mode::Read, one, "asked", "its host rings this; the one thing it sleeps on")
        .keep(DescriptorKind::Eventfd, Mode::Write, one, "answers", "its host's wake: something was answered");
    for device in devices {
        recipe = file(recipe, device);
    }
    recipe.calls = calls(devices, process);
    recipe
}

fn calls(devices: &[Manifest], process: bool) -> Vec<Permit> {
    use DescriptorKind::{Channel, Eventfd, File};
    let permit = |call, when, because: &'static str| Permit { call, when, because: because.into() };
    let on = |kinds, mode| vec![Condition::On(kinds, mode)];
    let mut calls = vec![permit(Call::READ, on(&[Eventfd], Mode::Read), "sleeping until it is asked")];
    if process {
        calls.push(permit(Call::WRITE, on(&[Eventfd, Channel], Mode::Write), "ringing its host, and log lines"));
        calls.push(permit(Call::EXIT, vec![], "its end, when its host asks for what there is not"));
    } else {
        calls.push(permit(Call::WRITE, on(&[Eventfd], Mode::Write), "ringing its host"));
        calls.push(permit(Call::EXIT_GROUP, vec![], "the end of both, when its host asks for what there is not"));
    }
    calls.push(permit(Call::RT_SIGRETURN, vec![], "a signal's handler returns"));
    if has(devices, &[Power::FileRead, Power::FileWrite]) {
        calls.push(permit(Call::PREADV, on(&[File], Mode::Read), "reading an image for its host"));
    }
    if has(devices, &[Power::FileWrite]) {
        calls.push(permit(Call::PWRITEV, on(&[File], Mode::Write), "writing an image for its host"));
        calls.push(permit(Call::FDATASYNC, on(&[File], Mode::Write), "the guest's flush"));
    }
    if has(devices, &[Power::Entropy]) {
        calls.push(getrandom());
    }
    calls
}
