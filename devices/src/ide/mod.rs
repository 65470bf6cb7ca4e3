//! The IDE function of a PIIX3: two channels with two drives each, disks and CD-ROM drives.
//!
//! Sources: T13 *AT Attachment with Packet Interface - 6* (ATA/ATAPI-6); T10 *Multi-Media Commands - 5* and *SCSI Primary
//! Commands - 3*; Intel 82371SB (PIIX3) data sheet; *Programming Interface for Bus Master IDE Controller* 1.0.

mod answers;
mod ata;
mod block;
mod channel;
mod identify;
mod master;
mod packet;
mod sense;
mod state;
#[cfg(test)]
mod tests;
mod unit;
mod work;

use crate::declare;
use channel::{Cable, DATA, DEVICE, DEVICE_1, ERROR, STATUS};
use device::manifest::{
    Class, Line, Manifest, OptionKind, OptionSpec, Pci, PciRegister, Power, Range, Register, RegisterKind, SHADOW_MAX,
    Space, Tolerance,
};
use device::{
    Access, Ahead, AttachError, Bulk, Device, GuestMemory, NoRegister, OptionError, Options, Outputs, Powers, Scan,
};
use state::{CHANNELS, DRIVES, State};
use unit::{BUFFER_BYTES, Geometry, Kind, Names, Unit};
use work::Work;
use zerocopy::FromZeros;

pub(crate) const NAME: &str = "piix-ide";

/// Ranges: command and control block of each channel, then the bus master.
const CONTROLS: [u8; CHANNELS] = [1, 3];
const MASTER: u8 = 4;
const MASTER_BYTES: u64 = CHANNELS as u64 * master::BLOCK;

/// The drives, as people call them.
const NAMES: [&str; CHANNELS * DRIVES] = ["primary", "primary-slave", "secondary", "secondary-slave"];

/// More of their options: what they say of themselves.
const SERIAL: &str = "-serial";
const VERSION: &str = "-version";
const MODEL: &str = "-model";
const GEOMETRY: &str = "-geometry";

/// Wish for guest memory; those for media follow.
const MEMORY: u32 = 0;

/// The function.
pub(crate) struct Ide {
    units: [Option<Unit>; CHANNELS * DRIVES],
    memory: GuestMemory,
    bulk: Bulk,
}

/// What is at one of the four places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nothing,
    Disk { readonly: bool },
    Cdrom { medium: bool },
}

impl Place {
    fn of(options: &Options, name: &str) -> Result<Place, OptionError> {
        Ok(match options.text(name).unwrap_or_default() {
            "" | "none" => Place::Nothing,
            "disk" => Place::Disk { readonly: false },
            "readonly" => Place::Disk { readonly: true },
            "cdrom" => Place::Cdrom { medium: true },
            "empty" => Place::Cdrom { medium: false },
            other => {
                let wanted = "`none`, `disk`, `readonly`, `cdrom` or `empty`";
                return Err(OptionError::Value { name: name.into(), value: other.into(), wanted });
            }
        })
    }

    /// The power that its medium is.
    fn power(self) -> Option<Power> {
        match self {
            Place::Nothing | Place::Cdrom { medium: false } => None,
            Place::Disk { readonly: false } => Some(Power::FileWrite),
            Place::Disk { readonly: true } | Place::Cdrom { medium: true } => Some(Power::FileRead),
        }
    }
}

fn specs() -> Vec<OptionSpec> {
    let spec = |name: &&str| {
        let text = |more: &str, default: &str, summary: &str| OptionSpec {
            name: format!("{name}{more}"),
            kind: OptionKind::Text,
            default: default.into(),
            summary: summary.into(),
        };
        [
            text("", "none", "what is there: `none`, `disk`, `readonly` (a disk), `cdrom` or `empty` (a CD-ROM drive)"),
            text(SERIAL, "", "its serial number, at most 20 characters"),
            text(VERSION, "", "its firmware's version, at most 8 characters"),
            text(MODEL, "", "its model, at most 40 characters"),
            text(GEOMETRY, "", "a disk's CYLINDERS/HEADS/SECTORS, if not those that its size gives"),
        ]
    };
    NAMES.iter().flat_map(spec).collect()
}

