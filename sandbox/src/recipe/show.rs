//! How a recipe is printed.

use super::{
    Condition, Count, DescriptorKind, Helper, HelperForm, Keep, Mode, Named, Permit, Recipe, Resource, Stage, Value,
};
use schema::host::Level;
use std::fmt::{Display, Formatter, Result};

impl Display for Recipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "{}: sandbox level `{}`", self.name, level_name(self.level))?;
        if self.level == Level::Off {
            return writeln!(f, "\nA process with all rights of the user, and nothing to confine it.");
        }
        section(
            f,
            "Layers",
            "required: a process without it is refused; else its absence is shown",
            self.layers.iter().map(|layer| {
                (
                    layer.name.name().to_owned(),
                    match (layer.required, layer.asked) {
                        (true, false) => "required",
                        (true, true) => "required, as asked",
                        (false, false) => "where to be had",
                        (false, true) => "may be missing, as asked",
                    }
                    .to_owned(),
                    &layer.because,
                )
            }),
        )?;
        if let Some(label) = &self.label {
            writeln!(f, "\nLabel: {label}")?;
        }
        section(
            f,
            "Limits",
            "",
            self.limits.iter().map(|limit| {
                let from = if limit.from == Stage::Sealed { ", once sealed" } else { "" };
                (limit.resource.to_string(), format!("{}{from}", limit.value), &limit.because)
            }),
        )?;
        if let Some(group) = &self.group {
            let row = ("limits".to_owned(), group.to_string(), &group.because);
            section(f, "Control group", "and guest memory on top, where it has any", std::iter::once(row))?;
        }
        section(
            f,
            "Descriptors",
            "all others are closed",
            self.descriptors.iter().map(|keep| {
                let until = if keep.at.contains(&Stage::Sealed) { "" } else { ", until sealed" };
                (keep.purpose.to_owned(), format!("{keep}{until}"), &keep.because)
            }),
        )?;
        section(
            f,
            "Shared memory",
            "",
            self.memory.iter().map(|share| {
                let bytes = share.bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
                (share.name.to_owned(), format!("{}{bytes}", share.mode), &share.because)
            }),
        )?;
        if let Some(loading) = &self.loading {
            let rows = loading.view.iter().map(|shown| {
                let from = if shown.from == shown.at { String::new() } else { format!("is {}", shown.from.display()) };
                (shown.at.display().to_string(), from, &shown.because)
            });
            section(f, "Files", "what it sees, to read, and opens no more once it is sealed", rows)?;
        }
        if self.is_filtered() {
            section(
                f,
                &format!("System calls: {}", self.syscalls_allowed()),
                match self.level {
                    Level::Strict => {
                        "seccomp mode 1: any other kills the process, and so does reading the TSC; conditions hold where \
                         mode 1 is not to be had, by a filter"
                    }
                    _ if self.loading.is_some() => "what is left once it is sealed",
                    _ => "any other, or with other arguments, kills the process",
                },
                self.calls.iter().map(|permit| (permit.call.name.to_owned(), permit.conditions(), &permit.because)),
            )
        } else {
            writeln!(f, "\nSystem calls: not filtered at this level")
        }?;
        if let Some(loading) = self.loading.as_ref().filter(|loading| !loading.calls.is_empty()) {
            section(
                f,
                &format!("System calls while it loads: {}", loading.calls.len()),
                "once it is sealed the kernel refuses those that are not left; any other kills the process",
                loading.calls.iter().map(|permit| (permit.call.name.to_owned(), permit.conditions(), &permit.because)),
            )?;
        }
        self.helper.as_ref().map_or(Ok(()), |helper| write!(f, "\n{helper}"))
    }
}

impl Display for Helper {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let what = match self.form {
            HelperForm::Process => "a process beside it in its namespaces, which end with it",
            HelperForm::Thread => {
                "a thread of its own process: no boundary, for one store into their common memory undoes any check"
            }
        };
        writeln!(f, "What needs another call its helper does, {what}.\n")?;
        self.recipe.fmt(f)
    }
}

