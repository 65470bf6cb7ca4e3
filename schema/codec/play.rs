//! Between the supervisor and the VMM of a machine that is driven from outside.

use super::{Record, body, enumeration, read_data, read_list, words, write_list};
use crate::BadBody;
use crate::manifest::Switch;
use crate::play::{BLOCK_MAX, CHANGES_MAX, Change, Changes, Clock, Outcome, Play, Played, STEPS_MAX, Step, Turned};
use crate::vmm::Drive;
use crate::wire::vmm_capnp as wire;

body!(Play = wire::play, 0x34);
body!(Played = wire::played, 0x35);
body!(Changes = wire::changes, 0x36);
body!(Turned = wire::turned, 0x37);

enumeration!(Clock = wire::Clock; Real, Virtual);

impl Record for Play {
    type Wire = wire::play::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("steps", &self.steps, STEPS_MAX)
    }
    fn write(&self, to: wire::play::Builder<'_>) {
        write_list(&self.steps, to.init_steps(self.steps.len() as u32));
    }
    fn read(from: wire::play::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Play { steps: read_list("steps", from.get_steps(), STEPS_MAX)? })
    }
}

impl Record for Step {
    type Wire = wire::step::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        use wire::{fill, input, read, write};
        fn own<B: capnp::traits::HasStructSize>() -> usize {
            B::STRUCT_SIZE.total() as usize
        }
        Ok(match self {
            Step::Access(access) => words::record(access)?,
            Step::Read { .. } => own::<read::Builder<'_>>(),
            Step::Write { bytes, .. } => own::<write::Builder<'_>>() + words::data("bytes", bytes, BLOCK_MAX)?,
            Step::Fill { .. } => own::<fill::Builder<'_>>(),
            Step::Pass(_) => 0,
            Step::Wire { .. } => own::<input::Builder<'_>>(),
        })
    }
    fn write(&self, mut to: wire::step::Builder<'_>) {
        match self {
            Step::Access(access) => access.write(to.init_access()),
            Step::Read { address, count } => {
                let mut to = to.init_read();
                to.set_address(*address);
                to.set_count(*count);
            }
            Step::Write { address, bytes } => {
                let mut to = to.init_write();
                to.set_address(*address);
                to.set_bytes(bytes);
            }
            Step::Fill { address, count, byte } => {
                let mut to = to.init_fill();
                to.set_address(*address);
                to.set_count(*count);
                to.set_byte(*byte);
            }
            Step::Pass(until) => to.set_pass(*until),
            Step::Wire { input, level } => {
                let mut to = to.init_wire();
                to.set_input(*input);
                to.set_level(*level);
            }
        }
    }
    fn read(from: wire::step::Reader<'_>) -> Result<Self, BadBody> {
        use wire::step::Which;
        let counted = |count: u16| match usize::from(count) {
            0..=BLOCK_MAX => Ok(count),
            _ => Err(BadBody::OutOfRange("count")),
        };
        Ok(match from.which().map_err(|_| BadBody::Unknown("step"))? {
            Which::Invalid(()) => return Err(BadBody::Unknown("step")),
            Which::Access(access) => Step::Access(Drive::read(access?)?),
            Which::Read(from) => {
                let from = from?;
                Step::Read { address: from.get_address(), count: counted(from.get_count())? }
            }
            Which::Write(from) => {
                let from = from?;
                Step::Write { address: from.get_address(), bytes: read_data("bytes", from.get_bytes(), BLOCK_MAX)? }
            }
            Which::Fill(from) => {
                let from = from?;
                Step::Fill { address: from.get_address(), count: counted(from.get_count())?, byte: from.get_byte() }
            }
            Which::Pass(until) => Step::Pass(until),
            Which::Wire(from) => {
                let from = from?;
                Step::Wire { input: from.get_input(), level: from.get_level() }
            }
        })
    }
}

impl Record for Played {
    type Wire = wire::played::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("steps", &self.steps, STEPS_MAX)
    }
    fn write(&self, mut to: wire::played::Builder<'_>) {
        to.set_now(self.now);
        to.set_deadline(self.deadline.unwrap_or(u64::MAX));
        write_list(&self.steps, to.init_steps(self.steps.len() as u32));
    }
    fn read(from: wire::played::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Played {
            steps: read_list("steps", from.get_steps(), STEPS_MAX)?,
            now: from.get_now(),
            deadline: Some(from.get_deadline()).filter(|deadline| *deadline != u64::MAX),
        })
    }
}

impl Record for Outcome {
    type Wire = wire::outcome::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        let changes = if self.changes.is_empty() { 0 } else { words::list("changes", &self.changes, CHANGES_MAX)? };
        Ok(words::data("bytes", &self.bytes, BLOCK_MAX)? + changes)
    }
    fn write(&self, mut to: wire::outcome::Builder<'_>) {
        to.set_value(self.value);
        if !self.bytes.is_empty() {
            to.set_bytes(&self.bytes);
        }
        if !self.changes.is_empty() {
            write_list(&self.changes, to.init_changes(self.changes.len() as u32));
        }
    }
    fn read(from: wire::outcome::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Outcome {
            value: from.get_value(),
            bytes: read_data("bytes", from.get_bytes(), BLOCK_MAX)?,
            changes: read_list("changes", from.get_changes(), CHANGES_MAX)?,
        })
    }
}

impl Record for Change {
    type Wire = wire::change::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::change::Builder<'_>) {
        to.set_input(self.input);
        to.set_level(self.level);
        to.set_device(self.device);
        to.set_hidden(self.hidden);
    }
    fn read(from: wire::change::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Change {
            input: from.get_input(),
            level: from.get_level(),
            device: from.get_device(),
            hidden: from.get_hidden(),
        })
    }
}

impl Record for Changes {
    type Wire = wire::changes::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::list("changes", &self.changes, CHANGES_MAX)
    }
    fn write(&self, to: wire::changes::Builder<'_>) {
        write_list(&self.changes, to.init_changes(self.changes.len() as u32));
    }
    fn read(from: wire::changes::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Changes { changes: read_list("changes", from.get_changes(), CHANGES_MAX)? })
    }
}

impl Record for Turned {
    type Wire = wire::turned::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::turned::Builder<'_>) {
        to.set_device(self.device);
        to.set_switch(self.switch.to_wire());
        to.set_value(self.value);
    }
    fn read(from: wire::turned::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Turned {
            device: from.get_device(),
            switch: Switch::from_wire("switch", from.get_switch())?,
            value: from.get_value(),
        })
    }
}