/// What it says of itself, with these options.
fn names(options: &Options, name: &str, kind: Kind, number: u8) -> Result<Names, OptionError> {
    let text = |more: &str, most: usize, default: String| {
        let option = format!("{name}{more}");
        match options.text(&option).filter(|text| !text.is_empty()) {
            None => Ok(default),
            // Words of an identity have printable characters (ATA/ATAPI-6, 3.2.9).
            Some(text) if text.len() <= most && text.bytes().all(|byte| matches!(byte, 0x20..0x7f)) => Ok(text.into()),
            Some(text) => {
                Err(OptionError::Value { name: option, value: text.into(), wanted: "a few characters of ASCII" })
            }
        }
    };
    let model = match kind {
        Kind::Disk => "COFFERDAM DISK",
        Kind::Cdrom => "COFFERDAM CD-ROM",
    };
    Ok(Names {
        serial: text(SERIAL, 20, format!("CF0000{}", number + 1))?,
        version: text(VERSION, 8, "1.0".into())?,
        model: text(MODEL, 40, model.into())?,
    })
}

/// A disk's geometry, if it is given one. The drive's registers have room for 65,535 cylinders, 16 heads and 255 sectors.
fn geometry(options: &Options, name: &str) -> Result<Option<Geometry>, OptionError> {
    let option = format!("{name}{GEOMETRY}");
    let Some(text) = options.text(&option).filter(|text| !text.is_empty()) else { return Ok(None) };
    let mut numbers = text.split('/').map(|number| number.parse::<u16>().ok().filter(|number| *number > 0));
    let mut next = || numbers.next().flatten();
    let found = (|| {
        let (cylinders, heads, sectors) = (next()?, next()?, next()?);
        let heads = u8::try_from(heads).ok().filter(|heads| *heads <= 16)?;
        Some(Geometry { cylinders, heads, sectors: u8::try_from(sectors).ok()? })
    })();
    let wanted = "CYLINDERS/HEADS/SECTORS, at most 65535/16/255";
    found.map(Some).ok_or(OptionError::Value { name: option, value: text.into(), wanted })
}

fn places(options: &Options) -> Result<[Place; CHANNELS * DRIVES], OptionError> {
    options.check(&specs())?;
    let mut places = [Place::Nothing; CHANNELS * DRIVES];
    for (place, name) in places.iter_mut().zip(NAMES) {
        *place = Place::of(options, name)?;
        names(options, name, Kind::Disk, 0)?;
        geometry(options, name)?;
    }
    Ok(places)
}

/// The function in configuration space: function 1 of the PIIX3, whose function 0 is the ISA bridge. Its registers IDETIM and SIDETIM:
/// nothing here has a timing, but drivers look whether a channel is decoded, which is as firmware leaves it.
fn function() -> Pci {
    let timing =
        PciRegister { offset: 0x40, value: vec![0, 0x80, 0, 0x80, 0], writable: vec![0xff, 0xf3, 0xff, 0xf3, 0xff] };
    Pci {
        vendor: 0x8086,
        device: 0x7010,
        subsystem_vendor: 0,
        subsystem: 0,
        // IDE with fixed ports, and a bus master.
        class: 0x01_01_80,
        revision: 0,
        capabilities: Vec::new(),
        vector_bar: 0,
        registers: vec![timing],
        bridge_function: 1,
    }
}

/// Kinds of posted writes, all of which are only remembered: parameters of a command; what is cleared of the bus master's status;
/// and for each channel, that the drive selected already is selected, and commands to a bus master at rest that do not start it.
const PARAMETERS: u8 = 0;
const CLEARED: u8 = 1;
const KINDS: u8 = 2 + (CHANNELS * (DRIVES + 1)) as u8;

const fn selects_again(channel: usize, drive: usize) -> u8 {
    2 + (channel * (DRIVES + 1) + drive) as u8
}

const fn stays_at_rest(channel: usize) -> u8 {
    selects_again(channel, DRIVES)
}

