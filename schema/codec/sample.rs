//! What the processes of the message layer's tutorial and tests say to each other.

use super::{Record, body, words};
use crate::sample::{Add, Door, Share, Shared, Sum};
use crate::wire::sample_capnp as wire;
use crate::{BadBody, Handle, Lease};

body!(Share = wire::share, 0x70, handles: |body| [body.memory, body.bell].into_iter().collect());
body!(Shared = wire::shared, 0x71);
body!(Add = wire::add, 0x72);
body!(Sum = wire::sum, 0x73);
body!(Door = wire::door, 0x74, handles: |body| [body.connect].into_iter().collect());

impl Record for Share {
    type Wire = wire::share::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(words::record(&self.memory)? + words::record(&self.bell)?)
    }
    fn write(&self, mut to: wire::share::Builder<'_>) {
        self.memory.write(to.reborrow().init_memory());
        self.bell.write(to.init_bell());
    }
    fn read(from: wire::share::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Share { memory: Handle::read(from.get_memory()?)?, bell: Handle::read(from.get_bell()?)? })
    }
}

impl Record for Shared {
    type Wire = wire::shared::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::shared::Builder<'_>) {
        to.set_region(self.region);
    }
    fn read(from: wire::shared::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Shared { region: from.get_region() })
    }
}

impl Record for Add {
    type Wire = wire::add::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::record(&self.bytes)
    }
    fn write(&self, to: wire::add::Builder<'_>) {
        self.bytes.write(to.init_bytes());
    }
    fn read(from: wire::add::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Add { bytes: Lease::read(from.get_bytes()?)? })
    }
}

impl Record for Sum {
    type Wire = wire::sum::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        Ok(0)
    }
    fn write(&self, mut to: wire::sum::Builder<'_>) {
        to.set_sum(self.sum);
    }
    fn read(from: wire::sum::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Sum { sum: from.get_sum() })
    }
}

impl Record for Door {
    type Wire = wire::door::Owned;
    fn measure(&self) -> Result<usize, BadBody> {
        words::record(&self.connect)
    }
    fn write(&self, to: wire::door::Builder<'_>) {
        self.connect.write(to.init_connect());
    }
    fn read(from: wire::door::Reader<'_>) -> Result<Self, BadBody> {
        Ok(Door { connect: Handle::read(from.get_connect()?)? })
    }
}
