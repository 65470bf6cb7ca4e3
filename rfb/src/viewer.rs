//! One viewer's conversation: who it is, what it does, and what it has been shown.

use crate::door::{CHALLENGE_BYTES, Door};
use crate::format::{FORMAT_BYTES, Format};
use crate::hands::{self, Hands};
use crate::keysym;
use crate::picture::{ACROSS, Picture, TILE, TILES};
use std::time::Duration;

/// Bytes that wait for a viewer to take them: two tiles and more, so that the connection is busy while the next one is written.
/// Who takes nothing is written nothing.
pub const OUTPUT_BYTES: usize = 64 << 10;
/// Bytes of a tile in a message.
const TILE_BYTES: usize = 12 + TILE * TILE * 4;
/// What the server speaks, and viewers answer (7.1.1).
const VERSION: &[u8; VERSION_BYTES] = b"RFB 003.008\n";
const VERSION_BYTES: usize = 12;
/// VNC Authentication (7.2.2).
const SECURITY: u8 = 2;
/// How pixels come: as they are.
const RAW: i32 = 0;
/// What a viewer says that can be told another size (7.8.2).
const DESKTOP_SIZE: i32 = -223;
/// The longest of the messages that are looked at as a whole.
const MESSAGE_MAX: usize = 20;
/// What a viewer has in its window's title.
const NAME: &str = "Cofferdam";
/// Longest text of a clipboard that is let pass: nobody here wants it, and who goes on for ever is not listened to.
const TEXT_MAX: u32 = 1 << 20;

/// Why a conversation ends that the viewer did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It speaks something else.
    #[error("it does not speak the protocol")]
    Version,
    /// It wants to be let in without the password.
    #[error("it chose a kind of security that it was not offered")]
    Security,
    /// It does not know the password, or may not try.
    #[error("it does not know the password")]
    Refused,
    /// Its pixels are none.
    #[error("it asked for pixels that cannot be had")]
    Format,
    /// A message that there is not.
    #[error("it sent a message of kind {0}, which there is not")]
    Message(u8),
    /// More of a clipboard than anybody has.
    #[error("it sent a clipboard of {0} bytes")]
    Text(u32),
}

/// How far a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It says which protocol it speaks.
    Version,
    /// It chooses how to be let in.
    Security,
    /// It answers the challenge.
    Answer,
    /// It says whether others may look too. They may.
    Start,
    /// It waits for the first picture, whose size it is told.
    Waits,
    /// It is shown the screen.
    Shown,
}

/// A part of the screen, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Part {
    fn has(&self, tile: usize) -> bool {
        let (x, y) = corner(tile);
        x < self.right && x + TILE > self.left && y < self.bottom && y + TILE > self.top
    }
}

/// A viewer.
pub struct Viewer {
    stage: Stage,
    /// The last number of its version: 3, 7 or 8.
    version: u8,
    challenge: [u8; CHALLENGE_BYTES],
    /// The beginning of a message.
    message: [u8; MESSAGE_MAX],
    filled: usize,
    /// Bytes of its clipboard that are still to come.
    clipboard: u32,
    /// Encodings of its list that are still to come.
    encodings: u16,
    format: Format,
    /// Of the update that is being written: a viewer that asks for other pixels meanwhile has them with the next one.
    written: Format,
    knows_size: bool,
    /// The size that it was told.
    width: u16,
    height: u16,
    /// What it has asked to be shown.
    asked: Option<Part>,
    /// By tile: the look after which it was shown it.
    shown: Vec<u64>,
    /// Tiles of an update that are still to be written, the next one last.
    update: Vec<u16>,
    output: Vec<u8>,
    /// Its keys that are down, a bit each.
    down: [u64; 4],
    buttons: u8,
    /// Where its pointer is.
    at: Option<(u16, u16)>,
}

impl Viewer {
    /// A place for one, which is nobody yet. All memory that it will need is there: a sealed process gets no more.
    #[must_use]
    pub fn new() -> Viewer {
        Viewer {
            shown: vec![0; TILES],
            update: Vec::with_capacity(TILES),
            output: Vec::with_capacity(OUTPUT_BYTES),
            ..Viewer::empty()
        }
    }

