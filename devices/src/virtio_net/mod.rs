//! Virtio network device: frames between the guest and the rings that it was given.
//!
//! Source: virtio 1.2, section 5.1. The registers and the queues are the transport's ([`device::virtio`]).

#[cfg(test)]
mod tests;

use crate::declare;
use crate::ethernet::{ADDRESS_BYTES, HEADER_BYTES, mac_option, mac_spec};
use device::manifest::{Class, Manifest, Power};
use device::virtio::{self, Backend, Broken, FIRST_WISH, Function, Positions, Request, Served, Virtio};
use device::{AttachError, FRAME_MAX, Frames, OptionError, Options, Powers};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use vm_memory::GuestAddress;

pub(crate) const NAME: &str = "virtio-net";

/// The device as a host runs it.
pub(crate) type VirtioNet = Virtio<Net>;

/// The queues of one pair (5.1.2), and the positions of the same numbers: frames received, and frames sent.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUE_SIZE: u16 = 256;

/// `struct virtio_net_hdr` (5.1.6): with version 1 it always has `num_buffers`, its last two bytes.
const NET_HEADER_BYTES: usize = 12;
const NUM_BUFFERS: u64 = 10;

/// `struct virtio_net_config` (5.1.4) as far as `mtu`.
const CONFIG_BYTES: usize = 12;
/// Largest packet in a frame: the frame less its header and a VLAN tag.
const MTU: u16 = (FRAME_MAX - HEADER_BYTES - 4) as u16;

/// Index of the wish for frames.
const FRAMES: u32 = FIRST_WISH;

/// Frames, both ways.
pub(crate) struct Net {
    frames: Box<dyn Frames>,
    config: [u8; CONFIG_BYTES],
    /// The frame in hand.
    frame: Box<[u8; FRAME_MAX]>,
    /// What the frame that is being received comes to.
    arriving: Arriving,
}

/// A frame on its way into the guest's buffers.
#[derive(Default)]
struct Arriving {
    length: usize,
    /// Bytes that earlier chains have taken.
    done: usize,
    /// Where the two bytes of `num_buffers` are.
    count: [GuestAddress; 2],
}

impl Net {
    /// Puts the next frame, or the next piece of it, into the chain.
    fn receive(&mut self, Request { features, positions, chain, part, .. }: Request<'_>) -> Result<Served, Broken> {
        let buffers = chain.writable;
        let mut header = 0;
        if part == 0 {
            let length = self.frames.receive(positions[RECEIVE], &mut self.frame).unwrap_or(0);
            self.arriving = Arriving { length, ..Arriving::default() };
            header = NET_HEADER_BYTES as u64;
            if buffers.bytes() < header {
                return Err(Broken::Short);
            }
            let mergeable = features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0;
            // What has no header of its own is no frame. Without mergeable buffers a frame of the largest packet fits
            // (5.1.6.3.1); what is larger, by its VLAN tag, may not.
            if length < HEADER_BYTES || !mergeable && header + length as u64 > buffers.bytes() {
                positions[RECEIVE] = positions[RECEIVE].wrapping_add(1);
                return Ok(Served::Unused);
            }
            let mut bytes = [0; NET_HEADER_BYTES];
            bytes[NUM_BUFFERS as usize] = 1;
            buffers.write(&bytes).map_err(|_| Broken::Failed)?;
            for (at, address) in (NUM_BUFFERS..).zip(&mut self.arriving.count) {
                *address = buffers.address(at).ok_or(Broken::Short)?;
            }
        }
        let Arriving { length, done, count } = &mut self.arriving;
        let (_, room) = buffers.split_at(header);
        let rest = self.frame.get(*done..*length).unwrap_or_default();
        let written = room.write(rest).map_err(|_| Broken::Failed)?;
        if part > 0 && written == 0 {
            return Err(Broken::Short);
        }
        *done += written;
        let (used, work) = ((header as usize + written) as u32, header + written as u64);
        if done < length {
            return Ok(Served::Part { written: used, work });
        }
        if part > 0 {
            for (address, byte) in count.iter().zip((part + 1).to_le_bytes()) {
                buffers.change(*address, byte).map_err(|_| Broken::Failed)?;
            }
        }
        positions[RECEIVE] = positions[RECEIVE].wrapping_add(1);
        Ok(Served::Done { written: used, work })
    }

    /// Sends the frame of a chain. Its header asks for nothing: no feature that it could was offered.
    fn transmit(&mut self, Request { positions, chain, .. }: Request<'_>) -> Result<Served, Broken> {
        let (_, frame) = chain.readable.split_at(NET_HEADER_BYTES as u64);
        let length = frame.bytes() as usize;
        // One that no wire takes is sent nowhere.
        if (HEADER_BYTES..=FRAME_MAX).contains(&length) {
            frame.read(&mut self.frame[..length]).map_err(|_| Broken::Failed)?;
            self.frames.send(positions[TRANSMIT], &self.frame[..length]);
            positions[TRANSMIT] = positions[TRANSMIT].wrapping_add(1);
        }
        Ok(Served::Done { written: 0, work: chain.readable.bytes() })
    }
}

impl Backend for Net {
    const QUEUES: &'static [u16] = &[QUEUE_SIZE, QUEUE_SIZE];

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        options.check(&[mac_spec()])?;
        mac_option(options)?;
        Ok(virtio::manifest(Function {
            name: NAME,
            summary: "Virtio network card",
            class: Class::Net,
            kind: VIRTIO_ID_NET,
            // Network controller, Ethernet.
            pci_class: 0x02_00_00,
            queues: Self::QUEUES.len(),
            config_bytes: CONFIG_BYTES as u32,
            memory_because: "the guest puts its queues and its frames wherever it likes in memory",
            wishes: vec![declare::wish(Power::Frames, "cable", "frames that the guest sends and receives")],
            options: vec![mac_spec()],
        }))
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Net, AttachError> {
        options.check(&[mac_spec()])?;
        let mut config = [0; CONFIG_BYTES];
        // mac, status, max_virtqueue_pairs, mtu.
        config[..ADDRESS_BYTES].copy_from_slice(&mac_option(options)?);
        config[6..8].copy_from_slice(&(VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
        config[8..10].copy_from_slice(&1u16.to_le_bytes());
        config[10..12].copy_from_slice(&MTU.to_le_bytes());
        let frame = Box::new([0; FRAME_MAX]);
        Ok(Net { frames: powers.frames(FRAMES)?, config, frame, arriving: Arriving::default() })
    }

    fn features(&self) -> u64 {
        let offered = [VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_MTU, VIRTIO_NET_F_MRG_RXBUF];
        offered.iter().fold(0, |features, bit| features | 1 << bit)
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn serve(&mut self, request: Request<'_>) -> Result<Served, Broken> {
        match request.queue {
            RECEIVE => self.receive(request),
            _ => self.transmit(request),
        }
    }

    fn positions(&self) -> Positions {
        let (sent, received) = self.frames.published();
        [received, sent]
    }

    fn is_ready(&self, queue: usize, positions: &Positions) -> bool {
        match queue {
            RECEIVE => self.frames.has(positions[RECEIVE]),
            _ => self.frames.has_room(positions[TRANSMIT]),
        }
    }

    fn publish(&mut self, positions: &Positions) {
        self.frames.publish(positions[TRANSMIT], positions[RECEIVE]);
    }
}
