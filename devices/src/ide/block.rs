//! How data move between a drive and the host: blocks through the data register, or a stretch that the bus master moves.

use super::state::{ABORTED, BUSY, ERROR, FAULT, PACKET_BYTES, Phase, READY, REQUEST, SEEK, Source, UNCORRECTABLE};
use super::unit::Kind;
use super::work::Work;
use vm_memory::VolatileSlice;

/// Interrupt reason of a packet device, in its sector count register (ATA/ATAPI-6, 8.23.5): a command rather than data, and data to the host.
pub(super) const COMMAND: u8 = 0x01;
pub(super) const TO_HOST: u8 = 0x02;

/// Data of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub source: Source,
    pub offset: u64,
    pub bytes: u32,
}

impl Work<'_> {
    /// What the status register of an idle drive says.
    pub(super) fn ready(&self) -> u8 {
        match self.unit.kind {
            Kind::Disk => READY | SEEK,
            Kind::Cdrom => READY,
        }
    }

    /// The command is done.
    pub(super) fn finish(&mut self) {
        self.end(0, 0);
    }

    /// The command failed for reasons that the error register tells.
    pub(super) fn fail(&mut self, error: u8) {
        self.end(ERROR, error);
    }

    /// What was written did not reach the medium.
    pub(super) fn fault(&mut self) {
        self.end(ERROR | FAULT, ABORTED);
    }

    fn end(&mut self, status: u8, error: u8) {
        let ready = self.ready();
        let drive = &mut *self.drive;
        drive.phase = Phase::Idle as u8;
        drive.status = ready | status;
        drive.error = error;
        drive.interrupt = 1;
        if drive.packet == 1 {
            drive.count[0] = COMMAND | TO_HOST;
        }
    }

    /// What was written is to be made safe; then the command is done. The look at queues does it, since it may take long.
    pub(super) fn flush_later(&mut self) {
        self.drive.phase = Phase::Flush as u8;
        self.drive.status = self.ready() | BUSY;
    }

    /// The look at queues: makes safe what was written.
    pub(super) fn flush(&mut self) {
        match self.unit.flush() {
            Ok(()) => self.finish(),
            Err(_) => self.fault(),
        }
    }

    /// The host is to read `stretch` in blocks of at most `limit` bytes.
    pub(super) fn begin_in(&mut self, stretch: Stretch, limit: u32) {
        self.begin(stretch, Phase::In);
        self.drive.limit = limit;
        self.fill();
    }

    /// The host is to write `stretch`, which is on the medium, in blocks of at most `limit` bytes.
    pub(super) fn begin_out(&mut self, stretch: Stretch, limit: u32) {
        self.begin(stretch, Phase::Out);
        self.drive.limit = limit;
        self.expect();
    }

    /// The bus master is to move `stretch`.
    pub(super) fn begin_dma(&mut self, stretch: Stretch, phase: Phase) {
        self.begin(stretch, phase);
        self.drive.status = self.ready() | REQUEST;
    }

    /// The host is to write a command packet.
    pub(super) fn begin_packet(&mut self) {
        self.begin(Stretch { source: Source::Answer, offset: 0, bytes: 0 }, Phase::Packet);
        self.drive.end = PACKET_BYTES;
        self.drive.status = self.ready() | REQUEST;
        self.drive.count[0] = COMMAND;
    }

    fn begin(&mut self, stretch: Stretch, phase: Phase) {
        let drive = &mut *self.drive;
        (drive.source, drive.offset, drive.left) = (stretch.source as u8, stretch.offset, stretch.bytes);
        (drive.at, drive.end) = (0, 0);
        drive.phase = phase as u8;
    }

    /// Makes up an answer in the half of the buffer that is free. What does not fit is not there.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> u32 {
        let half = self.drive.half ^ 1;
        if let Some(slice) = self.buffer.half(half, 0, bytes.len()) {
            slice.copy_from(bytes);
        }
        self.drive.half = half;
        bytes.len() as u32
    }

    /// The next block is ready to be read.
    fn fill(&mut self) {
        let block = self.drive.limit.min(self.drive.left);
        match self.drive.source() {
            // The block lies where the answer was put, all of which was made before the first commit.
            Source::Answer => {
                self.drive.at = self.drive.offset as u32;
                self.drive.end = self.drive.at + block;
            }
            Source::Medium => {
                let half = self.drive.half ^ 1;
                let slice = self.buffer.half(half, 0, block as usize);
                let offset = self.drive.offset;
                if slice.is_none_or(|slice| self.unit.read(offset, &[slice]).is_err()) {
                    return self.unreadable();
                }
                self.drive.half = half;
                (self.drive.at, self.drive.end) = (0, block);
            }
        }
        self.drive.offset += u64::from(block);
        self.drive.left -= block;
        self.drive.status = self.ready() | REQUEST;
        self.drive.interrupt = 1;
        self.tell_packet_host(block);
    }

    /// The host is to write the next block.
    fn expect(&mut self) {
        let block = self.drive.limit.min(self.drive.left);
        (self.drive.at, self.drive.end) = (0, block);
        self.drive.left -= block;
        self.drive.status = self.ready() | REQUEST;
    }

    /// A packet device says with each block how long it is (8.23.5.2).
    fn tell_packet_host(&mut self, block: u32) {
        if self.drive.packet == 1 {
            self.drive.count[0] = TO_HOST;
            [self.drive.mid[0], self.drive.high[0], ..] = block.to_le_bytes();
        }
    }

    /// A load of so many words from the data register. Nobody drives it when there are no data; the last byte of a block of odd length
    /// comes with a byte of padding. No load goes beyond its block: the next one lies where the committed state has this one.
    pub(super) fn load(&mut self, words: u32) -> u64 {
        if self.drive.phase() != Phase::In {
            return 0;
        }
        let mut loaded = [0; 8];
        let bytes = (self.drive.end.saturating_sub(self.drive.at)).min(2 * words) as usize;
        self.take(&mut loaded[..bytes.min(8)]);
        u64::from_le_bytes(loaded)
    }

    /// Loads of elements of `width` bytes from the data register, as many as the block has whole ones.
    pub(super) fn load_string(&mut self, width: usize, into: &mut [u8]) -> usize {
        if self.drive.phase() != Phase::In {
            return 0;
        }
        let bytes = (self.drive.end.saturating_sub(self.drive.at) as usize).min(into.len()) / width * width;
        if bytes > 0 {
            self.take(&mut into[..bytes]);
        }
        bytes
    }

    /// Takes the next bytes of the block, which has as many.
    fn take(&mut self, into: &mut [u8]) {
        let bytes = into.len();
        if let Some(slice) = self.buffer.half(self.drive.half, self.drive.at as usize, bytes) {
            slice.copy_to(into);
        }
        self.drive.at += bytes as u32;
        if self.drive.at >= self.drive.end {
            match (self.drive.left, self.drive.packet) {
                (1.., _) => self.fill(),
                // The last block has no interrupt behind it (9.5), unless it is a packet command's (9.8).
                (0, 1) => self.finish(),
                (0, _) => {
                    self.drive.phase = Phase::Idle as u8;
                    self.drive.status = self.ready();
                }
            }
        }
    }

    /// A store to the data register.
    pub(super) fn store(&mut self, word: u16) {
        let (at, buffer) = (self.drive.at as usize, self.buffer);
        let bytes = (self.drive.end.saturating_sub(self.drive.at) as usize).min(2);
        let place = match self.drive.phase() {
            Phase::Out => buffer.half(self.drive.half, at, bytes),
            Phase::Packet => buffer.packet().and_then(|packet| packet.subslice(at, bytes).ok()),
            _ => None,
        };
        let Some(slice) = place else { return };
        slice.copy_from(&word.to_le_bytes()[..bytes]);
        self.drive.at += bytes as u32;
        if self.drive.at < self.drive.end {
            return;
        }
        if self.drive.phase() == Phase::Packet {
            let mut packet = [0; PACKET_BYTES as usize];
            if let Some(slice) = self.buffer.packet() {
                slice.copy_to(&mut packet);
            }
            return self.packet(&packet);
        }
        let block = self.drive.end;
        let written = self.buffer.half(self.drive.half, 0, block as usize);
        let offset = self.drive.offset;
        if written.is_none_or(|slice| self.unit.write(offset, &[slice]).is_err()) {
            return self.fault();
        }
        self.drive.offset += u64::from(block);
        if self.drive.left > 0 {
            self.expect();
            self.drive.interrupt = 1;
        } else {
            self.written();
        }
    }

    /// All that a command writes is written.
    fn written(&mut self) {
        if self.drive.uncached == 1 { self.flush_later() } else { self.finish() }
    }

    /// Moves `slices` of guest memory, together `bytes` bytes. False: it failed, and the drive has said so.
    pub(super) fn move_dma(&mut self, slices: &[VolatileSlice<'_>], bytes: u32) -> bool {
        let moved = match (self.drive.phase(), self.drive.source()) {
            (Phase::DmaOut, Source::Medium) => self.unit.write(self.drive.offset, slices).is_ok(),
            (_, Source::Medium) => self.unit.read(self.drive.offset, slices).is_ok(),
            (_, Source::Answer) => {
                let mut at = self.drive.offset as usize;
                let is_out = self.drive.phase() == Phase::DmaOut;
                slices.iter().all(|slice| {
                    let own = self.buffer.half(self.drive.half, at, slice.len());
                    at += slice.len();
                    match own {
                        Some(own) if is_out => slice.copy_to_volatile_slice(own),
                        Some(own) => own.copy_to_volatile_slice(*slice),
                        None => return false,
                    }
                    true
                })
            }
        };
        if !moved {
            if self.drive.phase() == Phase::DmaOut {
                self.fault()
            } else {
                self.unreadable()
            }
            return false;
        }
        self.drive.offset += u64::from(bytes);
        self.drive.left = self.drive.left.saturating_sub(bytes);
        if self.drive.left == 0 {
            match (self.drive.phase(), self.drive.source()) {
                (Phase::DmaOut, Source::Medium) => self.written(),
                (Phase::DmaOut, Source::Answer) => self.trim(),
                _ => self.finish(),
            }
        }
        true
    }

    /// The medium cannot be read.
    fn unreadable(&mut self) {
        match self.unit.kind {
            Kind::Disk => self.fail(UNCORRECTABLE),
            Kind::Cdrom => self.refuse(super::sense::UNREADABLE),
        }
    }
}
