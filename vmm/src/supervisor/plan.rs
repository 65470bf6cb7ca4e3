//! What a VM is to be: the whole authority graph, as plain data.

use super::display::Display;
use super::mac::LabelChoice;
use super::network::Network;
use super::plugin::Plugin;
use sandbox::{HelperForm, LayerName, NoSuchLayer, Part, Recipe};
use schema::host::{DEVICES_MAX, Level, Setting};
use schema::lane::Carrier;
use schema::manifest::{Manifest, Power, Range};
use schema::play::Clock;
use std::path::PathBuf;
use std::time::Duration;

/// A vcpu waits this long for a device before the device is given up. Long enough for a host that a loaded machine keeps
/// off the processor; a guest notices a pause of this length once, then has a dead device.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Most processors of a guest.
pub const CPUS_MAX: u8 = 16;
/// Least guest memory: a kernel and its initial RAM disk need about this much.
pub const MEMORY_MIN: u64 = 64 << 20;
/// Least memory of a guest that firmware starts, which may be older than that: the part that a diskette's transfers reach.
pub const FIRMWARE_MEMORY_MIN: u64 = crate::memory::LOW_BYTES;

/// How devices are grouped into processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolate {
    /// A host for each device.
    Device,
    /// A host for each class.
    Class,
    /// Devices linked into the VMM: the baseline to compare with. The promises about devices are void.
    None,
}

/// What the machine runs.
#[derive(Debug, Clone)]
pub enum BootPlan {
    /// Nothing: accesses are driven from outside.
    None,
    /// Nothing: all that happens, and time with the virtual clock, comes from outside, and switches are told of.
    Driven {
        /// Whose time it is.
        clock: Clock,
        /// Where firmware would be: a ROM's image, or nothing, and then memory is there.
        rom: Option<Vec<u8>>,
    },
    /// A Linux kernel.
    Kernel {
        /// bzImage or ELF.
        kernel: PathBuf,
        /// Initial RAM disk.
        initrd: Option<PathBuf>,
        /// Command line.
        cmdline: String,
    },
    /// A micro guest: 64-bit code loaded and entered at `base`.
    Flat {
        /// The code.
        image: Vec<u8>,
        /// Guest address.
        base: u64,
    },
    /// Firmware, entered at the processor's reset vector.
    Firmware {
        /// What its ROM holds.
        image: Vec<u8>,
    },
}

/// What is behind a device's file.
#[derive(Debug, Clone)]
pub enum Backing {
    /// A file by this name.
    Path(PathBuf),
    /// Memory with this content, gone with the VM.
    Memory(Vec<u8>),
    /// A network, behind a net device's frames.
    Network(Network),
}

/// Where what a device says on its streams goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outlet {
    /// The guest's console, where the first device's stream has input as well.
    #[default]
    Console,
    /// The VM's log, line by line.
    Log,
    /// A file.
    File(PathBuf),
}

/// A drive whose medium can be exchanged while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bay {
    /// What operators call it: unique within the VM.
    pub name: String,
    /// Its number among its device's bays.
    pub number: u8,
    /// The option of its device that says what is in it. The wish for a medium has the same name.
    pub option: String,
    /// What the option says when nothing is in it.
    pub empty: String,
    /// What it says of a medium that is only read.
    pub readonly: String,
    /// What it says of one that is written as well, where the drive can.
    pub writable: Option<String>,
}

/// One device of the VM.
#[derive(Debug, Clone)]
pub struct PlannedDevice {
    /// Catalogue name.
    pub device: String,
    /// Unique within the VM: the catalogue name, and a number where there are several.
    pub label: String,
    /// Its options.
    pub options: Vec<Setting>,
    /// How strictly its host is confined.
    pub level: Level,
    /// What its host's helper is, where level `strict` needs one.
    pub helper: HelperForm,
    /// What its lane runs over. Devices that are linked are called.
    pub carrier: Carrier,
    /// What is behind its wishes for files and frames, in their order.
    pub backing: Vec<Backing>,
    /// Its drives whose media can be exchanged.
    pub bays: Vec<Bay>,
    /// Its slot of the PCI bus, if it is to have this one.
    pub slot: Option<u8>,
    /// Where its streams go.
    pub outlet: Outlet,
    /// The program that serves it, if not this one. It must be static and speak the schema on descriptor 3.
    pub program: Option<PathBuf>,
    /// The plugin that it is, if it is not of this program.
    pub plugin: Option<Plugin>,
    /// Who is in its host's place, if it is not a host.
    pub hostile: Option<Hostile>,
}

