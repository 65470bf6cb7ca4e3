//! Packet commands of a CD-ROM drive: which there are, and those that move its data or its tray (MMC-5; SPC-3).

use super::block::Stretch;
use super::sense::{ILLEGAL_MODE, INVALID_COMMAND, INVALID_FIELD, OUT_OF_RANGE, REMOVAL_PREVENTED};
use super::state::{ABORTED, BLOCK_MAX, PACKET_BYTES, Phase, Source};
use super::unit::{FRAME, Kind};
use super::work::Work;

/// Bits of the features register of PACKET (ATA/ATAPI-6, 8.23.4): data by DMA, and a form that few drives have.
const DMA: u8 = 0x01;
const OVERLAPPED: u8 = 0x02;

/// A command packet.
pub(super) type Packet = [u8; PACKET_BYTES as usize];

pub(super) fn word(packet: &Packet, at: usize) -> u32 {
    u32::from(u16::from_be_bytes([packet[at], packet[at + 1]]))
}

fn long(packet: &Packet, at: usize) -> u32 {
    word(packet, at) << 16 | word(packet, at + 2)
}

impl Work<'_> {
    pub(super) fn is_packet_device(&self) -> bool {
        self.unit.kind == Kind::Cdrom
    }

    /// The command register was written with PACKET.
    pub(super) fn begin_packet_command(&mut self) {
        if self.drive.features[0] & OVERLAPPED != 0 {
            return self.fail(ABORTED);
        }
        // Most bytes of a block.
        self.drive.limit = u32::from(u16::from_le_bytes([self.drive.mid[0], self.drive.high[0]])).min(BLOCK_MAX);
        self.drive.packet = 1;
        self.begin_packet();
    }

    /// The packet is complete.
    pub(super) fn packet(&mut self, packet: &Packet) {
        let code = packet[0];
        // These tell what there is to tell of the drive itself, whatever its state (SPC-3, unit attention condition).
        match code {
            0x03 => return self.request_sense(packet),
            0x12 => return self.inquiry(packet),
            0x46 => return self.get_configuration(packet),
            0x4a => return self.get_event_status(packet),
            _ => {}
        }
        if self.attend() {
            return;
        }
        match code {
            // TEST UNIT READY.
            0x00 => drop(self.is_ready().then(|| self.succeed())),
            0x1a => self.mode_sense(packet, false),
            0x5a => self.mode_sense(packet, true),
            0x1b => self.start_stop(packet),
            0x1e => {
                self.drive.locked = packet[4] & 1;
                self.succeed();
            }
            0x25 => self.read_capacity(),
            0x28 => self.read_frames(long(packet, 2), word(packet, 7)),
            0xa8 => self.read_frames(long(packet, 2), long(packet, 6)),
            0xbe => self.read_cd(packet),
            // SEEK.
            0x2b => drop(self.frames(long(packet, 2), 0).map(|_| self.succeed())),
            0x42 => self.read_subchannel(packet),
            0x43 => self.read_toc(packet),
            0x51 => self.read_disc_information(packet),
            // SET CD SPEED: it has one.
            0xbb => self.succeed(),
            0xbd => self.mechanism_status(packet),
            _ => self.refuse(INVALID_COMMAND),
        }
    }

    /// A packet command is done.
    pub(super) fn succeed(&mut self) {
        self.drive.sense = [0; 3];
        self.finish();
    }

    /// An answer of at most `allocated` bytes.
    pub(super) fn reply(&mut self, answer: &[u8], allocated: u32) {
        let bytes = self.answer(answer).min(allocated);
        self.send(Stretch { source: Source::Answer, offset: 0, bytes });
    }

    /// Data of a packet command, by the way that the host chose.
    fn send(&mut self, stretch: Stretch) {
        if stretch.bytes == 0 {
            return self.succeed();
        }
        self.drive.sense = [0; 3];
        // Blocks are even but for the last one. An odd limit is lawful where one block is all (8.23.4).
        let limit = if stretch.bytes <= self.drive.limit { self.drive.limit } else { self.drive.limit & !1 };
        match (self.drive.features[0] & DMA != 0, limit) {
            (true, _) => self.begin_dma(stretch, Phase::DmaIn),
            (false, 0) => self.refuse_limit(),
            (false, limit) => self.begin_in(stretch, limit),
        }
    }

    fn read_frames(&mut self, first: u32, count: u32) {
        if let Some(stretch) = self.frames(first, count) {
            self.send(stretch);
        }
    }

    /// `count` frames from `first` on; nothing if the command failed.
    fn frames(&mut self, first: u32, count: u32) -> Option<Stretch> {
        if !self.is_ready() {
            return None;
        }
        let end = u64::from(first) + u64::from(count);
        if end > self.unit.blocks() || u64::from(first) == self.unit.blocks() {
            self.refuse(OUT_OF_RANGE);
            return None;
        }
        let Ok(bytes) = u32::try_from(u64::from(count) * FRAME) else {
            self.refuse(INVALID_FIELD);
            return None;
        };
        Some(Stretch { source: Source::Medium, offset: u64::from(first) * FRAME, bytes })
    }

    /// READ CD (MMC-5): the user data of frames; there are neither headers nor corrections on an image.
    fn read_cd(&mut self, packet: &Packet) {
        const ANY: u8 = 0;
        const MODE_1: u8 = 2;
        const NOTHING: u8 = 0x00;
        const USER_DATA: u8 = 0x10;
        let (first, count) = (long(packet, 2), long(packet, 5) & 0x00ff_ffff);
        let kind = packet[1] >> 2 & 0x07;
        match (kind, packet[9] & 0xf8, packet[10] & 0x07) {
            (ANY | MODE_1, NOTHING, 0) => self.read_frames(first, 0),
            (ANY | MODE_1, USER_DATA, 0) => self.read_frames(first, count),
            (ANY | MODE_1, ..) => self.refuse(INVALID_FIELD),
            _ => drop(self.is_ready().then(|| self.refuse(ILLEGAL_MODE))),
        }
    }

    /// START STOP UNIT (MMC-5): moves the tray. A motor there is not.
    fn start_stop(&mut self, packet: &Packet) {
        const START: u8 = 0x01;
        const LOAD_EJECT: u8 = 0x02;
        match packet[4] & (LOAD_EJECT | START) {
            _ if packet[4] >> 4 != 0 => {}
            LOAD_EJECT if self.drive.locked == 1 => return self.refuse(REMOVAL_PREVENTED),
            LOAD_EJECT => self.move_tray(true),
            0x03 => self.move_tray(false),
            START if !self.is_ready() => return,
            _ => {}
        }
        self.succeed();
    }
}
