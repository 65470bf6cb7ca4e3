//! A helper that is a process, from its first message to its last.

use super::{Disk, Mailbox, Work};
use crate::Chosen;
use crate::grants::{missing, once, raw_file, receive};
use crate::run::{CHANNEL, Ready, Role, Setup, fail, leave_on_panic};
use device::Registration;
use device::manifest::{Manifest, Power};
use imc::{Descriptors, Wake};
use sandbox::{DescriptorKind, Held, HelperForm, Mode, Recipe, Sealed};
use schema::host::{Assign, Grants, HOST_WIDE, Purpose};

/// The body of a helper: what a host of the devices of `catalogue` cannot do itself, until that host ends.
///
/// It is told which devices they are, and granted their files; guest memory it never sees. The order is that of a host.
pub fn help(catalogue: &[Registration]) -> ! {
    leave_on_panic();
    match sealed(catalogue) {
        Ok((mut work, sealed)) => {
            let Err(ended) = work.go_on(&sealed);
            fail(&ended.to_string())
        }
        Err(sentence) => fail(&sentence),
    }
}

fn sealed(catalogue: &[Registration]) -> Result<(Work, Sealed), String> {
    let (mut setup, confined) = Setup::begin()?;
    let (assign, chosen) = setup.assign(catalogue)?;
    let ready = setup.grants(Assigned::new(assign, chosen)?)?;
    setup.seal(ready, confined, |_| Ok(()))
}

/// What a helper is to be.
struct Assigned {
    recipe: Recipe,
    manifests: Vec<Manifest>,
    mailbox: Option<Mailbox>,
    asked: Option<Wake>,
    bell: Option<Wake>,
    disks: Vec<Disk>,
}

impl Assigned {
    fn new(assign: Assign, chosen: Vec<Chosen>) -> Result<Assigned, String> {
        let manifests: Vec<Manifest> = chosen.into_iter().map(|device| device.manifest).collect();
        let host = Recipe::host_over(assign.level, &manifests, &[]);
        let recipe = host.helper_of(HelperForm::Process).ok_or("these devices need no helper at this level")?.clone();
        Ok(Assigned { recipe, manifests, mailbox: None, asked: None, bell: None, disks: Vec::new() })
    }

    fn is_wished(&self, device: u8, wish: u32) -> bool {
        let manifest = self.manifests.get(usize::from(device));
        let wish = manifest.zip(usize::try_from(wish).ok()).and_then(|(manifest, wish)| manifest.wishes.get(wish));
        wish.is_some_and(|wish| matches!(wish.power, Power::FileRead | Power::FileWrite))
    }
}

impl Role for Assigned {
    type Work = Work;

    fn take(&mut self, grants: Grants, mut descriptors: Descriptors) -> Result<(), String> {
        for grant in grants.grants {
            let descriptor = descriptors.take(grant.handle.slot).ok_or("a grant names no descriptor of its own")?;
            match grant.purpose {
                Purpose::HelperRegion if grant.device == HOST_WIDE => {
                    once(&mut self.mailbox, Mailbox::map(receive(&grant, descriptor)?)?, "helper's region")?;
                }
                Purpose::HelperWake if grant.device == HOST_WIDE => {
                    once(&mut self.asked, receive(&grant, descriptor)?, "helper's wake")?;
                }
                Purpose::Wake if grant.device == HOST_WIDE => {
                    once(&mut self.bell, receive(&grant, descriptor)?, "wake")?;
                }
                Purpose::File if self.is_wished(grant.device, grant.number) => {
                    let file = raw_file(receive(&grant, descriptor)?);
                    self.disks.push(Disk { device: grant.device, wish: grant.number, file });
                }
                purpose => return Err(format!("{purpose:?} {} is not for a helper", grant.number)),
            }
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<Ready<Work>, String> {
        let mailbox = self.mailbox.take().ok_or_else(|| missing("helper's region"))?;
        let asked = self.asked.take().ok_or_else(|| missing("helper's wake"))?;
        let bell = self.bell.take().ok_or_else(|| missing("wake"))?;
        let work = Work::new(mailbox, asked, bell, std::mem::take(&mut self.disks), &self.recipe)?;
        let mut held = vec![Held::new(CHANNEL, DescriptorKind::Channel, Mode::Write)];
        held.extend(work.held());
        Ok(Ready { recipe: self.recipe.clone(), held, work })
    }
}