/// What takes a device host's place when it is to be shown what a host may not do: no flag of an operator's says this.
#[derive(Debug, Clone, Default)]
pub struct Hostile {
    /// The role in which this program is started.
    pub role: String,
    /// What its sandbox does without.
    pub without: Vec<Part>,
}

/// What an operator says of single layers of the sandbox, for all processes of a VM.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// No process starts without these.
    pub required: Vec<LayerName>,
    /// Processes start without these, where they are not to be had.
    pub may_be_missing: Vec<LayerName>,
    /// Labels of a security module.
    pub label: LabelChoice,
}

impl Demands {
    /// Makes a recipe say the same. A level that lacks a required layer is refused.
    pub fn apply(&self, mut recipe: Recipe) -> Result<Recipe, NoSuchLayer> {
        for layer in &self.required {
            recipe.require(*layer)?;
        }
        for layer in &self.may_be_missing {
            // What a level does not have is missing from it anyway.
            let _ = recipe.allow_missing(*layer);
        }
        Ok(recipe)
    }
}

/// Which processors the two sides run on; for benches.
#[derive(Debug, Clone, Copy)]
pub struct Pins {
    /// Of the VMM.
    pub vmm: usize,
    /// Of every device host.
    pub hosts: usize,
}

/// A virtual machine to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names it on this machine.
    pub name: String,
    /// Processors.
    pub cpus: u8,
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// What it runs.
    pub boot: BootPlan,
    /// Its devices.
    pub devices: Vec<PlannedDevice>,
    /// Who may look at its display by the network, if anybody may.
    pub display: Option<Display>,
    /// How they are grouped.
    pub isolate: Isolate,
    /// How strictly the VMM is confined.
    pub level: Level,
    /// What the operator says of single layers.
    pub demands: Demands,
    /// Deadline of a lane operation.
    pub deadline: Duration,
    /// How often a host that dies young is started anew before it is retired; 0: never.
    pub restarts: u32,
    /// Whether to use `/dev/kvm`.
    pub kvm: bool,
    /// Processors to run on, if it matters.
    pub pins: Option<Pins>,
}

/// Where device models are known by name. The VMM's side of the program knows none.
pub trait Catalogue {
    /// What device `name` declares with these options, or a sentence that says what is wrong.
    fn manifest(&self, name: &str, options: &[Setting]) -> Result<Manifest, String>;
}

/// The devices of one host, by index into [`Plan::devices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The device, or the class.
    pub name: String,
    /// How strictly the host is confined.
    pub level: Level,
    /// What its helper is, where it needs one.
    pub helper: HelperForm,
    /// Its devices.
    pub devices: Vec<usize>,
}

impl Plan {
    /// Each device's manifest, in order; refuses what no machine can be.
    pub fn manifests(&self, catalogue: &dyn Catalogue) -> anyhow::Result<Vec<Manifest>> {
        anyhow::ensure!(
            (1..=CPUS_MAX).contains(&self.cpus),
            "--cpus {}: a guest has 1 to {CPUS_MAX} processors",
            self.cpus
        );
        let least = if matches!(self.boot, BootPlan::Firmware { .. }) { FIRMWARE_MEMORY_MIN } else { MEMORY_MIN };
        anyhow::ensure!(
            self.memory_bytes >= least,
            "--memory {}M: a guest needs at least {}M",
            self.memory_bytes >> 20,
            least >> 20
        );
        anyhow::ensure!(self.memory_bytes.is_multiple_of(2 << 20), "--memory: give a multiple of 2M");
        anyhow::ensure!(
            self.devices.len() <= DEVICES_MAX,
            "{} devices: a machine has at most {DEVICES_MAX}",
            self.devices.len()
        );
        let manifests: Vec<Manifest> = self
            .devices
            .iter()
            .map(|device| match &device.plugin {
                Some(plugin) => Ok(plugin.manifest.clone()),
                None => catalogue
                    .manifest(&device.device, &device.options)
                    .map_err(|sentence| anyhow::anyhow!("device {}: {sentence}", device.label)),
            })
            .collect::<anyhow::Result<_>>()?;
        self.check_overlaps(&manifests)?;
        Ok(manifests)
    }

