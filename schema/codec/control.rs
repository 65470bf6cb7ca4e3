//! Between an operator's command and the supervisor of a running VM.

use super::{
    Record, body, clip, empty_record, enumeration, read_data, read_list, read_text, read_texts, words, write_list,
    write_texts,
};
use crate::BadBody;
use crate::control::{
    CONSOLE_MAX, Command, Console, ConsoleOutput, Exchange, HostStatus, INPUTS_MAX, LAYERS_MAX, LINE_MAX, LINES_MAX,
    LogLines, Logs, Order, Picture, Press, REMARKS_MAX, Screenshot, Status, StatusReport,
};
use crate::handle::Handle;
use crate::host::{DEVICES_MAX, SENTENCE_MAX, VALUE_MAX};
use crate::lane::Carrier;
use crate::manifest::TEXT_MAX;
use crate::wire::control_capnp as wire;

/// Most hosts of one VM: one for each device, and the VMM.
const HOSTS_MAX: usize = DEVICES_MAX + 1;

body!(Command = wire::command, 0x40);
body!(Status = wire::status, 0x41);
body!(StatusReport = wire::status_report, 0x42);
body!(Logs = wire::logs, 0x43);
body!(LogLines = wire::log_lines, 0x44);
body!(Console = wire::console, 0x45);
body!(ConsoleOutput = wire::console_output, 0x46);

body!(Screenshot = wire::screenshot, 0x47);
body!(Picture = wire::picture, 0x48, handles: |body| [body.scanout].into_iter().collect());
body!(Press = wire::press, 0x49);
body!(Exchange = wire::exchange, 0x4a);

empty_record!(Screenshot = wire::screenshot);

enumeration!(Order = wire::Order; Powerdown, Stop, Reset);

impl Record for Command {
    type Wire = wire::command::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::command::Builder<'_>) {
        to.set_order(self.order.to_wire());
    }
    fn read(from: wire::command::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Command { order: Order::from_wire("order", from.get_order())? })
    }
}

impl Record for Status {
    type Wire = wire::status::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::status::Builder<'_>) {
        to.set_audit(self.audit);
        to.set_first(self.first);
    }
    fn read(from: wire::status::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Status { audit: from.get_audit(), first: from.get_first() })
    }
}

impl Record for StatusReport {
    type Wire = wire::status_report::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("name", &self.name, TEXT_MAX)? + words::list("hosts", &self.hosts, HOSTS_MAX)?)
    }
    fn write(&self, mut to: wire::status_report::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_total(self.total);
        write_list(&self.hosts, to.init_hosts(self.hosts.len() as u32));
    }
    fn read(from: wire::status_report::Reader<'_>) -> Result<Self, BadBody> {
        Ok(StatusReport {
            name: read_text("name", from.get_name(), TEXT_MAX)?,
            total: from.get_total(),
            hosts: read_list("hosts", from.get_hosts(), HOSTS_MAX)?,
        })
    }
}

impl Record for HostStatus {
    type Wire = wire::host_status::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("name", &self.name, TEXT_MAX)?
            + words::text("class", &self.class, TEXT_MAX)?
            + words::text("level", &self.level, TEXT_MAX)?
            + words::clipped(&self.state, SENTENCE_MAX)
            + words::texts("descriptors", &self.descriptors, REMARKS_MAX, TEXT_MAX)?
            + words::texts("differences", &self.differences, REMARKS_MAX, SENTENCE_MAX)?
            + words::texts("notes", &self.notes, REMARKS_MAX, SENTENCE_MAX)?
            + words::texts("carriers", &self.carriers, Carrier::ALL.len(), TEXT_MAX)?
            + words::texts("missing", &self.missing, LAYERS_MAX, TEXT_MAX)?
            + words::texts("required", &self.required, LAYERS_MAX, TEXT_MAX)?
            + words::texts("allowedMissing", &self.allowed_missing, LAYERS_MAX, TEXT_MAX)?
            + words::text("label", &self.label, TEXT_MAX)?)
    }
    fn write(&self, mut to: wire::host_status::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_class(self.class.as_str());
        to.set_pid(self.pid);
        to.set_level(self.level.as_str());
        to.set_seccomp_mode(self.seccomp_mode);
        to.set_no_new_privs(self.no_new_privs);
        to.set_syscalls_allowed(self.syscalls_allowed);
        write_texts(&self.descriptors, to.reborrow().init_descriptors(self.descriptors.len() as u32));
        to.set_guest_memory_bytes(self.guest_memory_bytes);
        to.set_pss_bytes(self.pss_bytes);
        to.set_restarts(self.restarts);
        to.set_state(clip(&self.state, SENTENCE_MAX));
        write_texts(&self.differences, to.reborrow().init_differences(self.differences.len() as u32));
        write_texts(&self.notes, to.reborrow().init_notes(self.notes.len() as u32));
        to.set_shadow(self.shadow);
        to.set_posted(self.posted);
        to.set_lane(self.lane);
        to.set_doorbell(self.doorbell);
        write_texts(&self.carriers, to.reborrow().init_carriers(self.carriers.len() as u32));
        write_texts(&self.missing, to.reborrow().init_missing(self.missing.len() as u32));
        write_texts(&self.required, to.reborrow().init_required(self.required.len() as u32));
        write_texts(&self.allowed_missing, to.reborrow().init_allowed_missing(self.allowed_missing.len() as u32));
        to.set_label(self.label.as_str());
    }
    fn read(from: wire::host_status::Reader<'_>) -> Result<Self, BadBody> {
        Ok(HostStatus {
            name: read_text("name", from.get_name(), TEXT_MAX)?,
            class: read_text("class", from.get_class(), TEXT_MAX)?,
            pid: from.get_pid(),
            level: read_text("level", from.get_level(), TEXT_MAX)?,
            seccomp_mode: from.get_seccomp_mode(),
            no_new_privs: from.get_no_new_privs(),
            syscalls_allowed: from.get_syscalls_allowed(),
            descriptors: read_texts("descriptors", from.get_descriptors(), REMARKS_MAX, TEXT_MAX)?,
            guest_memory_bytes: from.get_guest_memory_bytes(),
            pss_bytes: from.get_pss_bytes(),
            restarts: from.get_restarts(),
            state: read_text("state", from.get_state(), SENTENCE_MAX)?,
            differences: read_texts("differences", from.get_differences(), REMARKS_MAX, SENTENCE_MAX)?,
            notes: read_texts("notes", from.get_notes(), REMARKS_MAX, SENTENCE_MAX)?,
            shadow: from.get_shadow(),
            posted: from.get_posted(),
            lane: from.get_lane(),
            doorbell: from.get_doorbell(),
            carriers: read_texts("carriers", from.get_carriers(), Carrier::ALL.len(), TEXT_MAX)?,
            missing: read_texts("missing", from.get_missing(), LAYERS_MAX, TEXT_MAX)?,
            required: read_texts("required", from.get_required(), LAYERS_MAX, TEXT_MAX)?,
            allowed_missing: read_texts("allowedMissing", from.get_allowed_missing(), LAYERS_MAX, TEXT_MAX)?,
            label: read_text("label", from.get_label(), TEXT_MAX)?,
        })
    }
}

