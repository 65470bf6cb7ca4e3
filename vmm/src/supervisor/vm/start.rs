//! The start of a VM, in order: every process confined, granted, sealed and audited before a guest's first instruction.

use super::Vm;
use crate::supervisor::grants::Objects;
use crate::supervisor::host::Host;
use crate::supervisor::input::InputRelay;
use crate::supervisor::journal::Journal;
use crate::supervisor::open::{OpenBoot, open_kvm, push};
use crate::supervisor::plan::{Catalogue, Isolate, Plan};
use crate::supervisor::process::{Process, SETUP, wait_for_any};
use crate::supervisor::relay::Relay;
use crate::supervisor::sealed_relay::{Place, SealedRelay};
use crate::supervisor::signals::Signals;
use crate::supervisor::viewers::Viewers;
use crate::supervisor::{pin, runtime};
use anyhow::{Context, Result};
use imc::Kvm;
use sandbox::{Program, Recipe, Stage};
use schema::host::Empty;
use schema::lane::Carrier;
use schema::vmm::{AttachDevice, GuestRegion, Machine, Memory, REGIONS_MAX, Start};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

impl Vm {
    pub(super) fn start_with(
        plan: &Plan,
        catalogue: &'static dyn Catalogue,
        signals: &Signals,
        verbose: bool,
    ) -> Result<Vm> {
        runtime::check_name(&plan.name)?;
        let manifests = plan.manifests(catalogue)?;
        let groups = plan.groups(&manifests)?;
        let linked = plan.isolate == Isolate::None;
        // A device linked into the VMM has a wake of its own, as if it were alone in a host.
        let wakes = if linked { plan.devices.len() } else { groups.len() };
        let mut objects = Objects::create(plan, &manifests, wakes)?;
        let boot = OpenBoot::open(&plan.boot, &objects.mac)?;
        let kvm = if plan.kvm { Some(open_kvm()?) } else { None };
        signals.check()?;

        let program = Program::current().context("opening this program, to start its parts from")?;
        let program = Rc::new(program);
        let mut hosts = Vec::new();
        for (number, group) in groups.into_iter().enumerate() {
            let other = group.devices.iter().find_map(|device| {
                let device = &plan.devices[*device];
                device.plugin.as_ref().map(|plugin| &plugin.program.executable).or(device.program.as_ref())
            });
            let other = other.map(|path| {
                Program::open(path).with_context(|| format!("program {}: cannot be opened", path.display()))
            });
            let program = other.transpose()?.map_or_else(|| Rc::clone(&program), Rc::new);
            hosts.push(Host::spawn(plan, &manifests, &mut objects, group, number, program)?);
            signals.check()?;
        }
        let carriers: Vec<Carrier> = plan.devices.iter().map(|device| plan.carrier(device)).collect();
        let recipe = Recipe::vmm_over(plan.level, plan.cpus, plan.kvm, &manifests, &carriers)
            .with_guest_memory(plan.memory_bytes);
        let recipe = objects.mac.label(plan.demands.apply(recipe)?, sandbox::policy::VMM)?;
        let vmm = Process::spawn(&program, "cofferdam: vmm", "vmm", recipe)?;
        if let Some(pins) = plan.pins {
            pin(vmm.pid(), pins.vmm)?;
        }
        let labels = plan.devices.iter().map(|device| device.label.clone()).collect();
        let removable = plan.devices.iter().enumerate().filter(|(_, device)| !device.bays.is_empty());
        let removable = removable.map(|(index, device)| (index, device.clone())).collect();
        let mut vm = Vm {
            name: plan.name.clone(),
            vmm,
            hosts,
            manifests,
            labels,
            isolate: plan.isolate,
            removable,
            catalogue,
            relays: Vec::new(),
            inputs: Vec::new(),
            sealed: Vec::new(),
            program,
            objects,
            journal: Journal::default(),
            verbose,
            asked: true,
            told: VecDeque::new(),
            played: None,
        };
        vm.set_up_hosts(signals)?;
        vm.set_up_vmm(plan, boot, kvm, signals)?;
        // What a host logged while a call waited for its reply is no longer in its socket.
        (0..vm.hosts.len()).for_each(|at| vm.hear_host(at));
        Ok(vm)
    }