    /// Refuses ranges that would answer the same addresses.
    fn check_overlaps(&self, manifests: &[Manifest]) -> anyhow::Result<()> {
        let owned = self.devices.iter().zip(manifests);
        let ranges: Vec<(&str, &Range)> = owned
            .flat_map(|(device, manifest)| manifest.ranges.iter().map(|range| (device.label.as_str(), range)))
            .collect();
        for (at, (label, range)) in ranges.iter().enumerate() {
            if let Some((owner, other)) = ranges[..at].iter().find(|(_, other)| other.overlaps(range)) {
                anyhow::bail!(
                    "device {label}: {range} would overlap {other} of device {owner}; give one of them another place"
                );
            }
        }
        Ok(())
    }

    /// Refuses demands that a level cannot meet: of the VMM, or of a device.
    pub fn check_demands(&self) -> anyhow::Result<()> {
        let devices = self.devices.iter().map(|device| (device.label.as_str(), device.level));
        let linked = self.isolate == Isolate::None;
        for (who, level) in devices.filter(|_| !linked).chain([("vmm", self.level)]) {
            let made = self.demands.apply(Recipe::host(level, &[]));
            made.map_err(|error| anyhow::anyhow!("--require: {who}: {error}"))?;
        }
        Ok(())
    }

    /// The number of the device whose picture viewers see, if there are to be any; refused where there is nothing to see.
    pub fn shown(&self, manifests: &[Manifest]) -> anyhow::Result<Option<(usize, &Display)>> {
        let Some(display) = &self.display else { return Ok(None) };
        let draws = |manifest: &Manifest| manifest.wishes.iter().any(|wish| wish.power == Power::Scanout);
        let device = manifests.iter().position(draws);
        let device = anyhow::Context::context(
            device,
            "--display vnc: this machine has no display; add one with `--device vga`",
        )?;
        Ok(Some((device, display)))
    }

    /// Opens the networks, which takes privileges that are then given up.
    pub fn open_networks(&self) -> anyhow::Result<()> {
        let backing = self.devices.iter().flat_map(|device| &device.backing);
        let networks = backing.filter_map(|backing| match backing {
            Backing::Network(network) => Some(network),
            Backing::Path(_) | Backing::Memory(_) => None,
        });
        networks.map(Network::open).try_for_each(|opened| opened.map(drop))
    }

    /// Gives up, for the life of this process, what it does not take to run this VM. Call before any process is started.
    pub fn shed_privileges(&self) -> anyhow::Result<()> {
        let hosts = self.devices.iter().map(|device| device.level);
        if hosts.chain([self.level]).any(|level| level == Level::Off) {
            return Ok(());
        }
        let namespaces = self.demands.may_be_missing.contains(&LayerName::User);
        anyhow::Context::context(sandbox::shed(namespaces), "giving up privileges")
    }

    /// What the lane of one of its devices runs over.
    #[must_use]
    pub fn carrier(&self, device: &PlannedDevice) -> Carrier {
        if self.isolate == Isolate::None { Carrier::InProcess } else { device.carrier }
    }

    /// Which devices share a host. Levels that differ within one group are refused: a process has one.
    pub fn groups(&self, manifests: &[Manifest]) -> anyhow::Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        if self.isolate == Isolate::None {
            let plugin = self.devices.iter().find(|device| device.plugin.is_some());
            anyhow::ensure!(
                plugin.is_none(),
                "--isolate none: plugin {} is a program of its own and cannot be linked into the VMM; use --isolate device",
                plugin.map_or("", |device| &device.label)
            );
            return Ok(groups);
        }
        for (index, (device, manifest)) in self.devices.iter().zip(manifests).enumerate() {
            let together = match self.isolate {
                _ if device.plugin.is_some() => None,
                Isolate::Class => groups.iter().position(|group| {
                    let first = group.devices[0];
                    manifests[first].class == manifest.class && self.devices[first].plugin.is_none()
                }),
                _ if device.program.is_some() => None,
                _ => groups.iter().position(|group| {
                    group.devices.iter().any(|other| {
                        manifests[*other].with.contains(&manifest.name)
                            || manifest.with.contains(&manifests[*other].name)
                    })
                }),
            };
            match together {
                Some(at) => {
                    let group = &mut groups[at];
                    anyhow::ensure!(
                        group.level == device.level,
                        "--sandbox: {} and {} share the host `{}` and cannot have different levels; \
                         give them the same, or use --isolate device",
                        self.devices[group.devices[0]].label,
                        device.label,
                        group.name
                    );
                    anyhow::ensure!(
                        group.level != Level::Strict || group.helper == device.helper,
                        "--helper: {} and {} share the host `{}` and cannot have different helpers; give them the same, or use \
                         --isolate device",
                        self.devices[group.devices[0]].label,
                        device.label,
                        group.name
                    );
                    group.devices.push(index);
                }
                None => groups.push(Group {
                    name: match self.isolate {
                        Isolate::Class if device.plugin.is_none() => manifest.class.name().to_owned(),
                        _ => device.label.clone(),
                    },
                    level: device.level,
                    helper: device.helper,
                    devices: vec![index],
                }),
            }
        }
        Ok(groups)
    }
}

