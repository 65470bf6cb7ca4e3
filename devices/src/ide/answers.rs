//! Packet commands that only tell something (MMC-5 and SPC-3, of these names).

use super::packet::{Packet, word};
use super::sense::{INVALID_FIELD, NOT_SAVED};
use super::unit::FRAME;
use super::work::Work;

/// Frames before the first that has an address, as MSF counts them: two seconds.
const PREGAP: u64 = 150;
/// Frames of a second.
const FRAMES_PER_SECOND: u64 = 75;
/// More than a CD of 90 minutes has: the medium is a DVD.
const CD_FRAMES_MAX: u64 = 90 * 60 * FRAMES_PER_SECOND;
/// Profiles (MMC-5, 5.4).
const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;
/// Track number of the lead-out.
const LEAD_OUT: u8 = 0xaa;
/// ADR 1 (position), control 4 (data).
const DATA_TRACK: u8 = 0x14;
/// Kilobytes a second: 48 times the speed of sound.
const SPEED: u16 = 8467;

/// An answer under construction, on the stack: a device has no heap.
#[derive(Default)]
struct Answer {
    bytes: Room,
    length: usize,
}

/// The longest answers are the mode pages together and the list of features.
struct Room([u8; 128]);

impl Default for Room {
    fn default() -> Room {
        Room([0; 128])
    }
}

