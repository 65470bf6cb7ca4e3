//! Why a packet command failed (sense codes of SPC-3 and MMC-5), and what is to be told of the medium.

use super::state::{ABORTED, ERROR, MEDIUM_REMOVED, NEW_MEDIUM, Phase, Source};
use super::work::Work;

/// Sense key, additional code, qualifier.
pub(super) type Sense = [u8; 3];

const NOT_READY: u8 = 0x02;
const MEDIUM_ERROR: u8 = 0x03;
const ILLEGAL_REQUEST: u8 = 0x05;
const UNIT_ATTENTION: u8 = 0x06;

pub(super) const NO_MEDIUM: Sense = [NOT_READY, 0x3a, 0x01];
pub(super) const NO_MEDIUM_TRAY_OPEN: Sense = [NOT_READY, 0x3a, 0x02];
pub(super) const UNREADABLE: Sense = [MEDIUM_ERROR, 0x11, 0x00];
pub(super) const INVALID_COMMAND: Sense = [ILLEGAL_REQUEST, 0x20, 0x00];
pub(super) const OUT_OF_RANGE: Sense = [ILLEGAL_REQUEST, 0x21, 0x00];
pub(super) const INVALID_FIELD: Sense = [ILLEGAL_REQUEST, 0x24, 0x00];
pub(super) const NOT_SAVED: Sense = [ILLEGAL_REQUEST, 0x39, 0x00];
pub(super) const REMOVAL_PREVENTED: Sense = [ILLEGAL_REQUEST, 0x53, 0x02];
pub(super) const ILLEGAL_MODE: Sense = [ILLEGAL_REQUEST, 0x64, 0x00];

/// Additional code and qualifier of unit attentions.
const WAS_RESET: [u8; 2] = [0x29, 0x00];
const MEDIUM_CHANGED: [u8; 2] = [0x28, 0x00];

impl Work<'_> {
    /// The packet command failed; REQUEST SENSE tells why.
    pub(super) fn refuse(&mut self, sense: Sense) {
        self.fail(sense[0] << 4);
        self.drive.sense = sense;
    }

    /// The packet command asks for data, and leaves no room for them (8.16.46: without a default in word 125 a limit of 0 is aborted).
    pub(super) fn refuse_limit(&mut self) {
        self.fail(ABORTED);
    }

    /// Tells of a unit attention, if one is pending.
    pub(super) fn attend(&mut self) -> bool {
        let pending = self.take_attention();
        if let Some(sense) = pending {
            self.refuse(sense);
        }
        pending.is_some()
    }

    pub(super) fn take_attention(&mut self) -> Option<Sense> {
        let [code, qualifier] = std::mem::take(&mut self.drive.attention);
        (code != 0).then_some([UNIT_ATTENTION, code, qualifier])
    }

    pub(super) fn has_medium(&self) -> bool {
        self.unit.store.is_some() && self.drive.open == 0
    }

    /// Whether there is a medium; else the command failed.
    pub(super) fn is_ready(&mut self) -> bool {
        let ready = self.has_medium();
        if !ready {
            self.refuse(if self.drive.open == 1 { NO_MEDIUM_TRAY_OPEN } else { NO_MEDIUM });
        }
        ready
    }

    /// Opens the tray, or closes it.
    pub(super) fn move_tray(&mut self, open: bool) {
        if open == (self.drive.open == 1) {
            return;
        }
        self.drive.open = u8::from(open);
        if self.unit.store.is_some() {
            self.drive.event = if open { MEDIUM_REMOVED } else { NEW_MEDIUM };
            self.drive.attention = if open { self.drive.attention } else { MEDIUM_CHANGED };
        }
    }

    /// Somebody has taken the medium out, and left the tray open, or has put another one in and closed it (MMC-5, models, media change). What was
    /// under way with the old one ends; what the guest held is gone.
    pub(super) fn exchange(&mut self) {
        let present = self.unit.store.is_some();
        let interrupted = self.drive.phase() != Phase::Idle && self.drive.source() == Source::Medium;
        (self.drive.open, self.drive.locked) = (u8::from(!present), 0);
        self.drive.event = if present { NEW_MEDIUM } else { MEDIUM_REMOVED };
        self.drive.attention = if present { MEDIUM_CHANGED } else { [0; 2] };
        if interrupted {
            let told = self.take_attention().unwrap_or(NO_MEDIUM_TRAY_OPEN);
            self.refuse(told);
        }
    }

    /// DEVICE RESET: at any time, and without an interrupt (8.7).
    pub(super) fn device_reset(&mut self) {
        self.reset();
        self.drive.sense = [0; 3];
        self.drive.attention = WAS_RESET;
        self.drive.locked = 0;
        debug_assert!(self.drive.phase() == Phase::Idle && self.drive.status & ERROR == 0);
    }
}
