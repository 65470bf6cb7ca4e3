//! Between the supervisor and a device host.

use super::{Record, body, clip, empty_record, enumeration, read_list, read_text, words, write_list};
use crate::host::{
    Assign, Assignment, Attach, DEVICES_MAX, Empty, Exchanged, Grant, Grants, Hello, Level, Log, Manifests,
    OPTIONS_MAX, Purpose, Refusal, SENTENCE_MAX, Seal, Setting, Severity, VALUE_MAX,
};
use crate::lane::Carrier;
use crate::manifest::{NAME_MAX, TEXT_MAX};
use crate::wire::{host_capnp as wire, imc_capnp};
use crate::{BadBody, HANDLES_MAX, Handle};

body!(Refusal = imc_capnp::refusal, 0x01);
body!(Empty = imc_capnp::empty, 0x02);
body!(Hello = wire::hello, 0x10);
body!(Assign = wire::assign, 0x11);
body!(Manifests = wire::manifests, 0x12);
// Several devices of a host may be granted the same guest memory.
body!(Grants = wire::grants, 0x13, aliases: true, handles: |body| {
    body.grants.iter().map(|grant| grant.handle).collect()
});
body!(Attach = wire::attach, 0x14);
body!(Seal = wire::seal, 0x15);
body!(Log = wire::log, 0x16);

empty_record!(Empty = imc_capnp::empty);
empty_record!(Attach = wire::attach);
empty_record!(Seal = wire::seal);

enumeration!(Level = wire::Level; Off, Process, Seccomp, Strict);
enumeration!(Purpose = wire::Purpose;
    Wake, Irq, Request, State, Reply, Vector, Memory, File, Stream, Bell, Switch, Direct, Packets, Asked,
    Answers, AnswerRegion, HelperRegion, HelperWake, Scanout, Frames, Network, Screen,
    Listener, Wanted, Password);
enumeration!(Severity = wire::Severity; Error, Warning, Info, Debug);

impl Record for Refusal {
    type Wire = imc_capnp::refusal::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::clipped(&self.reason, SENTENCE_MAX))
    }
    fn write(&self, mut to: imc_capnp::refusal::Builder<'_>) {
        to.set_reason(clip(&self.reason, SENTENCE_MAX));
    }
    fn read(from: imc_capnp::refusal::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Refusal { reason: read_text("reason", from.get_reason(), SENTENCE_MAX)? })
    }
}

impl Record for Hello {
    type Wire = wire::hello::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::hello::Builder<'_>) {
        to.set_protocol(self.protocol);
    }
    fn read(from: wire::hello::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Hello { protocol: from.get_protocol() })
    }
}

impl Record for Assign {
    type Wire = wire::assign::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("devices", &self.devices, DEVICES_MAX)
    }
    fn write(&self, mut to: wire::assign::Builder<'_>) {
        to.set_level(self.level.to_wire());
        to.set_threaded(self.threaded);
        write_list(&self.devices, to.init_devices(self.devices.len() as u32));
    }
    fn read(from: wire::assign::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Assign {
            level: Level::from_wire("level", from.get_level())?,
            devices: read_list("devices", from.get_devices(), DEVICES_MAX)?,
            threaded: from.get_threaded(),
        })
    }
}

impl Record for Assignment {
    type Wire = wire::assignment::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("device", &self.device, TEXT_MAX)?
            + words::list("options", &self.options, OPTIONS_MAX)?
            + self.exchanged.as_ref().map_or(Ok(0), words::record)?)
    }
    fn write(&self, mut to: wire::assignment::Builder<'_>) {
        to.set_device(self.device.as_str());
        to.set_carrier(self.carrier.to_wire());
        to.set_poisoned(self.poisoned);
        if let Some(exchanged) = &self.exchanged {
            exchanged.write(to.reborrow().init_exchanged());
        }
        write_list(&self.options, to.init_options(self.options.len() as u32));
    }
    fn read(from: wire::assignment::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Assignment {
            device: read_text("device", from.get_device(), TEXT_MAX)?,
            options: read_list("options", from.get_options(), OPTIONS_MAX)?,
            carrier: Carrier::from_wire("carrier", from.get_carrier())?,
            poisoned: from.get_poisoned(),
            exchanged: if from.has_exchanged() { Some(Exchanged::read(from.get_exchanged()?)?) } else { None },
        })
    }
}

impl Record for Exchanged {
    type Wire = wire::exchanged::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::exchanged::Builder<'_>) {
        to.set_bay(self.bay);
        to.set_forced(self.forced);
    }
    fn read(from: wire::exchanged::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Exchanged { bay: from.get_bay(), forced: from.get_forced() })
    }
}

impl Record for Setting {
    type Wire = wire::setting::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::text("name", &self.name, NAME_MAX)? + words::text("value", &self.value, VALUE_MAX)?)
    }
    fn write(&self, mut to: wire::setting::Builder<'_>) {
        to.set_name(self.name.as_str());
        to.set_value(self.value.as_str());
    }
    fn read(from: wire::setting::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Setting {
            name: read_text("name", from.get_name(), NAME_MAX)?,
            value: read_text("value", from.get_value(), VALUE_MAX)?,
        })
    }
}

impl Record for Manifests {
    type Wire = wire::manifests::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("manifests", &self.manifests, DEVICES_MAX)
    }
    fn write(&self, to: wire::manifests::Builder<'_>) {
        write_list(&self.manifests, to.init_manifests(self.manifests.len() as u32));
    }
    fn read(from: wire::manifests::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Manifests { manifests: read_list("manifests", from.get_manifests(), DEVICES_MAX)? })
    }
}

impl Record for Grant {
    type Wire = wire::grant::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::record(&self.handle)
    }
    fn write(&self, mut to: wire::grant::Builder<'_>) {
        to.set_device(self.device);
        to.set_purpose(self.purpose.to_wire());
        to.set_number(self.number);
        to.set_base(self.base);
        self.handle.write(to.init_handle());
    }
    fn read(from: wire::grant::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Grant {
            device: from.get_device(),
            purpose: Purpose::from_wire("purpose", from.get_purpose())?,
            number: from.get_number(),
            base: from.get_base(),
            handle: Handle::read(from.get_handle()?)?,
        })
    }
}

impl Record for Grants {
    type Wire = wire::grants::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("grants", &self.grants, HANDLES_MAX)
    }
    fn write(&self, to: wire::grants::Builder<'_>) {
        write_list(&self.grants, to.init_grants(self.grants.len() as u32));
    }
    fn read(from: wire::grants::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Grants { grants: read_list("grants", from.get_grants(), HANDLES_MAX)? })
    }
}

impl Record for Log {
    type Wire = wire::log::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::clipped(&self.text, SENTENCE_MAX))
    }
    fn write(&self, mut to: wire::log::Builder<'_>) {
        to.set_severity(self.severity.to_wire());
        to.set_text(clip(&self.text, SENTENCE_MAX));
    }
    fn read(from: wire::log::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Log {
            severity: Severity::from_wire("severity", from.get_severity())?,
            text: read_text("text", from.get_text(), SENTENCE_MAX)?,
        })
    }
}