impl Answer {
    fn push(&mut self, bytes: &[u8]) -> &mut Answer {
        for byte in bytes {
            if let Some(place) = self.bytes.0.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    /// Its bytes, the first of which are told how many follow them.
    fn counted<const N: usize>(&mut self, count: impl Fn(usize) -> [u8; N]) -> &[u8] {
        let following = self.length.saturating_sub(N);
        self.bytes.0[..N].copy_from_slice(&count(following));
        &self.bytes.0[..self.length]
    }
}

fn count_16(following: usize) -> [u8; 2] {
    (following as u16).to_be_bytes()
}

/// Where a frame is: its number, or minute, second and frame.
fn place(frame: u64, in_time: bool) -> [u8; 4] {
    if !in_time {
        return (frame as u32).to_be_bytes();
    }
    let frame = frame + PREGAP;
    // A DVD has more minutes than the field can say.
    let minute = (frame / (60 * FRAMES_PER_SECOND)).min(255) as u8;
    [0, minute, (frame / FRAMES_PER_SECOND % 60) as u8, (frame % FRAMES_PER_SECOND) as u8]
}

impl Work<'_> {
    pub(super) fn request_sense(&mut self, packet: &Packet) {
        let kept = std::mem::take(&mut self.drive.sense);
        let sense = if kept[0] != 0 { kept } else { self.take_attention().unwrap_or_default() };
        let mut answer = [0; 18];
        (answer[0], answer[2], answer[7], answer[12], answer[13]) = (0x70, sense[0], 10, sense[1], sense[2]);
        self.reply(&answer, packet[4].into());
    }

    pub(super) fn inquiry(&mut self, packet: &Packet) {
        if packet[1] & 1 != 0 || packet[2] != 0 {
            return self.refuse(INVALID_FIELD);
        }
        let mut answer = Answer::default();
        // A CD-ROM, removable; ATAPI 2, the fixed format; 31 bytes follow.
        answer.push(&[0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0]);
        answer.push(b"COFFERDM").push(b"CD-ROM          ").push(b"1.0 ");
        self.reply(&answer.bytes.0[..answer.length], word(packet, 3));
    }

    pub(super) fn read_capacity(&mut self) {
        if !self.is_ready() {
            return;
        }
        let last = self.unit.blocks().saturating_sub(1) as u32;
        let mut answer = Answer::default();
        answer.push(&last.to_be_bytes()).push(&(FRAME as u32).to_be_bytes());
        self.reply(&answer.bytes.0[..answer.length], u32::MAX);
    }

    pub(super) fn read_toc(&mut self, packet: &Packet) {
        if !self.is_ready() {
            return;
        }
        let in_time = packet[1] & 0x02 != 0;
        // Where the format was before MMC-1 (SFF 8020i, READ TOC).
        let format = if packet[2] & 0x0f != 0 { packet[2] & 0x0f } else { packet[9] >> 6 };
        let track = packet[6];
        let end = self.unit.blocks();
        let mut answer = Answer::default();
        // First and last track, or session.
        answer.push(&[0, 0, 1, 1]);
        match format {
            0 if track <= 1 || track == LEAD_OUT => {
                if track <= 1 {
                    answer.push(&[0, DATA_TRACK, 1, 0]).push(&place(0, in_time));
                }
                answer.push(&[0, DATA_TRACK, LEAD_OUT, 0]).push(&place(end, in_time));
            }
            1 => drop(answer.push(&[0, DATA_TRACK, 1, 0]).push(&place(0, in_time))),
            2 => {
                for (point, position) in
                    [(0xa0, [0, 1, 0, 0]), (0xa1, [0, 1, 0, 0]), (0xa2, place(end, true)), (0x01, place(0, true))]
                {
                    answer.push(&[1, DATA_TRACK, 0, point, 0, 0, 0]).push(&position);
                }
            }
            _ => return self.refuse(INVALID_FIELD),
        }
        self.reply(answer.counted(count_16), word(packet, 7));
    }

    /// READ SUB-CHANNEL: that no sound plays.
    pub(super) fn read_subchannel(&mut self, packet: &Packet) {
        const NO_AUDIO: u8 = 0x15;
        const SUB_Q: u8 = 0x40;
        if !self.is_ready() {
            return;
        }
        if packet[2] & SUB_Q != 0 {
            return self.refuse(INVALID_FIELD);
        }
        self.reply(&[0, NO_AUDIO, 0, 0], word(packet, 7));
    }

    pub(super) fn read_disc_information(&mut self, packet: &Packet) {
        if !self.is_ready() {
            return;
        }
        if packet[1] & 0x07 != 0 {
            return self.refuse(INVALID_FIELD);
        }
        let mut answer = [0; 34];
        // Complete, and its last session too; one track, one session; usable without restrictions; no more can be added.
        (answer[1], answer[2], answer[3], answer[4], answer[5], answer[6], answer[7]) = (32, 0x0e, 1, 1, 1, 1, 0x20);
        answer[17..20].fill(0xff);
        answer[21..24].fill(0xff);
        self.reply(&answer, word(packet, 7));
    }

    pub(super) fn mechanism_status(&mut self, packet: &Packet) {
        const DOOR_OPEN: u8 = 0x10;
        let door = if self.drive.open == 1 { DOOR_OPEN } else { 0 };
        self.reply(&[0, door, 0, 0, 0, 0, 0, 0], word(packet, 8));
    }

    pub(super) fn get_event_status(&mut self, packet: &Packet) {
        const POLLED: u8 = 0x01;
        const MEDIA: u8 = 4;
        const NO_EVENT: u8 = 0x80;
        if packet[1] & POLLED == 0 {
            return self.refuse(INVALID_FIELD);
        }
        let allocated = word(packet, 7);
        if packet[4] & 1 << MEDIA == 0 {
            return self.reply(&[0, 2, NO_EVENT, 1 << MEDIA], allocated);
        }
        let present = u8::from(self.has_medium()) << 1;
        let answer = [0, 6, MEDIA, 1 << MEDIA, self.drive.event, present | self.drive.open, 0, 0];
        // One that did not leave the drive is told again.
        if allocated > 4 {
            self.drive.event = 0;
        }
        self.reply(&answer, allocated);
    }

    fn profile(&self) -> u16 {
        match self.unit.blocks() {
            _ if !self.has_medium() => 0,
            0..=CD_FRAMES_MAX => CD_ROM,
            _ => DVD_ROM,
        }
    }

    /// GET CONFIGURATION (MMC-5, 6.6): features in ascending order.
    pub(super) fn get_configuration(&mut self, packet: &Packet) {
        const CURRENT: u8 = 1;
        let profile = self.profile();
        let current = |is: bool| u8::from(is);
        let [dvd, cd] = [current(profile == DVD_ROM), current(profile == CD_ROM)];
        let readable = current(profile != 0);
        // Additional length 4 of each profile; version in bits 2 to 5; persistent is bit 1.
        let features: [(u16, u8, &[u8]); 6] = [
            (0x0000, 0x02 | CURRENT, &[0x00, 0x10, dvd, 0, 0x00, 0x08, cd, 0]),
            // The core: of an ATAPI device.
            (0x0001, 0x0a | CURRENT, &[0, 0, 0, 2, 0, 0, 0, 0]),
            // Removable: a tray that ejects and can be locked.
            (0x0003, 0x02 | CURRENT, &[0x29, 0, 0, 0]),
            (0x0010, readable, &[0, 0, 8, 0, 0, 1, 0, 0]),
            (0x001e, 0x08 | cd, &[0, 0, 0, 0]),
            (0x001f, dvd, &[]),
        ];
        let (which, first) = (packet[1] & 0x03, word(packet, 2) as u16);
        if which == 3 {
            return self.refuse(INVALID_FIELD);
        }
        let mut answer = Answer::default();
        answer.push(&[0, 0, 0, 0, 0, 0]).push(&profile.to_be_bytes());
        for (code, flags, data) in features {
            let asked = match which {
                0 => code >= first,
                1 => code >= first && flags & CURRENT != 0,
                _ => code == first,
            };
            if asked {
                answer.push(&code.to_be_bytes()).push(&[flags, data.len() as u8]).push(data);
            }
        }
        self.reply(answer.counted(|following| (following as u32).to_be_bytes()), word(packet, 7));
    }

    /// MODE SENSE (SPC-3, MODE SENSE (6) and (10)).
    pub(super) fn mode_sense(&mut self, packet: &Packet, long: bool) {
        const CHANGEABLE: u8 = 1;
        const SAVED: u8 = 3;
        const RECOVERY: u8 = 0x01;
        const CAPABILITIES: u8 = 0x2a;
        const ALL: u8 = 0x3f;
        let (control, page) = (packet[2] >> 6, packet[2] & 0x3f);
        if control == SAVED {
            return self.refuse(NOT_SAVED);
        }
        // Nothing can be changed: there is no MODE SELECT.
        let shown = if control == CHANGEABLE { 0x00 } else { 0xff };
        let mut answer = Answer::default();
        let kind = self.medium_type();
        if long {
            answer.push(&[0, 0, kind, 0, 0, 0, 0, 0])
        } else {
            answer.push(&[0, kind, 0, 0])
        };
        let header = answer.length;
        let mut add = |code: u8, data: &[u8]| {
            answer.push(&[code, data.len() as u8]);
            for byte in data {
                answer.push(&[byte & shown]);
            }
        };
        if matches!(page, RECOVERY | ALL) {
            add(RECOVERY, &[0, 5, 0, 0, 0, 0]);
        }
        if matches!(page, CAPABILITIES | ALL) {
            let [fast, slow] = SPEED.to_be_bytes();
            let locked = self.drive.locked << 1;
            // Reads DVD-ROM; no sound; both forms of mode 2; a tray that ejects and can be locked; speed and buffer.
            let data = [0x08, 0, 0x30, 0, 0x29 | locked, 0, fast, slow, 0, 0, 0, 128, fast, slow, 0, 0, 0, 0];
            add(CAPABILITIES, &data);
        }
        if answer.length == header {
            return self.refuse(INVALID_FIELD);
        }
        if long {
            self.reply(answer.counted(count_16), word(packet, 7));
        } else {
            self.reply(answer.counted(|following| [following as u8]), packet[4].into());
        }
    }

    /// What is in the drive (SFF 8020i, medium type codes).
    fn medium_type(&self) -> u8 {
        match (self.has_medium(), self.drive.open) {
            (true, _) => 0x01,
            (false, 0) => 0x70,
            (false, _) => 0x71,
        }
    }
}
