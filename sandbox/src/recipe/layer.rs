//! The means of confinement, by name.

use super::{Because, Resource};

/// A means of confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerName {
    /// A user namespace in which the supervisor's user is number 0.
    User,
    /// A mount namespace.
    Mount,
    /// A process number namespace.
    Pid,
    /// A network namespace, without an interface that is up.
    Net,
    /// A System V and POSIX message queue namespace.
    Ipc,
    /// A host name namespace.
    Uts,
    /// A control group namespace.
    CgroupNamespace,
    /// No user namespace of its own making: in one it would have all capabilities again.
    Nesting,
    /// An empty read-only root directory.
    Root,
    /// No capabilities, and no way to get any.
    Capabilities,
    /// `no_new_privs`.
    NoNewPrivs,
    /// Not dumpable: no other process of the user may trace it or read its memory.
    Undumpable,
    /// A system call filter.
    Filter,
    /// A Landlock domain that denies everything.
    Landlock,
    /// Memory-deny-write-execute.
    Mdwe,
    /// A control group of its own.
    Cgroup,
    /// A user number of its own.
    OwnUser,
    /// A label of SELinux or AppArmor.
    Label,
    /// Sealed mappings of its code.
    Mseal,
}

impl LayerName {
    /// All of them, in the order in which they are applied.
    pub const ALL: [LayerName; 19] = [
        LayerName::User,
        LayerName::Mount,
        LayerName::Pid,
        LayerName::Net,
        LayerName::Ipc,
        LayerName::Uts,
        LayerName::CgroupNamespace,
        LayerName::Nesting,
        LayerName::Cgroup,
        LayerName::OwnUser,
        LayerName::Root,
        LayerName::Capabilities,
        LayerName::Label,
        LayerName::NoNewPrivs,
        LayerName::Undumpable,
        LayerName::Mdwe,
        LayerName::Mseal,
        LayerName::Landlock,
        LayerName::Filter,
    ];

    /// The word by which a person asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LayerName::User => "user",
            LayerName::Mount => "mount",
            LayerName::Pid => "pid",
            LayerName::Net => "net",
            LayerName::Ipc => "ipc",
            LayerName::Uts => "uts",
            LayerName::CgroupNamespace => "cgroup-namespace",
            LayerName::Nesting => "nesting",
            LayerName::Root => "root",
            LayerName::Capabilities => "capabilities",
            LayerName::NoNewPrivs => "no-new-privs",
            LayerName::Undumpable => "undumpable",
            LayerName::Filter => "filter",
            LayerName::Landlock => "landlock",
            LayerName::Mdwe => "mdwe",
            LayerName::Cgroup => "cgroup",
            LayerName::OwnUser => "own-user",
            LayerName::Label => "label",
            LayerName::Mseal => "mseal",
        }
    }
}

impl std::str::FromStr for LayerName {
    type Err = String;
    fn from_str(word: &str) -> Result<LayerName, String> {
        LayerName::ALL.into_iter().find(|layer| layer.name() == word).ok_or_else(|| {
            let have = LayerName::ALL.map(LayerName::name).join(", ");
            format!("`{word}` is no layer of the sandbox; there are {have}")
        })
    }
}

/// What can be taken out of a recipe, to show what it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// A means of confinement.
    Layer(LayerName),
    /// A resource limit, at every stage.
    Limit(Resource),
}

/// One means of confinement of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Which.
    pub name: LayerName,
    /// A process without it is refused. Otherwise it is taken where it is to be had, and its absence is shown.
    pub required: bool,
    /// An operator said which of the two.
    pub asked: bool,
    /// What it stops.
    pub because: Because,
}
