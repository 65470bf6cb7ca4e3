//! Between the supervisor and the VMM.

use super::{Record, body, clip, empty_record, enumeration, read_list, read_text, words, write_list};
use crate::host::{DEVICES_MAX, Level, OPTIONS_MAX, SENTENCE_MAX};
use crate::lane::Carrier;
use crate::play::Clock;
use crate::vmm::{
    AttachDevice, Boot, Button, CMDLINE_MAX, CPUS_MAX, Counted, Counters, DeviceCounters, Drive, Driven, GuestRegion,
    Late, Machine, Memory, REGIONS_MAX, Reason, Refresh, Renew, Retire, Start, Stopped,
};
use crate::wire::vmm_capnp as wire;
use crate::{BadBody, Handle};

body!(Machine = wire::machine, 0x20, handles: |body| {
    let boot = match &body.boot {
        Boot::None => [None, None],
        Boot::Driven(_, rom) => [*rom, None],
        Boot::Kernel { kernel, initrd, .. } => [Some(*kernel), *initrd],
        Boot::Flat { image, .. } => [Some(*image), None],
        Boot::Firmware { rom } => [Some(*rom), None],
    };
    body.kvm.into_iter().chain(boot.into_iter().flatten()).collect()
});
body!(Memory = wire::memory, 0x21, handles: |body| body.regions.iter().map(|region| region.handle).collect());
body!(AttachDevice = wire::attach_device, 0x22);
body!(Start = wire::start, 0x23);
body!(Retire = wire::retire, 0x24);
body!(Button = wire::button, 0x25);
body!(Refresh = wire::refresh, 0x2d);
body!(Stopped = wire::stopped, 0x26);
body!(Late = wire::late, 0x27);
body!(Counters = wire::counters, 0x28);
body!(Counted = wire::counted, 0x29);
body!(Drive = wire::drive, 0x2a);
body!(Driven = wire::driven, 0x2b);
body!(Renew = wire::renew, 0x2c);

empty_record!(Start = wire::start);
empty_record!(Button = wire::button);
empty_record!(Refresh = wire::refresh);
empty_record!(Counters = wire::counters);

enumeration!(Reason = wire::Reason; PoweredOff, Reset, Panicked, Exit, Failed);

impl Record for Machine {
    type Wire = wire::machine::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        let kvm = self.kvm.as_ref().map_or(Ok(0), words::record)?;
        Ok(kvm
            + match &self.boot {
                Boot::None => 0,
                Boot::Driven(_, rom) => rom.as_ref().map_or(Ok(0), words::record)?,
                Boot::Kernel { kernel, initrd, cmdline } => {
                    let size =
                        <wire::kernel::Builder<'_> as capnp::traits::HasStructSize>::STRUCT_SIZE.total() as usize;
                    let initrd = initrd.as_ref().map_or(Ok(0), words::record)?;
                    size + words::record(kernel)? + initrd + words::text("cmdline", cmdline, CMDLINE_MAX)?
                }
                Boot::Flat { image, .. } => {
                    let size = <wire::flat::Builder<'_> as capnp::traits::HasStructSize>::STRUCT_SIZE.total() as usize;
                    size + words::record(image)?
                }
                Boot::Firmware { rom } => {
                    let size =
                        <wire::firmware::Builder<'_> as capnp::traits::HasStructSize>::STRUCT_SIZE.total() as usize;
                    size + words::record(rom)?
                }
            })
    }
    fn write(&self, mut to: wire::machine::Builder<'_>) {
        to.set_cpus(self.cpus);
        to.set_memory_bytes(self.memory_bytes);
        to.set_deadline_ms(self.deadline_ms);
        to.set_in_process(self.in_process);
        to.set_spin(self.spin);
        to.set_level(self.level.to_wire());
        to.set_restarts(self.restarts);
        if let Some(kvm) = &self.kvm {
            kvm.write(to.reborrow().init_kvm());
        }
        if let Boot::Driven(_, Some(rom)) = &self.boot {
            rom.write(to.reborrow().init_rom());
        }
        let mut boot = to.init_boot();
        match &self.boot {
            Boot::None => boot.set_none(()),
            Boot::Driven(clock, _) => boot.set_driven(clock.to_wire()),
            Boot::Kernel { kernel, initrd, cmdline } => {
                let mut to = boot.init_kernel();
                kernel.write(to.reborrow().init_kernel());
                if let Some(initrd) = initrd {
                    initrd.write(to.reborrow().init_initrd());
                }
                to.set_cmdline(cmdline.as_str());
            }
            Boot::Flat { image, base } => {
                let mut to = boot.init_flat();
                to.set_base(*base);
                image.write(to.init_image());
            }
            Boot::Firmware { rom } => rom.write(boot.init_firmware().init_rom()),
        }
    }
    fn read(from: wire::machine::Reader<'_>) -> Result<Self, BadBody> {
        let machine = Machine {
            cpus: from.get_cpus(),
            memory_bytes: from.get_memory_bytes(),
            deadline_ms: from.get_deadline_ms(),
            in_process: from.get_in_process(),
            spin: from.get_spin(),
            boot: read_boot(from)?,
            level: Level::from_wire("level", from.get_level())?,
            restarts: from.get_restarts(),
            kvm: if from.has_kvm() { Some(Handle::read(from.get_kvm()?)?) } else { None },
        };
        if machine.cpus == 0 || machine.cpus > CPUS_MAX {
            return Err(BadBody::OutOfRange("cpus"));
        }
        if machine.memory_bytes == 0 {
            return Err(BadBody::OutOfRange("memoryBytes"));
        }
        if machine.deadline_ms == 0 {
            return Err(BadBody::OutOfRange("deadlineMs"));
        }
        Ok(machine)
    }
}