/// Whether a wish is for guest memory.
#[must_use]
pub fn wants_memory(manifest: &Manifest) -> bool {
    manifest.wishes.iter().any(|wish| matches!(wish.power, Power::Memory | Power::LowMemory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::manifest::Class;

    fn manifest(name: &str, class: Class, with: &[&str]) -> Manifest {
        Manifest {
            name: name.to_owned(),
            summary: String::new(),
            class,
            ranges: Vec::new(),
            registers: Vec::new(),
            lines: Vec::new(),
            vectors: 0,
            doorbells: Vec::new(),
            wishes: Vec::new(),
            state_bytes: 8,
            bulk_bytes: 0,
            pci: None,
            acpi: None,
            with: with.iter().map(|name| (*name).to_owned()).collect(),
            options: Vec::new(),
            remembered: 0,
        }
    }

    fn plan(isolate: Isolate, devices: &[(&str, Level)]) -> Plan {
        let device = |(name, level): &(&str, Level)| PlannedDevice {
            device: (*name).to_owned(),
            label: (*name).to_owned(),
            options: Vec::new(),
            level: *level,
            helper: HelperForm::default(),
            carrier: Carrier::Memory,
            backing: Vec::new(),
            bays: Vec::new(),
            program: None,
            outlet: Outlet::Console,
            plugin: None,
            slot: None,
            hostile: None,
        };
        Plan {
            name: "test".to_owned(),
            cpus: 1,
            memory_bytes: MEMORY_MIN,
            boot: BootPlan::None,
            devices: devices.iter().map(device).collect(),
            display: None,
            isolate,
            level: Level::Seccomp,
            demands: Demands::default(),
            deadline: DEADLINE,
            restarts: 0,
            kvm: false,
            pins: None,
        }
    }

    fn names(groups: &[Group]) -> Vec<(&str, usize)> {
        groups.iter().map(|group| (group.name.as_str(), group.devices.len())).collect()
    }

    #[test]
    fn each_device_has_a_host_of_its_own() {
        let plan = plan(Isolate::Device, &[("a", Level::Seccomp), ("b", Level::Off)]);
        let groups = plan.groups(&[manifest("a", Class::Char, &[]), manifest("b", Class::Char, &[])]).unwrap();
        assert_eq!(names(&groups), [("a", 1), ("b", 1)]);
        assert_eq!(groups[1].level, Level::Off);
    }

    #[test]
    fn devices_that_change_each_other_share_a_host() {
        let plan = plan(Isolate::Device, &[("floppy", Level::Seccomp), ("b", Level::Seccomp), ("dma", Level::Seccomp)]);
        let manifests = [
            manifest("floppy", Class::Block, &["dma"]),
            manifest("b", Class::Char, &[]),
            manifest("dma", Class::System, &[]),
        ];
        assert_eq!(names(&plan.groups(&manifests).unwrap()), [("floppy", 2), ("b", 1)]);
    }

    #[test]
    fn a_class_has_one_level() {
        let plan = plan(Isolate::Class, &[("a", Level::Seccomp), ("b", Level::Off)]);
        let sentence = plan.groups(&[manifest("a", Class::Char, &[]), manifest("b", Class::Char, &[])]).unwrap_err();
        assert!(sentence.to_string().contains("`char`"), "{sentence}");
    }

    #[test]
    fn a_layer_that_a_level_lacks_cannot_be_required_of_it() {
        let mut plan = plan(Isolate::Device, &[("a", Level::Seccomp), ("b", Level::Off)]);
        plan.demands.may_be_missing = vec![LayerName::User];
        plan.check_demands().unwrap();
        plan.demands.required = vec![LayerName::Landlock];
        let sentence = plan.check_demands().unwrap_err().to_string();
        assert_eq!(sentence, "--require: b: sandbox level `off` has no layer `landlock`");
    }

    #[test]
    fn linked_devices_have_no_host() {
        let plan = plan(Isolate::None, &[("a", Level::Seccomp)]);
        assert!(plan.groups(&[manifest("a", Class::Char, &[])]).unwrap().is_empty());
    }
}