    /// Nobody, without memory.
    fn empty() -> Viewer {
        Viewer {
            stage: Stage::Version,
            version: 0,
            challenge: [0; CHALLENGE_BYTES],
            message: [0; MESSAGE_MAX],
            filled: 0,
            clipboard: 0,
            encodings: 0,
            format: Format::OWN,
            written: Format::OWN,
            knows_size: false,
            width: 0,
            height: 0,
            asked: None,
            shown: Vec::new(),
            update: Vec::new(),
            output: Vec::new(),
            down: [0; 4],
            buttons: 0,
            at: None,
        }
    }

    /// Somebody has just connected, and is to answer this challenge, which nobody can foresee. Nothing of who was here before is
    /// left.
    pub fn greet(&mut self, challenge: [u8; CHALLENGE_BYTES]) {
        let (mut shown, mut update, mut output) =
            (std::mem::take(&mut self.shown), std::mem::take(&mut self.update), std::mem::take(&mut self.output));
        shown.fill(0);
        update.clear();
        output.clear();
        output.extend(VERSION);
        *self = Viewer { challenge, shown, update, output, ..Viewer::empty() };
    }

    /// Whether it knew the password.
    #[must_use]
    pub fn is_in(&self) -> bool {
        matches!(self.stage, Stage::Start | Stage::Waits | Stage::Shown)
    }

    /// Whether it waits for something to see.
    #[must_use]
    pub fn wants_picture(&self) -> bool {
        self.stage == Stage::Waits || (self.stage == Stage::Shown && self.asked.is_some())
    }

