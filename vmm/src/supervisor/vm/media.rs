//! Media that are exchanged while the machine runs.
//!
//! A sealed host can be given nothing: it has no call to receive a descriptor. So a medium is exchanged by exchanging the process,
//! as a restart does it: the old one ends, and the next one, which goes on with the same state, is granted the new medium and told
//! so. One that is not fit for it, or whose guest holds the old medium, says no; then the old medium comes back.

use super::Vm;
use crate::supervisor::host::Fitting;
use crate::supervisor::image::Image;
use crate::supervisor::plan::{Backing, Bay, Isolate, Plan, PlannedDevice};
use anyhow::{Context, Result, bail, ensure};
use schema::host::{Exchanged, Severity};
use schema::manifest::{Manifest, Power};
use std::path::PathBuf;
use std::sync::Arc;

/// A medium for a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// The image.
    pub path: PathBuf,
    /// The guest may not write it. It does not where its drive cannot.
    pub readonly: bool,
}

impl Vm {
    /// Has another medium in a drive, or none. With `forced` also where the guest holds the one that is there. After an error the
    /// drive has what it had.
    pub fn exchange(&mut self, drive: &str, medium: Option<&Medium>, forced: bool) -> Result<()> {
        let (index, bay) = self.bay(drive)?;
        ensure!(
            self.isolate != Isolate::None,
            "{drive}: with --isolate none its device is part of the VMM, which holds its media for good"
        );
        let at =
            self.hosts.iter().position(|host| host.group.devices.contains(&index)).context("a device has a host")?;
        let (mut next, mut fitting) = self.fit(index, &bay, medium)?;
        let exchanged = Exchanged { bay: bay.number, forced };
        self.hosts[at].halt(&self.objects)?;
        if self.hosts[at].is_broken() {
            self.renew(at)?;
        }
        let host = &mut self.hosts[at];
        let made = host.refit(&mut self.objects, index, &mut fitting);
        if let Err(why) = made.and_then(|()| host.restart_refitted(&self.objects, index, exchanged)) {
            let back = host.refit(&mut self.objects, index, &mut fitting);
            self.restart(at);
            back?;
            return Err(why);
        }
        self.hear_host(at);
        self.manifests[index] = self.hosts[at].manifest(index).context("its manifest")?.clone();
        let kept = self.removable.iter_mut().find(|(own, _)| *own == index);
        kept.into_iter().for_each(|(_, device)| std::mem::swap(device, &mut next));
        let what = medium.map_or("nothing".to_owned(), |medium| medium.path.display().to_string());
        let who = self.labels[index].clone();
        self.note(Severity::Info, &who, &format!("{drive}: has {what} in it now"));
        Ok(())
    }

    /// The drives whose media can be exchanged, and what is in them.
    #[must_use]
    pub fn drives(&self) -> Vec<(String, Option<Medium>)> {
        let bays =
            self.removable.iter().flat_map(|(index, device)| device.bays.iter().map(move |bay| (*index, device, bay)));
        let medium = |index: usize, device: &PlannedDevice, bay: &Bay| {
            let (at, _) = files(&self.manifests[index]).enumerate().find(|(_, (_, name))| *name == bay.option)?;
            let Some(Backing::Path(path)) = device.backing.get(at) else { return None };
            let says = device.options.iter().find(|option| option.name == bay.option)?;
            Some(Medium { path: path.clone(), readonly: says.value == bay.readonly })
        };
        bays.map(|(index, device, bay)| (bay.name.clone(), medium(index, device, bay))).collect()
    }

    /// Has `plan`, from which the machine is started anew, say which media it has now.
    pub fn keep_media(&self, plan: &mut Plan) {
        for (index, device) in &self.removable {
            if let Some(planned) = plan.devices.get_mut(*index) {
                planned.options.clone_from(&device.options);
                planned.backing.clone_from(&device.backing);
            }
        }
    }

    fn bay(&self, drive: &str) -> Result<(usize, Bay)> {
        let bays = || self.removable.iter().flat_map(|(index, device)| device.bays.iter().map(|bay| (*index, bay)));
        let found = bays().find(|(_, bay)| bay.name == drive).map(|(index, bay)| (index, bay.clone()));
        found.with_context(|| {
            let names: Vec<&str> = bays().map(|(_, bay)| bay.name.as_str()).collect();
            match names.is_empty() {
                true => format!("{drive}: this machine has no drives whose media can be exchanged"),
                false => format!("{drive}: there is no such drive; there are {}", names.join(", ")),
            }
        })
    }

    /// A device with another medium: as it is planned then, and what it is given.
    fn fit(&self, index: usize, bay: &Bay, medium: Option<&Medium>) -> Result<(PlannedDevice, Fitting)> {
        let (_, device) = self.removable.iter().find(|(own, _)| *own == index).context("a device with bays")?;
        let mut next = device.clone();
        let says = match (medium, &bay.writable) {
            (None, _) => &bay.empty,
            (Some(Medium { readonly: false, .. }), Some(writable)) => writable,
            (Some(_), _) => &bay.readonly,
        };
        match next.options.iter_mut().find(|option| option.name == bay.option) {
            Some(option) => option.value.clone_from(says),
            None => next.options.push(schema::host::Setting { name: bay.option.clone(), value: says.clone() }),
        }
        let before = &self.manifests[index];
        let manifest = self.catalogue.manifest(&next.device, &next.options);
        let manifest = manifest.map_err(|sentence| anyhow::anyhow!("device {}: {sentence}", next.label))?;
        ensure!(others(before).eq(others(&manifest)), "{}: its drives cannot be exchanged", next.label);
        let (mut images, mut backing) = (Vec::new(), Vec::new());
        let held = &self.objects.devices[index].images;
        for (wish, own) in files(&manifest) {
            if own == bay.option {
                let medium = medium.context("a medium where its device wishes for one")?;
                if held.iter().any(|(_, image)| image.is(&medium.path)) {
                    bail!("{}: is in a drive of this machine already; eject it first", medium.path.display());
                }
                let path = Backing::Path(medium.path.clone());
                let image = Image::open(&path, says == &bay.readonly)?;
                image.label(&self.objects.mac)?;
                images.push((wish, Arc::new(image)));
                backing.push(path);
                continue;
            }
            let (at, (wish_before, _)) = files(before)
                .enumerate()
                .find(|(_, (_, name))| *name == own)
                .context("a medium that stays has been there before")?;
            let (_, image) = held.iter().find(|(held, _)| *held == wish_before).context("an image for each wish")?;
            images.push((wish, Arc::clone(image)));
            backing.push(device.backing.get(at).context("a backing for each wish")?.clone());
        }
        let options = next.options.clone();
        next.backing = backing;
        Ok((next, Fitting { options, manifest, images }))
    }
}

/// The wishes for files, by their number, and their names.
fn files(manifest: &Manifest) -> impl Iterator<Item = (u32, &str)> {
    let files = manifest.wishes.iter().enumerate().filter(|(_, wish)| is_file(wish.power));
    files.map(|(number, wish)| (number as u32, wish.name.as_str()))
}

/// The numbers of all other wishes: what they were granted stays.
fn others(manifest: &Manifest) -> impl Iterator<Item = (usize, Power)> {
    let wishes = manifest.wishes.iter().enumerate().map(|(number, wish)| (number, wish.power));
    wishes.filter(|(_, power)| !is_file(*power))
}

fn is_file(power: Power) -> bool {
    matches!(power, Power::FileRead | Power::FileWrite)
}