/// Shadow values of a channel: the alternate status, the status while it has no side effect, the bus master's, its command.
const SHADOWS: usize = 4;
const ALTERNATE: usize = 0;
const QUIET: usize = 1;
const MASTER_STATUS: usize = 2;
const MASTER_COMMAND: usize = 3;
/// Posted writes that may be under way: more than a lane has room for.
const POSTS_MAX: u16 = 64;

/// The registers that need no wait: those that only remember, and those whose loads change nothing.
fn registers() -> Vec<Register> {
    let channel = |channel: usize| {
        let (block, control, base) = (2 * channel as u8, CONTROLS[channel], channel as u64 * master::BLOCK);
        let (command, status) = (base + master::COMMAND, base + master::STATUS);
        // It depends on no posted writes but those to `own`, however many are under way.
        let shadow = |range, offset, slot: usize, own: Option<u8>| {
            let others = (0..KINDS).filter(|kind| Some(*kind) != own);
            let tolerates = others.map(|posted| Tolerance { posted, count: POSTS_MAX }).collect();
            let slot = (channel * SHADOWS + slot) as u8;
            Register { range, offset, width: 1, kind: RegisterKind::Shadow { slot, tolerates } }
        };
        let posted = |range, offset, mask, value, posted| Register {
            range,
            offset,
            width: 1,
            kind: RegisterKind::PostedValue { posted, mask, value },
        };
        let parameters = RegisterKind::Area { posted: PARAMETERS, length: DEVICE - ERROR };
        let strings = |width| Register { range: block, offset: DATA, width, kind: RegisterKind::Strings };
        let table = base + master::TABLE;
        let device_1 = DEVICE_1.into();
        [
            strings(2),
            strings(4),
            Register { range: block, offset: ERROR, width: 1, kind: parameters },
            Register { range: MASTER, offset: table, width: 4, kind: RegisterKind::Posted(PARAMETERS) },
            Register { range: MASTER, offset: status, width: 1, kind: RegisterKind::Posted(CLEARED) },
            posted(block, DEVICE, device_1, 0, selects_again(channel, 0)),
            posted(block, DEVICE, device_1, device_1, selects_again(channel, 1)),
            posted(MASTER, command, master::START.into(), 0, stays_at_rest(channel)),
            shadow(control, 0, ALTERNATE, None),
            shadow(block, STATUS, QUIET, None),
            shadow(MASTER, status, MASTER_STATUS, Some(CLEARED)),
            shadow(MASTER, command, MASTER_COMMAND, Some(stays_at_rest(channel))),
        ]
    };
    (0..CHANNELS).flat_map(channel).collect()
}

impl Ide {
    fn cable<'a>(&'a mut self, state: &'a mut State, channel: usize) -> Cable<'a> {
        Cable {
            state: &mut state.channels[channel],
            units: &mut self.units[channel * DRIVES..(channel + 1) * DRIVES],
            bulk: &self.bulk,
            memory: &self.memory,
        }
    }

    /// The channel that a range is of, and whether it is the control block.
    fn channel_of(range: u8) -> (usize, bool) {
        (usize::from(range / 2).min(CHANNELS - 1), CONTROLS.contains(&range))
    }
}

/// Elements of an access to the data register: words, as a bridge makes of longer accesses.
fn words(width: u8) -> Option<u32> {
    matches!(width, 2 | 4 | 8).then(|| u32::from(width) / 2)
}

impl Device for Ide {
    type State = State;

    fn manifest(options: &Options) -> Result<Manifest, OptionError> {
        let places = places(options)?;
        let mut wishes =
            vec![declare::wish(Power::Memory, "memory", "the guest has sectors moved wherever it likes in memory")];
        for (place, name) in places.iter().zip(NAMES) {
            if let Some(power) = place.power() {
                wishes.push(declare::wish(power, name, "the medium that the guest reads, and writes if it may"));
            }
        }
        Ok(Manifest {
            ranges: vec![
                declare::ports("primary", 0x1f0, 8),
                declare::ports("primary control", 0x3f6, 1),
                declare::ports("secondary", 0x170, 8),
                declare::ports("secondary control", 0x376, 1),
                Range { name: "bus master".into(), length: MASTER_BYTES, space: Space::PortBar(4) },
            ],
            registers: registers(),
            lines: vec![Line::Isa(14), Line::Isa(15)],
            wishes,
            bulk_bytes: (BUFFER_BYTES * NAMES.len()) as u32,
            pci: Some(function()),
            options: specs(),
            remembered: (1 << KINDS) - 1,
            ..declare::nothing::<State>(NAME, "IDE disks and CD-ROM drives of a PIIX3", Class::Block)
        })
    }

