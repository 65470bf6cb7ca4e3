//! The kernel objects of a VM with one toy, as its supervisor and its VMM hold them.

#![allow(missing_docs, dead_code)] // Part of several programs, each of which uses its own share.

use super::toy::{DIRECT_BYTES, manifest};
use imc::lane::{
    self, ANSWER_REGION_BYTES, Lane, MemoryCarrier, PipeCarrier, SocketCarrier, SpinBudget, StateView, VirtioCarrier,
    state_region_bytes,
};
use imc::{Capability, Packets, PipeReader, PipeWriter, ReadWrite, Region, RelayEnd, Wake, pipe};
use schema::display::{PIXELS_AT, SCANOUT_HEADER_BYTES, Scanout};
use schema::host::{Grant, Purpose};
use schema::lane::Carrier;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What the supervisor holds of a VM with one toy.
pub struct Objects {
    pub carrier: Carrier,
    pub request: Region<ReadWrite>,
    pub state: Region<ReadWrite>,
    pub stream: Region<ReadWrite>,
    pub direct: Region<ReadWrite>,
    pub scanout: Region<ReadWrite>,
    pub reply: Wake,
    pub wake: Wake,
    pub irq: Wake,
    pub bell: Wake,
    pub switch: Wake,
    /// The VMM's end and the host's.
    pub packets: (Packets, Packets),
    pub asked: (PipeReader, PipeWriter),
    pub answers: (PipeReader, PipeWriter),
    pub answer_region: Region<ReadWrite>,
}

impl Objects {
    pub fn new() -> Objects {
        Objects::over(Carrier::Memory)
    }

    /// With a lane over this carrier.
    pub fn over(carrier: Carrier) -> Objects {
        let wake = || Wake::create().unwrap();
        let state_bytes = state_region_bytes(manifest().state_bytes, 0);
        let request = Region::create("cofferdam:request", imc::lane::REQUEST_BYTES).unwrap();
        if carrier == Carrier::Virtio {
            lane::prepare_virtqueues(&request).unwrap();
        }
        Objects {
            carrier,
            request,
            state: Region::create("cofferdam:state", state_bytes).unwrap(),
            stream: Region::create("cofferdam:stream", imc::STREAM_BYTES).unwrap(),
            direct: Region::create("cofferdam:direct", DIRECT_BYTES).unwrap(),
            scanout: Region::create("cofferdam:scanout", schema::display::SCANOUT_BYTES).unwrap(),
            reply: wake(),
            wake: wake(),
            irq: wake(),
            bell: wake(),
            switch: wake(),
            packets: Packets::pair().unwrap(),
            asked: pipe().unwrap(),
            answers: pipe().unwrap(),
            answer_region: Region::create("cofferdam:answers", ANSWER_REGION_BYTES).unwrap(),
        }
    }

    pub fn grants(&self) -> Vec<(Grant, OwnedFd)> {
        fn grant(purpose: Purpose, number: u32, what: &impl Capability) -> (Grant, OwnedFd) {
            let grant = Grant { device: 0, purpose, number, base: 0, handle: what.handle(0) };
            (grant, what.as_fd().try_clone_to_owned().unwrap())
        }
        let mut grants = match self.carrier {
            Carrier::InProcess => vec![],
            Carrier::Memory => vec![
                grant(Purpose::Request, 0, &self.request.read_only().unwrap()),
                grant(Purpose::Reply, 0, &self.reply),
            ],
            Carrier::Socket => vec![grant(Purpose::Packets, 0, &self.packets.1)],
            Carrier::Pipe => vec![grant(Purpose::Asked, 0, &self.asked.0), grant(Purpose::Answers, 0, &self.answers.1)],
            Carrier::Virtio => vec![
                grant(Purpose::Request, 0, &self.request.read_only().unwrap()),
                grant(Purpose::AnswerRegion, 0, &self.answer_region),
                grant(Purpose::Reply, 0, &self.reply),
            ],
        };
        grants.extend([
            grant(Purpose::Wake, 0, &self.wake),
            grant(Purpose::Irq, 0, &self.irq),
            grant(Purpose::State, 0, &self.state),
            grant(Purpose::Stream, 0, &self.stream),
            grant(Purpose::Bell, 0, &self.bell),
            grant(Purpose::Switch, 1, &self.switch),
            grant(Purpose::Direct, 2, &self.direct),
            grant(Purpose::Scanout, 3, &self.scanout),
        ]);
        grants
    }

    pub fn view(&self) -> StateView {
        StateView::new(self.state.read_only().unwrap().map().unwrap())
    }

    /// The VMM's end, of which there is one in the life of a VM.
    pub fn carrier(&self, spin: SpinBudget) -> (Box<dyn lane::Carrier>, StateView) {
        let (reply, wake) = (self.reply.try_clone().unwrap(), self.wake.try_clone().unwrap());
        let own = Wake::create().unwrap();
        match self.carrier {
            Carrier::InProcess => panic!("it has no end"),
            Carrier::Memory => {
                let carrier = MemoryCarrier::new(self.request.map().unwrap(), self.view(), reply, wake, spin);
                (Box::new(carrier), self.view())
            }
            Carrier::Socket => {
                let carrier = SocketCarrier::new(self.packets.0.try_clone().unwrap(), own, wake, spin).unwrap();
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            Carrier::Pipe => {
                let (asked, answers) = (self.asked.1.try_clone().unwrap(), self.answers.0.try_clone().unwrap());
                let carrier = PipeCarrier::new(asked, answers, own, wake, spin).unwrap();
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            Carrier::Virtio => {
                let (request, answers) = (self.request.map().unwrap(), self.answer_region.read_only().unwrap());
                let carrier = VirtioCarrier::new(request, answers.map().unwrap(), reply, wake, spin).unwrap();
                let view = carrier.view();
                (Box::new(carrier), view)
            }
        }
    }

    pub fn lane(&self, spin: SpinBudget, deadline: Duration) -> Lane {
        let (carrier, view) = self.carrier(spin);
        Lane::new(carrier, view, &manifest(), deadline)
    }

    /// The picture's header, if one was drawn, and its first pixel.
    pub fn picture(&self) -> Option<(Scanout, u32)> {
        let mapping = self.scanout.read_only().unwrap().map().unwrap();
        let (mut header, mut pixel) = ([0; SCANOUT_HEADER_BYTES], [0; 4]);
        mapping.read(0, &mut header);
        mapping.read(PIXELS_AT as usize, &mut pixel);
        Some((Scanout::from_bytes(&header).ok()?, u32::from_le_bytes(pixel)))
    }

    pub fn relay(&self) -> RelayEnd {
        RelayEnd::new(self.stream.map().unwrap())
    }
}