fn read_boot(machine: wire::machine::Reader<'_>) -> Result<Boot, BadBody> {
    Ok(match machine.get_boot().which().map_err(|_| BadBody::Unknown("boot"))? {
        wire::machine::boot::Invalid(()) => return Err(BadBody::Unknown("boot")),
        wire::machine::boot::None(()) => Boot::None,
        wire::machine::boot::Kernel(from) => {
            let from = from?;
            Boot::Kernel {
                kernel: Handle::read(from.get_kernel()?)?,
                initrd: if from.has_initrd() { Some(Handle::read(from.get_initrd()?)?) } else { None },
                cmdline: read_text("cmdline", from.get_cmdline(), CMDLINE_MAX)?,
            }
        }
        wire::machine::boot::Flat(from) => {
            let from = from?;
            Boot::Flat { image: Handle::read(from.get_image()?)?, base: from.get_base() }
        }
        wire::machine::boot::Firmware(from) => Boot::Firmware { rom: Handle::read(from?.get_rom()?)? },
        wire::machine::boot::Driven(clock) => {
            let rom = if machine.has_rom() { Some(Handle::read(machine.get_rom()?)?) } else { None };
            Boot::Driven(Clock::from_wire("driven", clock)?, rom)
        }
    })
}

impl Record for Memory {
    type Wire = wire::memory::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("regions", &self.regions, REGIONS_MAX)
    }
    fn write(&self, to: wire::memory::Builder<'_>) {
        write_list(&self.regions, to.init_regions(self.regions.len() as u32));
    }
    fn read(from: wire::memory::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Memory { regions: read_list("regions", from.get_regions(), REGIONS_MAX)? })
    }
}

impl Record for GuestRegion {
    type Wire = wire::guest_region::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::record(&self.handle)
    }
    fn write(&self, mut to: wire::guest_region::Builder<'_>) {
        to.set_base(self.base);
        self.handle.write(to.init_handle());
    }
    fn read(from: wire::guest_region::Reader<'_>) -> Result<Self, BadBody> {
        Ok(GuestRegion { base: from.get_base(), handle: Handle::read(from.get_handle()?)? })
    }
}

impl Record for AttachDevice {
    type Wire = wire::attach_device::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::record(&self.manifest)? + words::list("options", &self.options, OPTIONS_MAX)?)
    }
    fn write(&self, mut to: wire::attach_device::Builder<'_>) {
        to.set_id(self.id);
        to.set_host(self.host);
        to.set_carrier(self.carrier.to_wire());
        to.set_slot(self.slot);
        self.manifest.write(to.reborrow().init_manifest());
        write_list(&self.options, to.init_options(self.options.len() as u32));
    }
    fn read(from: wire::attach_device::Reader<'_>) -> Result<Self, BadBody> {
        Ok(AttachDevice {
            id: from.get_id(),
            host: from.get_host(),
            manifest: Record::read(from.get_manifest()?)?,
            options: read_list("options", from.get_options(), OPTIONS_MAX)?,
            carrier: Carrier::from_wire("carrier", from.get_carrier())?,
            slot: from.get_slot(),
        })
    }
}