    fn attach(options: &Options, powers: &mut Powers) -> Result<Ide, AttachError> {
        let mut units = [const { None }; CHANNELS * DRIVES];
        let mut wish = MEMORY;
        for ((unit, place), (number, name)) in units.iter_mut().zip(places(options)?).zip((0..).zip(NAMES)) {
            let (kind, readonly) = match place {
                Place::Nothing => continue,
                Place::Disk { readonly } => (Kind::Disk, readonly),
                Place::Cdrom { .. } => (Kind::Cdrom, true),
            };
            let store = match place.power() {
                Some(_) => {
                    wish += 1;
                    Some(powers.store(wish)?)
                }
                None => None,
            };
            let readonly = readonly || store.as_ref().is_some_and(|store| store.readonly());
            let (names, geometry) = (names(options, name, kind, number)?, geometry(options, name)?);
            *unit = Some(Unit { kind, store, readonly, number, names, geometry });
        }
        Ok(Ide { units, memory: powers.memory()?, bulk: powers.bulk()? })
    }

    fn power_on(&mut self) -> State {
        let mut state = State::new_zeroed();
        for channel in 0..CHANNELS {
            let mut cable = self.cable(&mut state, channel);
            for index in 0..DRIVES {
                let Some(mut work) = cable.drive(index) else { continue };
                work.reset();
                let (geometry, drive) = (work.unit.geometry(), work.drive);
                (drive.cylinders, drive.heads, drive.sectors) = (geometry.cylinders, geometry.heads, geometry.sectors);
            }
        }
        state
    }

    fn check(&self, state: &State) -> bool {
        state.channels.iter().enumerate().all(|(number, channel)| {
            let units = &self.units[number * DRIVES..(number + 1) * DRIVES];
            let mut drives = channel.drives.iter().zip(units);
            drives.all(|(drive, unit)| Work::is_possible(drive, unit.as_ref())) && Cable::is_possible(channel)
        })
    }

    /// PREVENT ALLOW MEDIUM REMOVAL holds it, while there is one.
    fn holds(&self, state: &State, bay: u8) -> bool {
        let drive = state.channels.iter().flat_map(|channel| &channel.drives).nth(bay.into());
        drive.is_some_and(|drive| drive.locked == 1 && drive.open == 0)
    }

    fn exchanged(&mut self, state: &mut State, bay: u8) {
        let bay = usize::from(bay);
        if bay < NAMES.len() {
            let mut cable = self.cable(state, bay / DRIVES);
            if let Some(mut work) = cable.drive(bay % DRIVES).filter(Work::is_packet_device) {
                work.exchange();
            }
            cable.settle_line();
        }
    }

    fn read(&mut self, state: &mut State, at: Access) -> Result<u64, NoRegister> {
        if at.range == MASTER {
            return Ok((0..at.width).rev().fold(0, |value, byte| {
                let offset = at.offset + u64::from(byte);
                let channel = (offset / master::BLOCK).min(CHANNELS as u64 - 1) as usize;
                value << 8 | u64::from(self.cable(state, channel).read_master(offset % master::BLOCK))
            }));
        }
        let (channel, control) = Ide::channel_of(at.range);
        let mut cable = self.cable(state, channel);
        let value = match (control, at.offset, at.width) {
            (true, 0, 1) => Cable::status(cable.state, cable.units).into(),
            (false, DATA, 2..) => cable.load(words(at.width).ok_or(NoRegister)?),
            (false, 1.., 1) => cable.read(at.offset).into(),
            _ => return Err(NoRegister),
        };
        cable.settle_line();
        Ok(value)
    }

