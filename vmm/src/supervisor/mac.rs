//! Labels of a VM's processes and objects, for SELinux or AppArmor.
//!
//! Under SELinux each VM has a pair of categories that no other VM on the machine has, as sVirt does it; what it is granted
//! is labelled with them. Under AppArmor a label is the name of a profile.

use super::grants::Objects;
use super::plan::Demands;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use sandbox::policy::{PLUGIN, VMM, apparmor, selinux};
use sandbox::{Label, LayerName, Module, Recipe, label};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Categories are numbered below this in the policies of distributions.
const CATEGORIES: u32 = 1024;
/// Pairs that are tried: each VM on the machine holds one.
const PAIRS_TRIED: u32 = 4096;

/// Which labels an operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelChoice {
    /// Those of the module that this kernel has, where the policy for them is installed.
    #[default]
    Auto,
    /// None.
    None,
    /// Those of this module, or no VM.
    Module(Module),
}

/// How the labels of one VM are made.
pub struct Mac {
    scheme: Option<Scheme>,
    /// Why there is none.
    why_not: String,
    /// A process without its label is refused.
    required: bool,
}

/// A disk that had another context before, which it gets back.
pub struct Relabelled(File, String);

enum Scheme {
    Selinux {
        user: String,
        role: String,
        /// With the VM's categories.
        level: String,
        /// Without any.
        shared_level: String,
        /// No other VM has these categories as long as it is open.
        _claim: OwnedFd,
    },
    Apparmor {
        vm: String,
    },
}

impl Mac {
    /// Chooses for the VM `vm`. `linked`: its devices run in the VMM's process, and need what its label forbids.
    pub fn choose(choice: LabelChoice, may_be_missing: bool, vm: &str, linked: bool) -> Result<Mac> {
        let none = |why_not: String| Mac { scheme: None, why_not, required: false };
        let found = match choice {
            LabelChoice::None => return Ok(none("--label none was given".into())),
            LabelChoice::Auto => {
                Module::active().ok_or_else(|| anyhow!("this kernel runs neither SELinux nor AppArmor"))
            }
            LabelChoice::Module(module) if Module::active() == Some(module) => Ok(module),
            LabelChoice::Module(module) => Err(anyhow!("this kernel does not run {}", module.name())),
        };
        let made = found.and_then(|module| {
            anyhow::ensure!(!linked, "devices linked into the VMM (--isolate none) need what its label forbids");
            let scheme = Scheme::make(module, vm)?;
            let known = scheme.process(VMM).is_known();
            let name = module.name();
            let word = name.to_lowercase();
            match known {
                Some(true) => Ok(scheme),
                None if choice != LabelChoice::Auto => Ok(scheme),
                None => bail!("only root may see which profiles {name} has; give --label {word} if they are installed"),
                Some(false) => bail!("{name} has no policy for it; install what `cofferdam policy {word}` writes"),
            }
        });
        match made {
            Ok(scheme) => {
                Ok(Mac { scheme: Some(scheme), why_not: String::new(), required: choice != LabelChoice::Auto })
            }
            Err(error) if choice == LabelChoice::Auto || may_be_missing => Ok(none(format!("{error:#}"))),
            Err(error) => Err(error.context("--label: the VM's processes cannot be labelled")),
        }
    }

    /// Chooses what the operator demands.
    pub fn demanded(demands: &Demands, vm: &str, linked: bool) -> Result<Mac> {
        Mac::choose(demands.label, demands.may_be_missing.contains(&LayerName::Label), vm, linked)
    }

