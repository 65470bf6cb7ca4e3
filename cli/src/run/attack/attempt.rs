//! What an attempt is: who does what, which guards must stop it, and how that is seen from outside.

use super::ground::Ground;
use super::hostile::{BETWEEN, Host, ROLE};
use anyhow::Result;
use sandbox::{End, LayerName, Part, Resource};
use schema::host::{Level, Setting};
use std::os::fd::OwnedFd;
use vmm::supervisor::{Backing, Cell};

/// One attempt.
pub struct Attempt {
    /// Its group's letter and a number of ours.
    pub id: &'static str,
    /// Numbers in the list of known ways out that the design was made against; `-` where it is our own.
    pub no: &'static str,
    /// What is attempted.
    pub attempt: &'static str,
    /// What must stop it, the first one first. With all of them taken out it must succeed, with some of them, not.
    pub guards: &'static [Guard],
    /// How it is seen whether it succeeded.
    pub seen_by: &'static str,
    /// The device in whose host's place the attacker is.
    pub device: &'static str,
    /// What the attacker does: code that runs in a sealed process.
    pub act: fn(&Host) -> Done,
    /// Who says what came of it.
    pub judge: Judge,
}

impl Attempt {
    /// The role in which this program makes it.
    pub fn role(&self, removed: &[Guard], gift: bool, told: &[String]) -> String {
        let gift = if gift { "gift" } else { "" };
        let removed = removed.len().to_string();
        let mut words = vec![ROLE, self.id, &removed, gift];
        words.extend(told.iter().map(String::as_str));
        words.join(&BETWEEN.to_string())
    }
}

/// What came of an act, as the attacker sees it: an error number, or it goes on to wait. Nobody believes it.
pub type Done = Result<(), i32>;

/// Attempts of one kind.
pub struct Group {
    /// The letter that begins the names of its attempts.
    pub letter: char,
    /// Its name.
    pub name: &'static str,
    /// Its attempts.
    pub attempts: &'static [Attempt],
}

/// Who says what came of an attempt.
pub enum Judge {
    /// A lone host of the device, and what its supervisor sees.
    Cell(fn(&Ground) -> Result<Trial>),
    /// Something else; given which guards are taken out.
    Own(fn(&Ground, &Attempt, &[Guard]) -> Result<Outcome>),
}

/// What a lone host is started with, and how its success would be seen.
pub struct Trial {
    /// What the attacker is told: it may know everything about the machine.
    pub told: Vec<String>,
    /// A descriptor that it gets without this guard.
    pub gift: Option<(Guard, OwnedFd)>,
    /// Options of its device.
    pub options: Vec<Setting>,
    /// What its supervisor does once it is started, without this guard.
    pub relax: Option<(Guard, Relax)>,
    /// What is behind its device's file.
    pub backing: Vec<Backing>,
    /// Why the guards cannot be taken out on this machine, if they cannot.
    pub needs: Option<&'static str>,
    /// Whether it has succeeded. Asked again and again while the attacker lives, and once with its end.
    pub proof: Proof,
}

/// Whether a lone host has succeeded.
pub type Proof = Box<dyn FnMut(&mut Cell, Option<End>) -> Result<bool>>;

/// What a supervisor does to a host that it has started.
pub type Relax = fn(&mut Cell) -> Result<()>;

impl Trial {
    /// A trial whose success is seen by `proof`.
    pub fn new(proof: impl FnMut(&mut Cell, Option<End>) -> Result<bool> + 'static) -> Trial {
        Trial {
            told: Vec::new(),
            gift: None,
            options: Vec::new(),
            relax: None,
            backing: Vec::new(),
            needs: None,
            proof: Box::new(proof),
        }
    }

    /// Tells the attacker something.
    pub fn tell(mut self, word: impl ToString) -> Trial {
        self.told.push(word.to_string());
        self
    }

    /// Gives it a descriptor without this guard.
    pub fn give(mut self, guard: Guard, gift: impl Into<OwnedFd>) -> Trial {
        self.gift = Some((guard, gift.into()));
        self
    }

    /// What its supervisor does once it is started, without this guard.
    pub fn relax(mut self, guard: Guard, how: Relax) -> Trial {
        self.relax = Some((guard, how));
        self
    }

    /// What is behind the device's file.
    pub fn with(mut self, backing: Backing) -> Trial {
        self.backing.push(backing);
        self
    }

    /// Where this does not hold, the guards cannot be taken out.
    pub fn needs(mut self, holds: bool, what: &'static str) -> Trial {
        if !holds {
            self.needs.get_or_insert(what);
        }
        self
    }
}

/// What came of one run of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was stopped, this way.
    Stopped(String),
    /// It succeeded.
    Succeeded,
    /// It could not be run here, for this reason.
    NotRun(String),
    /// It could not be run at all: something of ours is broken.
    Failed(String),
}

