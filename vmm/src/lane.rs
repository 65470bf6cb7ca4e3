//! The VMM's end of a device's lane, made of what was granted.

use imc::lane::{
    ANSWER_REGION_BYTES, Carrier, MemoryCarrier, PipeCarrier, REQUEST_BYTES, SocketCarrier, SpinBudget, StateView,
    VirtioCarrier,
};
use imc::{Capability, Packets, PipeReader, PipeWriter, ReadOnly, ReadWrite, Region, Rights, Wake};
use sandbox::{DescriptorKind, Held, Mode};
use schema::host::{Grant, Purpose};
use schema::lane;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What was granted of it; each carrier takes some.
#[derive(Default)]
pub struct LaneGrants {
    pub(crate) request: Option<Region<ReadWrite>>,
    pub(crate) reply: Option<Wake>,
    pub(crate) packets: Option<Packets>,
    asked: Option<PipeWriter>,
    answers: Option<PipeReader>,
    answer_region: Option<Region<ReadOnly>>,
}

/// How a device in a host is reached.
pub struct Way {
    /// Takes operations to it.
    pub carrier: Box<dyn Carrier>,
    /// What is seen of its committed state.
    pub view: StateView,
    /// Descriptors that the carrier goes on using.
    pub held: Vec<Held>,
}

impl LaneGrants {
    /// Takes a grant of the lane's. Says whether there was one of its purpose before.
    pub fn take(&mut self, grant: &Grant, descriptor: OwnedFd) -> Result<bool, String> {
        Ok(match grant.purpose {
            Purpose::Request => self.request.replace(receive(grant, descriptor)?).is_some(),
            Purpose::Reply => self.reply.replace(receive(grant, descriptor)?).is_some(),
            Purpose::Packets => self.packets.replace(receive(grant, descriptor)?).is_some(),
            Purpose::Asked => self.asked.replace(receive(grant, descriptor)?).is_some(),
            Purpose::Answers => self.answers.replace(receive(grant, descriptor)?).is_some(),
            Purpose::AnswerRegion => self.answer_region.replace(receive(grant, descriptor)?).is_some(),
            other => return Err(format!("was granted a {other:?} as its lane's")),
        })
    }

    /// The way to a host that `wake` rings. `state` is the look into the state region, which the `memory` carrier alone has.
    pub fn way(
        self,
        carrier: lane::Carrier,
        state: Option<StateView>,
        wake: Wake,
        spin: SpinBudget,
    ) -> Result<Way, String> {
        let mut held = vec![eventfd(&wake, Mode::Write)];
        // The waiter reads it; who retires the lane writes it.
        let mut waiter = |granted: Option<Wake>| {
            let waiter = granted.ok_or("has nothing to be answered by")?;
            held.push(eventfd(&waiter, Mode::Both));
            Ok::<Wake, String>(waiter)
        };
        let own = || Wake::create().map_err(failed);
        let (carrier, view): (Box<dyn Carrier>, StateView) = match carrier {
            lane::Carrier::Memory => {
                let request = map(self.request, REQUEST_BYTES)?;
                let view = state.ok_or("has no state region")?;
                let reply = waiter(self.reply)?;
                (Box::new(MemoryCarrier::new(request, view.clone(), reply, wake, spin)), view)
            }
            lane::Carrier::Socket => {
                let packets = self.packets.ok_or("has no socket")?;
                let waiter = waiter(Some(own()?))?;
                held.push(Held::new(packets.as_fd().as_raw_fd(), DescriptorKind::Channel, Mode::Both));
                let carrier = SocketCarrier::new(packets, waiter, wake, spin).map_err(failed)?;
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            lane::Carrier::Pipe => {
                let (asked, answers) = (self.asked.ok_or("has no pipe to ask by")?, self.answers);
                let answers = answers.ok_or("has no pipe to be answered by")?;
                let waiter = waiter(Some(own()?))?;
                held.push(Held::new(asked.as_fd().as_raw_fd(), DescriptorKind::Pipe, Mode::Write));
                held.push(Held::new(answers.as_fd().as_raw_fd(), DescriptorKind::Pipe, Mode::Read));
                let carrier = PipeCarrier::new(asked, answers, waiter, wake, spin).map_err(failed)?;
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            lane::Carrier::Virtio => {
                let request = map(self.request, REQUEST_BYTES)?;
                let answers = map(self.answer_region, ANSWER_REGION_BYTES)?;
                let reply = waiter(self.reply)?;
                let carrier = VirtioCarrier::new(request, answers, reply, wake, spin).map_err(failed)?;
                let view = carrier.view();
                (Box::new(carrier), view)
            }
            lane::Carrier::InProcess => return Err("is to be called, and is not linked".to_owned()),
        };
        Ok(Way { carrier, view, held })
    }
}

fn map<R: Rights>(region: Option<Region<R>>, bytes: u64) -> Result<imc::Mapping, String> {
    let region = region.ok_or("lacks a region of its lane")?;
    if region.bytes() < bytes {
        return Err("has a region that is too small for its lane".to_owned());
    }
    region.map().map_err(failed)
}

fn eventfd(wake: &Wake, mode: Mode) -> Held {
    Held::new(wake.as_fd().as_raw_fd(), DescriptorKind::Eventfd, mode)
}

/// Takes what was granted for what it is granted as.
pub(crate) fn receive<C: Capability>(grant: &Grant, descriptor: OwnedFd) -> Result<C, String> {
    C::receive(descriptor, &grant.handle).map_err(|fault| format!("{:?} {}: {fault}", grant.purpose, grant.number))
}

/// A sentence for what the kernel would not do.
pub(crate) fn failed(error: std::io::Error) -> String {
    format!("cannot be attached: {error}")
}
