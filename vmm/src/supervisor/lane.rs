//! The kernel objects of a device's lane: what each of its two ends is granted, by carrier.

use super::grants::Bundle;
use crate::lane::LaneGrants;
use anyhow::Result;
use imc::lane::{ANSWER_REGION_BYTES, REQUEST_BYTES, prepare_virtqueues};
use imc::{Packets, PipeReader, PipeWriter, ReadOnly, ReadWrite, Region, Wake, pipe};
use schema::host::Purpose;
use schema::lane::Carrier;
use std::os::fd::{AsFd, BorrowedFd};

/// Both ends. What one side writes the other holds for reading alone.
pub enum LaneObjects {
    /// Entries in one region, commits in the state region.
    Memory {
        /// Entries, from the VMM.
        request: Shared,
        /// Wakes the VMM's waiter.
        reply: Wake,
    },
    /// A pair of sockets.
    Socket {
        /// The VMM's.
        vmm: Packets,
        /// The host's.
        host: Packets,
    },
    /// Two pipes.
    Pipe {
        /// Entries, from the VMM.
        asked: (PipeReader, PipeWriter),
        /// Answers, from the host.
        answers: (PipeReader, PipeWriter),
    },
    /// Two virtqueues.
    Virtio {
        /// What the VMM writes.
        request: Shared,
        /// What the host writes.
        answers: Shared,
        /// Wakes the VMM's waiter.
        reply: Wake,
    },
    /// A function call needs nothing.
    InProcess,
}

/// A region that one side writes, and the view of it that the other gets.
pub struct Shared {
    /// To write.
    pub region: Region<ReadWrite>,
    view: Region<ReadOnly>,
}

impl Shared {
    fn create(name: &'static str, bytes: u64) -> Result<Shared> {
        let region = Region::create(name, bytes)?;
        Ok(Shared { view: region.read_only()?, region })
    }
}

impl LaneObjects {
    /// Makes what this carrier takes.
    pub fn create(carrier: Carrier) -> Result<LaneObjects> {
        let request = || Shared::create("cofferdam:request", REQUEST_BYTES);
        Ok(match carrier {
            Carrier::Memory => LaneObjects::Memory { request: request()?, reply: Wake::create()? },
            Carrier::Socket => {
                let (vmm, host) = Packets::pair()?;
                LaneObjects::Socket { vmm, host }
            }
            Carrier::Pipe => LaneObjects::Pipe { asked: pipe()?, answers: pipe()? },
            Carrier::Virtio => LaneObjects::Virtio {
                request: {
                    let request = request()?;
                    prepare_virtqueues(&request.region)?;
                    request
                },
                answers: Shared::create("cofferdam:answers", ANSWER_REGION_BYTES)?,
                reply: Wake::create()?,
            },
            Carrier::InProcess => LaneObjects::InProcess,
        })
    }

    /// The memory among it.
    pub(super) fn shared_memory(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            LaneObjects::Memory { request, .. } => vec![request.region.as_fd()],
            LaneObjects::Virtio { request, answers, .. } => vec![request.region.as_fd(), answers.region.as_fd()],
            LaneObjects::Socket { .. } | LaneObjects::Pipe { .. } | LaneObjects::InProcess => Vec::new(),
        }
    }

    /// The pipes among it, one end of each.
    pub(super) fn pipes(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            LaneObjects::Pipe { asked, answers } => vec![asked.0.as_fd(), answers.0.as_fd()],
            _ => Vec::new(),
        }
    }

    /// Whether the VMM reads what the host has committed where the host writes it.
    #[must_use]
    pub fn shares_state(&self) -> bool {
        matches!(self, LaneObjects::Memory { .. })
    }

    /// Wipes what the host wrote where the VMM looks; the VMM begins anew as well.
    pub fn wipe(&self) -> Result<()> {
        match self {
            LaneObjects::Virtio { answers, .. } => Ok(answers.region.clear()?),
            // In the state region, or in queues that the VMM empties.
            _ => Ok(()),
        }
    }

    /// The VMM's end of it, for this process itself.
    pub(super) fn ours(&self) -> Result<LaneGrants> {
        let mut grants = LaneGrants::default();
        match self {
            LaneObjects::Memory { request, reply } => {
                grants.request = Some(request.region.try_clone()?);
                grants.reply = Some(reply.try_clone()?);
            }
            LaneObjects::Socket { vmm, .. } => grants.packets = Some(vmm.try_clone()?),
            _ => anyhow::bail!("a stand has lanes over `memory` and `socket` alone"),
        }
        Ok(grants)
    }

    /// Grants the host's end to it, as that of its device `number`.
    pub(super) fn grant_host(&self, bundle: &mut Bundle, number: u8) -> Result<()> {
        match self {
            LaneObjects::Memory { request, reply } => {
                bundle.add(number, Purpose::Request, 0, 0, &request.view)?;
                bundle.add(number, Purpose::Reply, 0, 0, reply)
            }
            LaneObjects::Socket { host, .. } => bundle.add(number, Purpose::Packets, 0, 0, host),
            LaneObjects::Pipe { asked, answers } => {
                bundle.add(number, Purpose::Asked, 0, 0, &asked.0)?;
                bundle.add(number, Purpose::Answers, 0, 0, &answers.1)
            }
            LaneObjects::Virtio { request, answers, reply } => {
                bundle.add(number, Purpose::Request, 0, 0, &request.view)?;
                bundle.add(number, Purpose::AnswerRegion, 0, 0, &answers.region)?;
                bundle.add(number, Purpose::Reply, 0, 0, reply)
            }
            LaneObjects::InProcess => Ok(()),
        }
    }

    /// Grants the VMM's end to it, as that of device `number`.
    pub(super) fn grant_vmm(&self, bundle: &mut Bundle, number: u8) -> Result<()> {
        match self {
            LaneObjects::Memory { request, reply } => {
                bundle.add(number, Purpose::Request, 0, 0, &request.region)?;
                bundle.add(number, Purpose::Reply, 0, 0, reply)
            }
            LaneObjects::Socket { vmm, .. } => bundle.add(number, Purpose::Packets, 0, 0, vmm),
            LaneObjects::Pipe { asked, answers } => {
                bundle.add(number, Purpose::Asked, 0, 0, &asked.1)?;
                bundle.add(number, Purpose::Answers, 0, 0, &answers.0)
            }
            LaneObjects::Virtio { request, answers, reply } => {
                bundle.add(number, Purpose::Request, 0, 0, &request.region)?;
                bundle.add(number, Purpose::AnswerRegion, 0, 0, &answers.view)?;
                bundle.add(number, Purpose::Reply, 0, 0, reply)
            }
            LaneObjects::InProcess => Ok(()),
        }
    }
}
