//! The access plane on carriers that send messages.

use super::{Record, body, enumeration};
use crate::BadBody;
use crate::lane::{Access, Answer, Operation};
use crate::wire::lane_capnp as wire;

body!(Access = wire::access, 0x60);
body!(Answer = wire::answer, 0x61);

enumeration!(Operation = wire::Operation; Read, Write, Post, Alarm, Reset, Quiesce, Shutdown, Button);

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
        let touches = matches!(operation, Operation::Read | Operation::Write | Operation::Post);
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
        to.set_sequence(self.sequence);
        to.set_known(self.known);
        to.set_value(self.value);
    }
    fn read(from: wire::answer::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Answer { sequence: from.get_sequence(), known: from.get_known(), value: from.get_value() })
    }
}