    fn set_up_hosts(&mut self, signals: &Signals) -> Result<()> {
        // They load beside each other: one may take as long as all of them.
        let plugins = self.hosts.iter().filter(|host| host.process.recipe.loading.is_some()).count();
        for host in &mut self.hosts {
            host.process.patience = SETUP * plugins.max(1) as u32;
        }
        let mut waiting: Vec<&mut Host> = self.hosts.iter_mut().collect();
        loop {
            let mut still = Vec::new();
            for host in waiting {
                if !host.proceed(&self.objects)? {
                    still.push(host);
                }
            }
            signals.check()?;
            if still.is_empty() {
                return Ok(());
            }
            waiting = still;
            wait_for(&waiting, signals)?;
        }
    }

    fn set_up_vmm(&mut self, plan: &Plan, boot: OpenBoot, kvm: Option<Kvm>, signals: &Signals) -> Result<()> {
        let linked = plan.isolate == Isolate::None;
        self.vmm.greet()?;
        self.vmm.require_clean(Stage::Confined)?;

        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
        let boot_body = boot.body(&mut descriptors);
        let kvm_handle = kvm.as_ref().map(|kvm| push(&mut descriptors, kvm));
        let machine = Machine {
            cpus: plan.cpus,
            memory_bytes: plan.memory_bytes,
            deadline_ms: plan.deadline.as_millis() as u32,
            in_process: linked,
            spin: may_spin(plan),
            boot: boot_body,
            kvm: kvm_handle,
            level: plan.level,
            restarts: plan.restarts > 0,
        };
        self.ask::<Machine, Empty>(&machine, &descriptors, SETUP)?;
        for batch in self.objects.memory.regions.chunks(REGIONS_MAX) {
            let mut descriptors = Vec::new();
            let regions = batch
                .iter()
                .map(|(base, _, region)| GuestRegion { base: *base, handle: push(&mut descriptors, region) })
                .collect();
            let (Empty, _) = self
                .vmm
                .channel
                .call(&Memory { regions }, &descriptors, SETUP)
                .map_err(|error| self.vmm.failed(error))?;
        }
        for (id, device) in plan.devices.iter().enumerate() {
            let host = self.hosts.iter().position(|host| host.group.devices.contains(&id)).unwrap_or(id);
            let granted = self.objects.grant_vmm(&mut self.vmm.channel, host, id, linked, SETUP);
            granted.with_context(|| format!("granting {} to the VMM", device.label))?;
            let attach = AttachDevice {
                id: id as u8,
                host: host as u8,
                manifest: self.manifests[id].clone(),
                options: device.options.clone(),
                carrier: plan.carrier(device),
                slot: device.slot.unwrap_or(0),
            };
            self.ask::<AttachDevice, Empty>(&attach, &[], SETUP)?;
            signals.check()?;
            for stream in &self.objects.devices[id].streams {
                let wake = &self.objects.hosts[host].0;
                if stream.is_input {
                    self.inputs.push(InputRelay::new(stream, wake)?);
                } else {
                    self.relays.push((id, Relay::new(stream, &device.outlet, wake)?));
                }
            }
            for (frames, rings) in self.objects.devices[id].frames.iter().enumerate() {
                if rings.network.is_some() {
                    let place = Place { device: id, frames, host };
                    self.sealed.push(SealedRelay::of_frames(plan, &self.objects, place, Rc::clone(&self.program))?);
                }
            }
        }
        if let Some((device, display)) = plan.shown(&self.manifests)? {
            let viewers = Viewers::new(device, display);
            self.sealed.push(SealedRelay::of_display(plan, &self.objects, viewers, Rc::clone(&self.program))?);
        }
        self.ask::<Start, Empty>(&Start, &[], SETUP)?;
        self.vmm.require_clean(Stage::Sealed)?;
        signals.check()
    }
}

/// Waits until one of the hosts has something to say or is given up, or a signal has come.
fn wait_for(hosts: &[&mut Host], signals: &Signals) -> Result<()> {
    let sources = hosts.iter().flat_map(|host| host.process.sources()).chain([signals.as_source()]);
    let until = hosts.iter().filter_map(|host| host.process.gives_up_at()).min();
    wait_for_any(sources, until).context("waiting for the VM's processes")
}

/// Waiting by polling needs a processor for each side.
fn may_spin(plan: &Plan) -> bool {
    match plan.pins {
        Some(pins) => pins.vmm != pins.hosts,
        None => std::thread::available_parallelism().is_ok_and(|count| count.get() > usize::from(plan.cpus)),
    }
}