    /// Whether there are labels.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.scheme.is_some()
    }

    /// Whether a plugin may write a file that it is handed: AppArmor goes by names of files, and a profile for all VMs has none.
    #[must_use]
    pub fn plugins_may_write(&self) -> bool {
        match &self.scheme {
            Some(scheme @ Scheme::Apparmor { vm }) => scheme.process(PLUGIN).text == apparmor::disk_profile(PLUGIN, vm),
            _ => true,
        }
    }

    /// Gives a recipe the label of the hosts of a class, or of the VMM; an error where one is required and there is none.
    pub fn label(&self, recipe: Recipe, process: &str) -> Result<Recipe> {
        let layer = recipe.layer(LayerName::Label).cloned();
        let (Some(scheme), Some(_)) = (&self.scheme, &layer) else {
            anyhow::ensure!(
                layer.is_none_or(|layer| !layer.required),
                "the sandbox layer `label` is required, and {}; or give `--allow-missing label`",
                self.why_not
            );
            return Ok(recipe);
        };
        let mut recipe = recipe.with_label(scheme.process(process));
        if self.required {
            recipe.require(LayerName::Label)?;
        }
        Ok(recipe)
    }

    /// From now on, channels that this thread makes are the VM's.
    pub fn claim_channels(&self) -> Result<()> {
        match self.object(selinux::CHANNEL) {
            Some(context) => label::label_sockets(&context).context("labelling channels"),
            None => Ok(()),
        }
    }

    /// Labels all that the VM's processes share.
    pub fn claim(&self, objects: &Objects) -> Result<()> {
        let (Some(memory), Some(channel)) = (self.object(selinux::MEMORY), self.object(selinux::CHANNEL)) else {
            return Ok(());
        };
        for region in objects.shared_memory() {
            label::set_context(region, &memory).context("labelling shared memory")?;
        }
        for pipe in objects.pipes() {
            label::set_context(pipe, &channel).context("labelling a lane")?;
        }
        Ok(())
    }

    /// Labels one region that the VM's processes share.
    pub fn claim_region(&self, region: BorrowedFd<'_>) -> Result<()> {
        match self.object(selinux::MEMORY) {
            Some(context) => label::set_context(region, &context).context("labelling shared memory"),
            None => Ok(()),
        }
    }

    /// An image that is written becomes the VM's, and what it was when the VM ends. One that is only read is labelled as
    /// such for good: other VMs may be reading it then.
    pub fn claim_image(&self, image: &File, readonly: bool) -> Result<Option<Relabelled>> {
        let Some(wanted) = self.object(if readonly { selinux::CONTENT } else { selinux::IMAGE }) else {
            return Ok(None);
        };
        let why = "a disk cannot be labelled for SELinux; `--label none` goes without";
        let before = label::context(image.as_fd()).context(why)?;
        if before == wanted {
            return Ok(None);
        }
        label::set_context(image.as_fd(), &wanted).context(why)?;
        Ok(if readonly { None } else { Some(Relabelled(image.try_clone()?, before)) })
    }

    /// A file for the VMM alone: itself, or with labels a copy in memory that has the VM's. What a person boots keeps its
    /// label, and needs none that a VMM may read.
    pub fn lend(&self, mut file: File) -> Result<File> {
        if !self.is_on() {
            return Ok(file);
        }
        let mut copy = File::from(memfd_create(c"cofferdam:guest", MFdFlags::MFD_CLOEXEC)?);
        std::io::copy(&mut file, &mut copy)?;
        self.claim_memory(copy.as_fd())?;
        Ok(File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?)
    }

    fn claim_memory(&self, memory: BorrowedFd<'_>) -> Result<()> {
        match self.object(selinux::MEMORY) {
            Some(context) => label::set_context(memory, &context).context("labelling memory"),
            None => Ok(()),
        }
    }

    /// The context of an object, where objects have one.
    fn object(&self, kind: &str) -> Option<String> {
        match &self.scheme {
            Some(Scheme::Selinux { user, level, shared_level, .. }) => {
                let level = if kind == selinux::CONTENT { shared_level } else { level };
                Some(format!("{user}:object_r:{kind}:{level}"))
            }
            _ => None,
        }
    }
}

impl Drop for Relabelled {
    fn drop(&mut self) {
        // It may be gone, or its file system read-only by now.
        let _ = label::set_context(self.0.as_fd(), &self.1);
    }
}

