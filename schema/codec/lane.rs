//! The access plane on carriers that send messages.

use super::{Record, body, enumeration};
use crate::BadBody;
use crate::lane::{Access, Answer, Carrier, Operation, STRING_MAX};
use crate::wire::lane_capnp as wire;

body!(Access = wire::access, 0x60);
body!(Answer = wire::answer, 0x61);

enumeration!(Operation = wire::Operation; Read, Write, Post, Alarm, Reset, Quiesce, Shutdown, Button, Refresh, ReadString);
enumeration!(Carrier = wire::Carrier; Memory, Socket, Pipe, Virtio, InProcess);

/// `deadline` on the wire where there is none: the guest clock takes 584 years to get there.
const NO_DEADLINE: u64 = u64::MAX;

impl Record for Access {
    type Wire = wire::access::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::access::Builder<'_>) {
        to.set_sequence(self.sequence);
        to.set_operation(self.operation.to_wire());
        to.set_range(self.range);
        to.set_width(self.width);
        to.set_offset(self.offset);
        to.set_value(self.value);
        to.set_now(self.now);
    }
    fn read(from: wire::access::Reader<'_>) -> Result<Self, BadBody> {
        let operation = Operation::from_wire("operation", from.get_operation())?;
        let width = from.get_width();
        let touches = matches!(operation, Operation::Read | Operation::Write | Operation::Post | Operation::ReadString);
        if touches && !matches!(width, 1 | 2 | 4 | 8) {
            return Err(BadBody::OutOfRange("width"));
        }
        Ok(Access {
            sequence: from.get_sequence(),
            operation,
            range: from.get_range(),
            width,
            offset: from.get_offset(),
            value: from.get_value(),
            now: from.get_now(),
        })
    }
}

impl Record for Answer {
    type Wire = wire::answer::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::answer::Builder<'_>) {
        to.set_value(self.value);
        to.set_sequence(self.sequence);
        to.set_levels(self.levels);
        to.set_deadline(self.deadline.unwrap_or(NO_DEADLINE));
        to.set_postable(self.postable);
        to.set_valid((0..).zip(&self.shadow).filter(|(_, value)| value.is_some()).map(|(slot, _)| 1 << slot).sum());
        let [shadow0, shadow1, shadow2, shadow3, shadow4, shadow5, shadow6, shadow7] =
            self.shadow.map(Option::unwrap_or_default);
        to.set_shadow0(shadow0);
        to.set_shadow1(shadow1);
        to.set_shadow2(shadow2);
        to.set_shadow3(shadow3);
        to.set_shadow4(shadow4);
        to.set_shadow5(shadow5);
        to.set_shadow6(shadow6);
        to.set_shadow7(shadow7);
        to.set_now(self.now);
        to.set_doorbells(self.doorbells);
        to.set_unknown(self.unknown);
        to.set_started(self.started);
        to.set_bytes(self.bytes);
    }
    fn read(from: wire::answer::Reader<'_>) -> Result<Self, BadBody> {
        let valid = from.get_valid();
        let shadow = [
            from.get_shadow0(),
            from.get_shadow1(),
            from.get_shadow2(),
            from.get_shadow3(),
            from.get_shadow4(),
            from.get_shadow5(),
            from.get_shadow6(),
            from.get_shadow7(),
        ];
        if valid >> shadow.len() != 0 {
            return Err(BadBody::OutOfRange("valid"));
        }
        if usize::from(from.get_bytes()) > STRING_MAX {
            return Err(BadBody::OutOfRange("bytes"));
        }
        Ok(Answer {
            value: from.get_value(),
            sequence: from.get_sequence(),
            levels: from.get_levels(),
            deadline: Some(from.get_deadline()).filter(|deadline| *deadline != NO_DEADLINE),
            postable: from.get_postable(),
            shadow: std::array::from_fn(|slot| (valid >> slot & 1 != 0).then_some(shadow[slot])),
            now: from.get_now(),
            doorbells: from.get_doorbells(),
            unknown: from.get_unknown(),
            bytes: from.get_bytes(),
            started: from.get_started(),
        })
    }
}