    /// Whether an update for it is not whole yet: there is more to be written as soon as it takes what was.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.update.is_empty()
    }

    /// What is to be sent to it.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So much of it was sent.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count);
    }

    /// Takes what it says, in whatever pieces, at `now`. An error ends the conversation, once its output is sent. Nothing that a
    /// viewer says makes more than some words wait for it: pictures are written by [`Viewer::show`] alone.
    pub fn take(&mut self, mut bytes: &[u8], door: &mut Door, hands: &mut Hands, now: Duration) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.clipboard as usize);
            self.clipboard -= skipped as u32;
            bytes = &bytes[skipped..];
            let wanted = self.length()? - self.filled;
            let count = wanted.min(bytes.len());
            self.message[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            (self.filled, bytes) = (self.filled + count, &bytes[count..]);
            // The first byte says how long the message is.
            if self.filled > 0 && self.filled == self.length()? {
                self.filled = 0;
                self.heard(door, hands, now)?;
            }
        }
        Ok(())
    }

    /// How long the message is that comes now, as far as that is known.
    fn length(&self) -> Result<usize, Ended> {
        Ok(match self.stage {
            Stage::Version => VERSION_BYTES,
            Stage::Security | Stage::Start => 1,
            Stage::Answer => CHALLENGE_BYTES,
            Stage::Waits | Stage::Shown if self.encodings > 0 => 4,
            Stage::Waits | Stage::Shown if self.filled == 0 => 1,
            // 7.5: formats, encodings, a picture, a key, the pointer, a clipboard.
            Stage::Waits | Stage::Shown => match self.message[0] {
                0 => 20,
                2 => 4,
                3 => 10,
                4 => 8,
                5 => 6,
                6 => 8,
                kind => return Err(Ended::Message(kind)),
            },
        })
    }

    /// A message is whole.
    fn heard(&mut self, door: &mut Door, hands: &mut Hands, now: Duration) -> Result<(), Ended> {
        match self.stage {
            Stage::Version => self.greeted(door, now),
            Stage::Security if self.message[0] == SECURITY => {
                self.challenge();
                Ok(())
            }
            Stage::Security => Err(Ended::Security),
            Stage::Answer => self.answered(door, now),
            Stage::Start => {
                self.stage = Stage::Waits;
                Ok(())
            }
            Stage::Waits | Stage::Shown => self.told(hands),
        }
    }

    fn greeted(&mut self, door: &Door, now: Duration) -> Result<(), Ended> {
        let [b'R', b'F', b'B', b' ', b'0', b'0', b'3', b'.', minor @ .., b'\n'] = &self.message[..VERSION_BYTES] else {
            return Err(Ended::Version);
        };
        let minor =
            std::str::from_utf8(minor).ok().and_then(|minor| minor.parse::<u16>().ok()).ok_or(Ended::Version)?;
        // What is none of the three versions is one of the others' (7.1.1).
        self.version = match minor {
            0..7 => 3,
            7 => 7,
            8.. => 8,
        };
        if !door.is_open(now) {
            if self.version == 3 {
                self.output.extend(0u32.to_be_bytes());
            } else {
                self.output.push(0);
            }
            self.text("too many wrong passwords; try again in a minute");
            return Err(Ended::Refused);
        }
        if self.version == 3 {
            self.output.extend(u32::from(SECURITY).to_be_bytes());
            self.challenge();
        } else {
            self.output.extend([1, SECURITY]);
            self.stage = Stage::Security;
        }
        Ok(())
    }

    fn challenge(&mut self) {
        self.output.extend(self.challenge);
        self.stage = Stage::Answer;
    }

    fn answered(&mut self, door: &mut Door, now: Duration) -> Result<(), Ended> {
        let mut answer = [0; CHALLENGE_BYTES];
        answer.copy_from_slice(&self.message[..CHALLENGE_BYTES]);
        let admitted = door.admits(&self.challenge, &answer, now);
        self.output.extend(u32::from(!admitted).to_be_bytes());
        if admitted {
            self.stage = Stage::Start;
            return Ok(());
        }
        if self.version == 8 {
            self.text("wrong password");
        }
        Err(Ended::Refused)
    }

    fn text(&mut self, sentence: &str) {
        self.output.extend((sentence.len() as u32).to_be_bytes());
        self.output.extend(sentence.as_bytes());
    }

    fn told(&mut self, hands: &mut Hands) -> Result<(), Ended> {
        if self.encodings > 0 {
            self.encodings -= 1;
            self.knows_size |= self.word(0) as i32 == DESKTOP_SIZE;
            return Ok(());
        }
        match self.message[0] {
            0 => {
                let mut format = [0; FORMAT_BYTES];
                format.copy_from_slice(&self.message[4..]);
                self.format = Format::parse(&format)?;
                // What it has is in other pixels.
                self.shown.fill(0);
            }
            2 => {
                self.encodings = self.half(2);
                self.knows_size = false;
            }
            3 => self.asks(),
            4 => {
                if let Some(key) = keysym::key(self.word(4)) {
                    self.key(key, self.message[1] != 0, hands);
                }
            }
            5 => self.points(hands),
            _ => {
                self.clipboard = self.word(4);
                if self.clipboard > TEXT_MAX {
                    return Err(Ended::Text(self.clipboard));
                }
            }
        }
        Ok(())
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.message[at], self.message[at + 1]])
    }

    fn word(&self, at: usize) -> u32 {
        u32::from(self.half(at)) << 16 | u32::from(self.half(at + 2))
    }

    /// 7.5.3: it wants to be shown a part of the screen, or what changes there.
    fn asks(&mut self) {
        let [left, top, width, height] = [2, 4, 6, 8].map(|at| usize::from(self.half(at)));
        let part = Part { left, top, right: left + width, bottom: top + height };
        if self.message[1] == 0 {
            (0..TILES).filter(|tile| part.has(*tile)).for_each(|tile| self.shown[tile] = 0);
        }
        self.asked = Some(match self.asked {
            Some(asked) => Part {
                left: asked.left.min(part.left),
                top: asked.top.min(part.top),
                right: asked.right.max(part.right),
                bottom: asked.bottom.max(part.bottom),
            },
            None => part,
        });
    }

    fn key(&mut self, key: u16, pressed: bool, hands: &mut Hands) {
        let Some((word, bit)) = hands::place(key) else { return };
        if pressed {
            self.down[word] |= bit;
            hands.press(key);
        } else if self.down[word] & bit != 0 {
            self.down[word] &= !bit;
            hands.release(key);
        }
    }

    /// 7.5.5: where its pointer is. A mouse says how far it went, so the first time tells nothing.
    fn points(&mut self, hands: &mut Hands) {
        let (mask, x, y) = (self.message[1], self.half(2), self.half(4));
        let (last_x, last_y) = self.at.replace((x, y)).unwrap_or((x, y));
        // The wheel is two buttons that are never held: 4 away from the person, 5 towards.
        let turned = |bit: u8| i8::from(mask & bit != 0 && self.buttons & bit == 0);
        let wheel = turned(1 << 4) - turned(1 << 3);
        self.buttons = mask;
        let buttons = mask & 1 | (mask & 4) >> 1 | (mask & 2) << 1;
        let (dx, dy) = (i32::from(x) - i32::from(last_x), i32::from(y) - i32::from(last_y));
        hands.point(dx, dy, wheel, buttons);
    }

    /// It is gone: what it holds is let go.
    pub fn leave(&mut self, hands: &mut Hands) {
        for key in 0..256 {
            self.key(key, false, hands);
        }
        if std::mem::take(&mut self.buttons) != 0 {
            hands.point(0, 0, 0, 0);
        }
    }

    /// Writes what it has asked for and not been shown, as far as there is room.
    pub fn show(&mut self, picture: &Picture) {
        let Some((width, height)) = picture.size() else { return };
        if self.stage == Stage::Waits {
            (self.width, self.height, self.stage) = (width, height, Stage::Shown);
            self.size(&[]);
            self.output.extend(Format::OWN.to_bytes());
            self.text(NAME);
        }
        if self.update.is_empty() && self.stage == Stage::Shown && self.has_room() {
            self.begin((width, height), picture);
        }
        while self.has_room()
            && let Some(tile) = self.update.pop()
        {
            self.tile(usize::from(tile), picture);
        }
    }

    fn has_room(&self) -> bool {
        self.output.len() + TILE_BYTES <= OUTPUT_BYTES
    }

    /// Appends `before`, then the size.
    fn size(&mut self, before: &[u8]) {
        self.output.extend(before);
        self.output.extend(self.width.to_be_bytes());
        self.output.extend(self.height.to_be_bytes());
    }

    /// Begins an update, if there is anything to show.
    fn begin(&mut self, size: (u16, u16), picture: &Picture) {
        let Some(asked) = self.asked else { return };
        // 7.6.1: kind, padding, rectangles.
        let head = |count: u16| [[0, 0], count.to_be_bytes()].concat();
        if size != (self.width, self.height) && self.knows_size {
            (self.width, self.height) = size;
            // It has another screen from now on, on which is nothing.
            self.shown.fill(0);
            self.output.extend(head(1));
            self.size(&[0; 4]);
            self.output.extend(DESKTOP_SIZE.to_be_bytes());
            self.asked = None;
            return;
        }
        let own = Part { left: 0, top: 0, right: self.width.into(), bottom: self.height.into() };
        let fresh =
            |tile: &usize| own.has(*tile) && asked.has(*tile) && picture.changed_after(*tile, self.shown[*tile]);
        self.update.extend((0..TILES).rev().filter(fresh).map(|tile| tile as u16));
        if !self.update.is_empty() {
            self.written = self.format;
            self.output.extend(head(self.update.len() as u16));
            self.asked = None;
        }
    }

    /// Writes a tile, as far as it lies on its screen, as it is now.
    fn tile(&mut self, tile: usize, picture: &Picture) {
        let (x, y) = corner(tile);
        let width = TILE.min(usize::from(self.width) - x);
        let height = TILE.min(usize::from(self.height) - y);
        for value in [x, y, width, height] {
            self.output.extend((value as u16).to_be_bytes());
        }
        self.output.extend(RAW.to_be_bytes());
        for row in y..y + height {
            self.written.put(picture.row(x, row, width), &mut self.output);
        }
        self.shown[tile] = picture.looks();
    }
}

impl Default for Viewer {
    fn default() -> Viewer {
        Viewer::new()
    }
}

/// Where a tile begins.
fn corner(tile: usize) -> (usize, usize) {
    (tile % ACROSS * TILE, tile / ACROSS * TILE)
}

#[cfg(test)]
mod tests;