/// Widest middle column; what is wider has a line of its own.
const MIDDLE_MAX: usize = 42;

/// A table of three columns under a heading.
fn section<'a>(
    f: &mut Formatter<'_>,
    heading: &str,
    remark: &str,
    rows: impl Iterator<Item = (String, String, &'a super::Because)>,
) -> Result {
    let rows: Vec<_> = rows.collect();
    let first = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
    let second = rows.iter().map(|row| row.1.len()).filter(|width| *width <= MIDDLE_MAX).max().unwrap_or(0);
    if remark.is_empty() {
        writeln!(f, "\n{heading}")?
    } else {
        writeln!(f, "\n{heading} ({remark})")?
    }
    if rows.is_empty() {
        writeln!(f, "  none")?;
    }
    for (name, detail, because) in &rows {
        if detail.len() > second {
            writeln!(f, "  {name:first$}  {detail}")?;
            writeln!(f, "  {:first$}  {:second$}  {because}", "", "")?;
        } else {
            writeln!(f, "  {name:first$}  {detail:second$}  {because}")?;
        }
    }
    Ok(())
}

pub(crate) const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Process => "process",
        Level::Seccomp => "seccomp",
        Level::Strict => "strict",
    }
}

impl Display for Keep {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {}, {}", self.count, self.kind, self.mode)
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Count::Exactly(count) => write!(f, "{count}"),
            Count::UpTo(count) => write!(f, "up to {count}"),
        }
    }
}

impl Display for DescriptorKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            DescriptorKind::Channel => "socket",
            DescriptorKind::Eventfd => "eventfd",
            DescriptorKind::File => "file",
            DescriptorKind::Memory => "memfd",
            DescriptorKind::Pipe => "pipe",
            DescriptorKind::Tap => "tap",
            DescriptorKind::Listener => "listener",
            DescriptorKind::Connection => "connection",
            DescriptorKind::Kvm => "/dev/kvm",
            DescriptorKind::KvmMachine => "KVM machine",
            DescriptorKind::KvmProcessor => "KVM processor",
        })
    }
}

impl Display for Mode {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Mode::Read => "read",
            Mode::Write => "write",
            Mode::Both => "read and write",
        })
    }
}

/// Limits this large are of bytes.
const MIB: u64 = 1 << 20;

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Value::Exactly(value) if *value >= MIB && value.is_multiple_of(MIB) => write!(f, "{} MiB", value / MIB),
            Value::Exactly(value) => write!(f, "{value}"),
            Value::LargestFile => f.write_str("its largest file"),
        }
    }
}

impl Display for Resource {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Resource::CoreBytes => "core bytes",
            Resource::FileBytes => "file bytes",
            Resource::OpenFiles => "open files",
            Resource::LockedBytes => "locked bytes",
            Resource::DataBytes => "data bytes",
            Resource::StackBytes => "stack bytes",
            Resource::Processes => "processes",
            Resource::QueueBytes => "queue bytes",
            Resource::RealtimePriority => "real-time priority",
        })
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let join = |names: Vec<String>| names.join(" or ");
        match self {
            Condition::On(kinds, mode) => {
                let kinds = join(kinds.iter().map(DescriptorKind::to_string).collect());
                write!(f, "on {kinds} held to {mode}")
            }
            Condition::OneOf(argument, values) => {
                let names = join(values.iter().map(|Named { name, .. }| (*name).to_owned()).collect());
                write!(f, "argument {argument} is {names}")
            }
            Condition::Without(argument, bits) => write!(f, "argument {argument} without {}", bits.name),
        }
    }
}

impl Permit {
    /// Its conditions, for people.
    #[must_use]
    pub fn conditions(&self) -> String {
        if self.when.is_empty() {
            return "any arguments".into();
        }
        self.when.iter().map(Condition::to_string).collect::<Vec<_>>().join(", ")
    }
}