impl Record for Logs {
    type Wire = wire::logs::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::logs::Builder<'_>) {
        to.set_after(self.after);
    }
    fn read(from: wire::logs::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Logs { after: from.get_after() })
    }
}

impl Record for LogLines {
    type Wire = wire::log_lines::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        super::bounded("lines", self.lines.len(), LINES_MAX)?;
        Ok(self.lines.iter().fold(self.lines.len(), |sum, line| sum + words::clipped(line, LINE_MAX)))
    }
    fn write(&self, mut to: wire::log_lines::Builder<'_>) {
        to.set_next(self.next);
        let mut lines = to.init_lines(self.lines.len() as u32);
        for (index, line) in (0..).zip(&self.lines) {
            lines.set(index, clip(line, LINE_MAX));
        }
    }
    fn read(from: wire::log_lines::Reader<'_>) -> Result<Self, BadBody> {
        Ok(LogLines { next: from.get_next(), lines: read_texts("lines", from.get_lines(), LINES_MAX, LINE_MAX)? })
    }
}

impl Record for Console {
    type Wire = wire::console::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::data("input", &self.input, CONSOLE_MAX)
    }
    fn write(&self, mut to: wire::console::Builder<'_>) {
        to.set_input(&self.input);
    }
    fn read(from: wire::console::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Console { input: read_data("input", from.get_input(), CONSOLE_MAX)? })
    }
}

impl Record for ConsoleOutput {
    type Wire = wire::console_output::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::data("output", &self.output, CONSOLE_MAX)
    }
    fn write(&self, mut to: wire::console_output::Builder<'_>) {
        to.set_output(&self.output);
    }
    fn read(from: wire::console_output::Reader<'_>) -> Result<Self, BadBody> {
        Ok(ConsoleOutput { output: read_data("output", from.get_output(), CONSOLE_MAX)? })
    }
}

impl Record for Picture {
    type Wire = wire::picture::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::record(&self.scanout)
    }
    fn write(&self, mut to: wire::picture::Builder<'_>) {
        self.scanout.write(to.reborrow().init_scanout());
        to.set_after(self.after);
    }
    fn read(from: wire::picture::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Picture { scanout: Handle::read(from.get_scanout()?)?, after: from.get_after() })
    }
}

impl Record for Press {
    type Wire = wire::press::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("inputs", &self.inputs, INPUTS_MAX)
    }
    fn write(&self, to: wire::press::Builder<'_>) {
        write_list(&self.inputs, to.init_inputs(self.inputs.len() as u32));
    }
    fn read(from: wire::press::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Press { inputs: read_list("inputs", from.get_inputs(), INPUTS_MAX)? })
    }
}

impl Record for Exchange {
    type Wire = wire::exchange::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("drive", &self.drive, TEXT_MAX)? + words::text("image", &self.image, VALUE_MAX)?)
    }
    fn write(&self, mut to: wire::exchange::Builder<'_>) {
        to.set_drive(self.drive.as_str());
        to.set_image(self.image.as_str());
        to.set_readonly(self.readonly);
        to.set_forced(self.forced);
    }
    fn read(from: wire::exchange::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Exchange {
            drive: read_text("drive", from.get_drive(), TEXT_MAX)?,
            image: read_text("image", from.get_image(), VALUE_MAX)?,
            readonly: from.get_readonly(),
            forced: from.get_forced(),
        })
    }
}
