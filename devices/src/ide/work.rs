//! A drive at work, and which state it could have left.

use super::state::{BLOCK_MAX, BUSY, Drive, MEDIUM_REMOVED, MULTIPLE_MAX, PACKET_BYTES, Phase, REQUEST, Source};
use super::unit::{Buffer, HALF, Kind, Unit};

/// One drive at work: what it remembers and what is behind it.
pub(super) struct Work<'a> {
    pub drive: &'a mut Drive,
    pub unit: &'a mut Unit,
    pub buffer: Buffer<'a>,
}

impl Work<'_> {
    /// Whether state found for this drive is one that it could have left.
    pub(super) fn is_possible(drive: &Drive, unit: Option<&Unit>) -> bool {
        let Some(phase) = Phase::of(drive.phase) else { return false };
        let flags =
            [drive.interrupt, drive.standby, drive.uncached, drive.half, drive.open, drive.locked, drive.packet];
        let sound = flags.iter().all(|flag| *flag <= 1)
            && drive.source <= Source::Answer as u8
            && drive.unused == [0; 6]
            && drive.event <= MEDIUM_REMOVED
            && (drive.multiple == 0 || drive.multiple.is_power_of_two() && drive.multiple <= MULTIPLE_MAX)
            && drive.heads <= 16;
        let Some(unit) = unit else { return sound && phase == Phase::Idle && drive.interrupt == 0 };
        // The host moves data exactly while it is told so.
        let moving = !matches!(phase, Phase::Idle | Phase::Flush);
        let told = (drive.status & REQUEST != 0) == moving && (drive.status & BUSY != 0) == (phase == Phase::Flush);
        let room = drive.at <= drive.end && drive.end <= BLOCK_MAX && drive.limit <= BLOCK_MAX;
        let whole = match drive.source() {
            Source::Answer => HALF as u64,
            Source::Medium => unit.store.as_ref().map_or(0, |store| store.bytes()),
        };
        let left = drive.offset.checked_add(u64::from(drive.left)).is_some_and(|end| end <= whole);
        let writes = matches!(phase, Phase::Out | Phase::DmaOut);
        let kind = match phase {
            Phase::Packet => unit.kind == Kind::Cdrom && drive.end == PACKET_BYTES && drive.at < drive.end,
            Phase::In => drive.at < drive.end && drive.limit > 0,
            Phase::Out => {
                let block = drive.offset.checked_add(u64::from(drive.end) + u64::from(drive.left));
                drive.at < drive.end && drive.limit > 0 && block.is_some_and(|end| end <= whole)
            }
            Phase::Idle | Phase::DmaIn | Phase::DmaOut | Phase::Flush => true,
        };
        sound
            && told
            && room
            && kind
            && (left || !moving || phase == Phase::Packet)
            && (!writes || (drive.source() == Source::Medium || phase == Phase::DmaOut) && !unit.readonly)
    }
}