impl Record for Retire {
    type Wire = wire::retire::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::clipped(&self.why, SENTENCE_MAX))
    }
    fn write(&self, mut to: wire::retire::Builder<'_>) {
        to.set_host(self.host);
        to.set_why(clip(&self.why, SENTENCE_MAX));
    }
    fn read(from: wire::retire::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Retire { host: from.get_host(), why: read_text("why", from.get_why(), SENTENCE_MAX)? })
    }
}

impl Record for Stopped {
    type Wire = wire::stopped::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::clipped(&self.text, SENTENCE_MAX))
    }
    fn write(&self, mut to: wire::stopped::Builder<'_>) {
        to.set_reason(self.reason.to_wire());
        to.set_code(self.code);
        to.set_text(clip(&self.text, SENTENCE_MAX));
    }
    fn read(from: wire::stopped::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Stopped {
            reason: Reason::from_wire("reason", from.get_reason())?,
            code: from.get_code(),
            text: read_text("text", from.get_text(), SENTENCE_MAX)?,
        })
    }
}

impl Record for Late {
    type Wire = wire::late::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::clipped(&self.text, SENTENCE_MAX))
    }
    fn write(&self, mut to: wire::late::Builder<'_>) {
        to.set_host(self.host);
        to.set_violation(self.violation);
        to.set_device(self.device);
        to.set_issued(self.issued);
        to.set_gave_up(self.gave_up);
        to.set_text(clip(&self.text, SENTENCE_MAX));
    }
    fn read(from: wire::late::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Late {
            host: from.get_host(),
            violation: from.get_violation(),
            text: read_text("text", from.get_text(), SENTENCE_MAX)?,
            device: from.get_device(),
            issued: from.get_issued(),
            gave_up: from.get_gave_up(),
        })
    }
}

impl Record for Counted {
    type Wire = wire::counted::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("devices", &self.devices, DEVICES_MAX)
    }
    fn write(&self, mut to: wire::counted::Builder<'_>) {
        to.set_exits(self.exits);
        write_list(&self.devices, to.init_devices(self.devices.len() as u32));
    }
    fn read(from: wire::counted::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Counted { devices: read_list("devices", from.get_devices(), DEVICES_MAX)?, exits: from.get_exits() })
    }
}

impl Record for DeviceCounters {
    type Wire = wire::device_counters::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::device_counters::Builder<'_>) {
        to.set_id(self.id);
        to.set_shadow(self.shadow);
        to.set_posted(self.posted);
        to.set_lane(self.lane);
        to.set_doorbell(self.doorbell);
        to.set_ones(self.ones);
        to.set_interrupts(self.interrupts);
        to.set_carrier(self.carrier.to_wire());
    }
    fn read(from: wire::device_counters::Reader<'_>) -> Result<Self, BadBody> {
        Ok(DeviceCounters {
            id: from.get_id(),
            shadow: from.get_shadow(),
            posted: from.get_posted(),
            lane: from.get_lane(),
            doorbell: from.get_doorbell(),
            ones: from.get_ones(),
            interrupts: from.get_interrupts(),
            carrier: Carrier::from_wire("carrier", from.get_carrier())?,
        })
    }
}

impl Record for Drive {
    type Wire = wire::drive::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::drive::Builder<'_>) {
        to.set_write(self.write);
        to.set_port(self.port);
        to.set_address(self.address);
        to.set_width(self.width);
        to.set_value(self.value);
    }
    fn read(from: wire::drive::Reader<'_>) -> Result<Self, BadBody> {
        let width = from.get_width();
        if !matches!(width, 1 | 2 | 4 | 8) {
            return Err(BadBody::OutOfRange("width"));
        }
        Ok(Drive {
            write: from.get_write(),
            port: from.get_port(),
            address: from.get_address(),
            width,
            value: from.get_value(),
        })
    }
}

impl Record for Driven {
    type Wire = wire::driven::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::driven::Builder<'_>) {
        to.set_value(self.value);
    }
    fn read(from: wire::driven::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Driven { value: from.get_value() })
    }
}

impl Record for Renew {
    type Wire = wire::renew::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::renew::Builder<'_>) {
        to.set_host(self.host);
    }
    fn read(from: wire::renew::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Renew { host: from.get_host() })
    }
}