/// Something that stops an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// A layer of the sandbox.
    Layer(LayerName),
    /// A resource limit.
    Limit(Resource),
    /// The part of Landlock that is about the network.
    LandlockNetwork,
    /// The part of it that is about signals.
    LandlockSignals,
    /// All namespaces, and the empty root in them.
    Namespaces,
    /// The time-stamp counter is switched off.
    NoCounter,
    /// A host holds what its recipe says and nothing else.
    Grants,
    /// A region's size is sealed before anybody else has it.
    Seals,
    /// What only reads gets a read-only open of its own.
    ReadOnly,
    /// Each holder of a file has an open file of its own.
    FreshOpen,
    /// A supervisor's channel takes no descriptors.
    NoDescriptors,
    /// Nothing that a peer wrote is believed: a check in the code of who reads it. It is taken out by putting in its place a
    /// reader that does the same without.
    Check(&'static str),
    /// What breaks the rules, or is late, is killed.
    Kill,
    /// The supervisor looks at a process before anything depends on it.
    Audit,
    /// A process of its own for each that must not be reached by a store.
    OwnProcess,
    /// At level strict: the helper of a host does what it may, not what it is asked.
    HelperCheck,
    /// At level strict, where mode 1 cannot be had: a filter that leaves as little.
    FilterInstead,
}

/// The layers that are namespaces, or nothing without one.
const NAMESPACES: [LayerName; 9] = [
    LayerName::User,
    LayerName::Mount,
    LayerName::Pid,
    LayerName::Net,
    LayerName::Ipc,
    LayerName::Uts,
    LayerName::CgroupNamespace,
    LayerName::Nesting,
    LayerName::Root,
];

impl Guard {
    /// Its name, for people and for the attacker's process.
    pub fn name(self) -> String {
        match self {
            Guard::Layer(layer) => layer.name().to_owned(),
            Guard::Limit(resource) => format!("limit of {resource}"),
            Guard::LandlockNetwork => "landlock (network)".to_owned(),
            Guard::LandlockSignals => "landlock (signals)".to_owned(),
            Guard::Namespaces => "namespaces".to_owned(),
            Guard::NoCounter => "no time-stamp counter".to_owned(),
            Guard::Grants => "grants".to_owned(),
            Guard::Seals => "seals".to_owned(),
            Guard::ReadOnly => "read-only view".to_owned(),
            Guard::FreshOpen => "fresh open".to_owned(),
            Guard::NoDescriptors => "no descriptors".to_owned(),
            Guard::Check(what) => format!("check: {what}"),
            Guard::Kill => "kill".to_owned(),
            Guard::Audit => "audit".to_owned(),
            Guard::OwnProcess => "a process of its own".to_owned(),
            Guard::HelperCheck => "check: a helper stays within its disk".to_owned(),
            Guard::FilterInstead => "a filter instead".to_owned(),
        }
    }

    /// What is left out of the recipe without it.
    pub fn parts(self) -> Vec<Part> {
        match self {
            Guard::Layer(layer) => vec![Part::Layer(layer)],
            Guard::Limit(resource) => vec![Part::Limit(resource)],
            Guard::LandlockNetwork | Guard::LandlockSignals => LANDLOCK.parts(),
            // It is switched off with the filter of level strict.
            Guard::NoCounter => vec![Part::Layer(LayerName::Filter)],
            Guard::Namespaces => NAMESPACES.map(Part::Layer).to_vec(),
            _ => Vec::new(),
        }
    }

    /// Whether this machine, user and level have it.
    pub fn is_available(self, ground: &Ground) -> bool {
        match self {
            Guard::Layer(layer) => !ground.missing.contains(&layer),
            // It binds no process whose user is root outside.
            Guard::Limit(Resource::Processes) => !ground.root || !ground.missing.contains(&LayerName::OwnUser),
            Guard::NoCounter | Guard::FilterInstead | Guard::HelperCheck => ground.level == Level::Strict,
            Guard::LandlockNetwork => LANDLOCK.is_available(ground) && kernel_is_at_least(6, 7),
            Guard::LandlockSignals => LANDLOCK.is_available(ground) && kernel_is_at_least(6, 12),
            Guard::NoDescriptors => kernel_is_at_least(6, 16),
            _ => true,
        }
    }
}

/// Whether this kernel is as new as that.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let Ok(name) = nix::sys::utsname::uname() else { return false };
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// The system call filter.
pub const FILTER: Guard = Guard::Layer(LayerName::Filter);
/// The limit that leaves no descriptor to be made.
pub const OPEN_FILES: Guard = Guard::Limit(Resource::OpenFiles);
/// The domain that denies everything.
pub const LANDLOCK: Guard = Guard::Layer(LayerName::Landlock);
/// No capabilities.
pub const CAPABILITIES: Guard = Guard::Layer(LayerName::Capabilities);
/// A control group of its own.
pub const CGROUP: Guard = Guard::Layer(LayerName::Cgroup);
/// A user of its own.
pub const OWN_USER: Guard = Guard::Layer(LayerName::OwnUser);
