//! The kernel objects of a VM with one toy, as its supervisor and its VMM hold them.

#![allow(missing_docs, dead_code)] // Part of several programs, each of which uses its own share.

use super::toy::manifest;
use imc::lane::{Lane, MemoryCarrier, SpinBudget, StateView, state_region_bytes};
use imc::{Capability, ReadWrite, Region, RelayEnd, Wake};
use schema::host::{Grant, Purpose};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What the supervisor holds of a VM with one toy.
pub struct Objects {
    pub request: Region<ReadWrite>,
    pub state: Region<ReadWrite>,
    pub stream: Region<ReadWrite>,
    pub reply: Wake,
    pub wake: Wake,
    pub irq: Wake,
    pub bell: Wake,
    pub switch: Wake,
}

impl Objects {
    pub fn new() -> Objects {
        let wake = || Wake::create().unwrap();
        let state_bytes = state_region_bytes(manifest().state_bytes, 0);
        Objects {
            request: Region::create("cofferdam:request", imc::lane::REQUEST_BYTES).unwrap(),
            state: Region::create("cofferdam:state", state_bytes).unwrap(),
            stream: Region::create("cofferdam:stream", imc::STREAM_BYTES).unwrap(),
            reply: wake(),
            wake: wake(),
            irq: wake(),
            bell: wake(),
            switch: wake(),
        }
    }

    pub fn grants(&self) -> Vec<(Grant, OwnedFd)> {
        fn grant(purpose: Purpose, number: u32, what: &impl Capability) -> (Grant, OwnedFd) {
            let grant = Grant { device: 0, purpose, number, base: 0, handle: what.handle(0) };
            (grant, what.as_fd().try_clone_to_owned().unwrap())
        }
        vec![
            grant(Purpose::Wake, 0, &self.wake),
            grant(Purpose::Irq, 0, &self.irq),
            grant(Purpose::Request, 0, &self.request.read_only().unwrap()),
            grant(Purpose::State, 0, &self.state),
            grant(Purpose::Reply, 0, &self.reply),
            grant(Purpose::Stream, 0, &self.stream),
            grant(Purpose::Bell, 0, &self.bell),
            grant(Purpose::Switch, 1, &self.switch),
        ]
    }

    pub fn view(&self) -> StateView {
        StateView::new(self.state.read_only().unwrap().map().unwrap())
    }

    pub fn lane(&self, spin: SpinBudget, deadline: Duration) -> Lane {
        let (reply, wake) = (self.reply.try_clone().unwrap(), self.wake.try_clone().unwrap());
        let carrier = MemoryCarrier::new(self.request.map().unwrap(), self.view(), reply, wake, spin);
        Lane::new(Box::new(carrier), self.view(), &manifest(), deadline)
    }

    pub fn relay(&self) -> RelayEnd {
        RelayEnd::new(self.stream.map().unwrap())
    }
}
