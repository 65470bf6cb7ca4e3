//! How a VM's processes are, for people and programs that ask.

use super::Vm;
use crate::supervisor::host::Host;
use crate::supervisor::plan::Isolate;
use crate::supervisor::process::Process;
use crate::supervisor::sealed_relay::SealedRelay;
use anyhow::Result;
use sandbox::{Audit, Stage};
use schema::control::{HostStatus, StatusReport};
use schema::host::Level;
use schema::manifest::Manifest;
use schema::vmm::{Counted, DeviceCounters};

impl Vm {
    /// How the VM's processes are, as the kernel shows them; with `audit`, what differs from the recipes.
    pub fn report(&mut self, audit: bool) -> StatusReport {
        let counted = self.counters().unwrap_or(Counted { devices: Vec::new(), exits: 0 });
        let mut rows = Vec::new();
        for host in &self.hosts {
            rows.push(self.host_status(host, &counted, audit));
            rows.extend(helper_status(host, audit));
        }
        rows.extend(self.sealed.iter().map(|relay| relay_status(relay, audit)));
        rows.push(self.vmm_status(&counted, audit));
        StatusReport { name: self.name.clone(), total: rows.len() as u32, hosts: rows }
    }

    fn host_status(&self, host: &Host, counted: &Counted, audit: bool) -> HostStatus {
        let class = self.manifests[host.group.devices[0]].class.name().to_owned();
        let mut row = status_of(&host.process, host.group.level, class, audit);
        row.restarts = host.lives.restarts();
        row.state = host.lives.state();
        if host.lives.runs() && audit {
            let declared: Vec<&Manifest> = host.group.devices.iter().map(|at| &self.manifests[*at]).collect();
            let planned = self.objects.guest_memory_bytes(&declared);
            if row.guest_memory_bytes != planned {
                row.differences.push(format!(
                    "maps {} bytes of guest memory, its devices justify {planned}",
                    row.guest_memory_bytes
                ));
            }
        }
        for device in counted.devices.iter().filter(|device| host.group.devices.contains(&usize::from(device.id))) {
            count(&mut row, device);
        }
        row
    }

    fn vmm_status(&self, counted: &Counted, audit: bool) -> HostStatus {
        let mut row = status_of(&self.vmm, self.vmm.recipe.level, "vmm".to_owned(), audit);
        if self.isolate == Isolate::None {
            for device in &counted.devices {
                count(&mut row, device);
            }
        }
        row
    }
}

/// Adds how a device's accesses were served, and what its lane runs over.
fn count(row: &mut HostStatus, device: &DeviceCounters) {
    row.shadow += device.shadow;
    row.posted += device.posted;
    row.lane += device.lane;
    row.doorbell += device.doorbell;
    let carrier = device.carrier.name();
    if row.carriers.iter().all(|known| known != carrier) {
        row.carriers.push(carrier.to_owned());
    }
}

fn status_of(process: &Process, level: Level, class: String, audit: bool) -> HostStatus {
    let asked = |required| {
        let layers = process.recipe.layers.iter().filter(|layer| layer.asked && layer.required == required);
        layers.map(|layer| layer.name.name().to_owned()).collect()
    };
    let row = HostStatus {
        name: process.name.clone(),
        class,
        pid: process.pid() as u32,
        level: level_name(level).to_owned(),
        syscalls_allowed: process.recipe.syscalls_allowed(),
        state: "running".to_owned(),
        required: asked(true),
        allowed_missing: asked(false),
        ..HostStatus::default()
    };
    if process.ended().is_some() || process.is_being_set_up() {
        row
    } else {
        looked_at(row, process.audit(Stage::Sealed), audit)
    }
}

/// The helper of a host, where that is a process and lives.
fn helper_status(host: &Host, audit: bool) -> Option<HostStatus> {
    let (pid, recipe) = host.process.helper().filter(|_| host.lives.runs())?;
    let row = HostStatus {
        name: format!("{} helper", host.process.name),
        class: "helper".to_owned(),
        pid: pid as u32,
        level: level_name(recipe.level).to_owned(),
        syscalls_allowed: recipe.syscalls_allowed(),
        state: "running".to_owned(),
        ..HostStatus::default()
    };
    Some(looked_at(row, host.process.audit_helper(Stage::Sealed).transpose()?, audit))
}

fn relay_status(relay: &SealedRelay, audit: bool) -> HostStatus {
    let mut row = status_of(&relay.process, relay.level, "relay".to_owned(), audit);
    row.restarts = relay.lives.restarts();
    row.state = relay.lives.state();
    row
}

/// Adds what the kernel shows; with `audit`, what differs from the recipe.
fn looked_at(mut row: HostStatus, seen: Result<Audit>, audit: bool) -> HostStatus {
    match seen {
        Ok(seen) => {
            row.seccomp_mode = seen.seccomp_mode;
            row.no_new_privs = seen.no_new_privs;
            row.descriptors = seen.descriptors;
            row.guest_memory_bytes = seen.guest_memory_bytes;
            row.pss_bytes = seen.pss_bytes;
            row.notes = seen.notes;
            row.missing = seen.missing.iter().map(|layer| layer.name().to_owned()).collect();
            row.label = seen.label;
            if audit {
                row.differences = seen.differences;
            }
        }
        Err(error) => row.differences.push(format!("cannot be looked at: {error:#}")),
    }
    row
}

/// The word a person uses for a level.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Process => "process",
        Level::Seccomp => "seccomp",
        Level::Strict => "strict",
    }
}