impl Scheme {
    fn make(module: Module, vm: &str) -> Result<Scheme> {
        if module == Module::Apparmor {
            return Ok(Scheme::Apparmor { vm: vm.to_owned() });
        }
        let own = module.label_of("self").context("reading this process's own label")?;
        let mut parts = own.splitn(4, ':');
        let (Some(user), Some(role), Some(_), Some(range)) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("SELinux has no categories here (this process is {own}), by which VMs could be told apart");
        };
        let shared_level = range.split(['-', ':']).next().unwrap_or("s0").to_owned();
        let (low, high, claim) = claim_categories()?;
        Ok(Scheme::Selinux {
            user: user.to_owned(),
            role: role.to_owned(),
            level: format!("{shared_level}:c{low},c{high}"),
            shared_level,
            _claim: claim,
        })
    }

    /// The label of the hosts of a class, or of the VMM.
    fn process(&self, process: &str) -> Label {
        match self {
            Scheme::Selinux { user, role, level, .. } => {
                let kind = selinux::process_type(process);
                Label { module: Module::Selinux, text: format!("{user}:{role}:{kind}:{level}") }
            }
            Scheme::Apparmor { vm } => {
                let of_the_disks = Label { module: Module::Apparmor, text: apparmor::disk_profile(process, vm) };
                if apparmor::WORK_ON_DISKS.contains(&process) && of_the_disks.is_known() == Some(true) {
                    return of_the_disks;
                }
                Label { module: Module::Apparmor, text: apparmor::profile(process) }
            }
        }
    }
}

/// Two categories that no other VM has: who binds a name in the kernel's abstract space has it alone until it ends.
fn claim_categories() -> Result<(u32, u32, OwnedFd)> {
    let first = std::process::id();
    for number in 0..PAIRS_TRIED {
        let (low, high) = pair(first.wrapping_add(number));
        let claim = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let name = UnixAddr::new_abstract(format!("cofferdam-categories-{low}-{high}").as_bytes())?;
        match bind(claim.as_raw_fd(), &name) {
            Ok(()) => return Ok((low, high, claim)),
            Err(nix::errno::Errno::EADDRINUSE) => {}
            Err(error) => return Err(error).context("claiming a pair of categories"),
        }
    }
    bail!("no pair of SELinux categories is free")
}

/// The pair with this number: two different ones, the lower first.
fn pair(number: u32) -> (u32, u32) {
    let one = number % CATEGORIES;
    let other = (one + 1 + number / CATEGORIES % (CATEGORIES - 1)) % CATEGORIES;
    (one.min(other), one.max(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_of_two_different_categories() {
        for number in (0..3_000_000).step_by(997).chain([u32::MAX]) {
            let (low, high) = pair(number);
            assert!(low < high && high < CATEGORIES, "{number}: {low}, {high}");
        }
    }

    #[test]
    fn two_vms_have_different_pairs() {
        let (one, other) = (claim_categories().unwrap(), claim_categories().unwrap());
        assert_ne!((one.0, one.1), (other.0, other.1));
    }

    #[test]
    fn a_module_that_the_kernel_does_not_run_is_refused_and_may_be_allowed_to_be_missing() {
        let absent = if Module::active() == Some(Module::Selinux) { Module::Apparmor } else { Module::Selinux };
        let choose = |missing| Mac::choose(LabelChoice::Module(absent), missing, "vm", false);
        let sentence = format!("{:#}", choose(false).err().expect("refused"));
        assert!(sentence.contains(absent.name()), "{sentence}");
        let mac = choose(true).expect("allowed");
        assert!(!mac.is_on());
        let mut recipe = Recipe::host(schema::host::Level::Seccomp, &[]);
        assert!(mac.label(recipe.clone(), "char").is_ok());
        recipe.require(LayerName::Label).unwrap();
        assert!(mac.label(recipe, "char").unwrap_err().to_string().contains("--allow-missing label"));
    }
}