    fn read_string(&mut self, state: &mut State, at: Access, into: &mut [u8]) -> Result<usize, NoRegister> {
        let (channel, control) = Ide::channel_of(at.range);
        let width = usize::from(at.width);
        if !control && at.offset == DATA && at.range != MASTER && matches!(width, 2 | 4) {
            let mut cable = self.cable(state, channel);
            let bytes = cable.load_string(width, into);
            cable.settle_line();
            if bytes > 0 {
                return Ok(bytes);
            }
        }
        // A single load, of what is no block.
        let value = self.read(state, at)?;
        let first = into.get_mut(..width).ok_or(NoRegister)?;
        first.copy_from_slice(&value.to_le_bytes()[..width]);
        Ok(width)
    }

    fn ahead(&self, state: &State, at: Access) -> Option<Ahead> {
        let (channel, control) = Ide::channel_of(at.range);
        if control || at.range == MASTER || at.offset != DATA {
            return None;
        }
        let units = self.units.get(channel * DRIVES..(channel + 1) * DRIVES)?;
        Cable::ahead(state.channels.get(channel)?, units, at.width.into())
    }

    fn write(&mut self, state: &mut State, at: Access, value: u64) -> Result<(), NoRegister> {
        let bytes = value.to_le_bytes();
        if at.range == MASTER {
            // The command is the first byte: whatever is cleared beside it was there before.
            for byte in (0..at.width.min(8)).rev() {
                let offset = at.offset + u64::from(byte);
                let channel = (offset / master::BLOCK).min(CHANNELS as u64 - 1) as usize;
                let mut cable = self.cable(state, channel);
                cable.write_master(offset % master::BLOCK, bytes[usize::from(byte)]);
                cable.settle_line();
            }
            return Ok(());
        }
        let (channel, control) = Ide::channel_of(at.range);
        let mut cable = self.cable(state, channel);
        match (control, at.offset, at.width) {
            (true, 0, 1) => cable.control(bytes[0]),
            (false, DATA, 2..) => {
                for word in 0..words(at.width).ok_or(NoRegister)? {
                    cable.store((value >> (16 * word)) as u16);
                }
            }
            (false, 1.., 1) => cable.write(at.offset, bytes[0]),
            _ => return Err(NoRegister),
        }
        cable.settle_line();
        Ok(())
    }

    fn alarm(&mut self, _: &mut State, _: u64) {}

    fn button(&mut self, _: &mut State, _: u64) {}

    fn refresh(&mut self, _: &mut State, _: u64) {}

    fn scan(&mut self, state: &mut State, _: u64) -> Scan {
        if !self.pending(state) {
            return Scan::Idle;
        }
        for channel in 0..CHANNELS {
            let mut cable = self.cable(state, channel);
            cable.go_on();
            cable.settle_line();
        }
        if self.pending(state) { Scan::More } else { Scan::Changed }
    }

    fn pending(&self, state: &State) -> bool {
        state.channels.iter().any(Cable::is_pending)
    }

    fn outputs(&self, state: &State) -> Outputs {
        let levels = state
            .channels
            .iter()
            .zip(0..)
            .fold(0, |levels, (channel, line)| levels | u32::from(channel.master.line) << line);
        let mut shadow = [None; SHADOW_MAX];
        let channels = state.channels.iter().zip(self.units.chunks_exact(DRIVES));
        for (slots, (channel, units)) in shadow.chunks_exact_mut(SHADOWS).zip(channels) {
            slots[ALTERNATE] = Some(Cable::status(channel, units).into());
            slots[QUIET] = Cable::quiet_status(channel, units).map(u64::from);
            slots[MASTER_STATUS] = Some(channel.master.status.into());
            slots[MASTER_COMMAND] = Some(channel.master.command.into());
        }
        let mut postable = 1 << PARAMETERS | 1 << CLEARED;
        for (number, channel) in state.channels.iter().enumerate() {
            postable |= 1 << selects_again(number, channel.selected.into());
            postable |= u32::from(Cable::is_at_rest(channel)) << stays_at_rest(number);
        }
        Outputs { levels, postable, shadow, ..Outputs::default() }
    }

    fn settle(&mut self, _: &State) {}
}
