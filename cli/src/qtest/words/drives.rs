//! Drives, and what is in them: `-drive`, `-blockdev`, `-hda`, and the `-device` that one is in.

use super::list::{list, pairs, slot};
use crate::args::{QtestArgs, usage};
use crate::drives::{IdeDrive, Places};
use crate::machine::planned;
use crate::qtest::{DriveName, Whose};
use anyhow::Result;
use schema::host::Setting;
use std::collections::BTreeMap;
use std::path::PathBuf;
use vmm::supervisor::Backing;

/// Places on the IDE cables, and diskette drives.
const PLACES: usize = 4;
const DISKETTES: usize = 2;
/// Where a CD-ROM drive is that was asked for by its own word.
const CDROM: usize = 2;
/// Properties of an IDE drive, and the options of its place that they are.
const PROPERTIES: [(&str, &str); 3] = [("serial", "-serial"), ("ver", "-version"), ("model", "-model")];
/// Types of diskette drives, as the memory of the clock has them.
const DISKETTE_TYPES: [(&str, u8); 4] = [("120", 2), ("144", 4), ("288", 5), ("auto", 4)];
const USUAL_TYPE: u8 = 4;

/// A drive, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drive {
    /// `ide`, `floppy`, `virtio`, or `none` as long as no device has it.
    interface: String,
    id: String,
    /// The `id` of the `-device` that it is in.
    device: String,
    /// Nothing: no medium.
    file: String,
    is_cd: bool,
    readonly: bool,
    /// Where it is among those of its interface, if that was said.
    place: Option<usize>,
    /// What the device says of it.
    properties: BTreeMap<String, String>,
}

/// All of them, and what node is behind which name.
#[derive(Debug, Default)]
pub struct Drives {
    drives: Vec<Drive>,
    /// Of `-blockdev`: what is in the file, and whether it is only read.
    nodes: BTreeMap<String, (String, bool)>,
}

impl Drives {
    /// A file in a drive of this interface, by a word of its own: `-hda`.
    pub fn medium(&mut self, interface: &str, file: &str, place: Option<usize>, is_cd: bool) {
        let (interface, file) = (interface.to_owned(), file.to_owned());
        self.drives.push(Drive { interface, file, place, is_cd, readonly: is_cd, ..Drive::default() });
    }

    /// `-drive`
    pub fn drive(&mut self, value: &str) -> Result<()> {
        let options = pairs(value);
        let word = |name: &str| options.get(name).cloned().unwrap_or_default();
        let is_on = |name: &str| options.get(name).is_some_and(|value| value == "on");
        let file = [word("file"), word("file.filename"), word("filename")].into_iter().find(|file| !file.is_empty());
        let file = image("-drive", value, &file.unwrap_or_default())?;
        image_format("-drive", value, &[word("format"), word("driver")])?;
        if is_on("snapshot") {
            return Err(usage!("-drive {value}: what is written to a drive stays written; leave `snapshot` out"));
        }
        let interface = if options.contains_key("if") { word("if") } else { "ide".to_owned() };
        if !["ide", "floppy", "none", "virtio"].contains(&interface.as_str()) {
            return Err(usage!("-drive {value}: there are drives of ide, floppy and virtio, and none"));
        }
        let number = |name: &str| options.get(name).and_then(|number| number.parse::<usize>().ok());
        let place = number("index").or_else(|| match (number("bus"), number("unit")) {
            (None, None) => None,
            (bus, unit) => Some(2 * bus.unwrap_or(0) + unit.unwrap_or(0)),
        });
        let is_cd = word("media") == "cdrom";
        let readonly = is_cd || is_on("readonly") || is_on("read-only");
        let id = word("id");
        self.drives.push(Drive { interface, id, file, is_cd, readonly, place, ..Drive::default() });
        Ok(())
    }

    /// `-blockdev`, as words or as JSON.
    pub fn node(&mut self, value: &str) -> Result<()> {
        let options = if value.starts_with('{') { flattened(value)? } else { first_is(value, "driver") };
        let word = |name: &str| options.get(name).cloned().unwrap_or_default();
        let (driver, name) = (word("driver"), word("node-name"));
        image_format("-blockdev", value, &[driver.clone(), word("file.driver")])?;
        let own = if driver == "file" { word("filename") } else { word("file.filename") };
        let behind = self.nodes.get(&word("file")).cloned();
        let file = match (own.is_empty(), behind) {
            (false, _) => own,
            (true, Some((file, _))) => file,
            (true, None) => return Err(usage!("-blockdev {value}: give a filename, or a node that has one")),
        };
        let readonly = word("read-only") == "on" || word("read-only") == "true";
        self.nodes.insert(name.clone(), (file.clone(), readonly));
        self.drives.push(Drive { interface: "none".into(), id: name, file, readonly, ..Drive::default() });
        Ok(())
    }

    /// A drive that was named by itself is in this device from now on.
    pub fn attach(&mut self, driver: &str, options: &BTreeMap<String, String>, value: &str) -> Result<()> {
        let (interface, is_cd) = match driver {
            "floppy" => ("floppy", false),
            "ide-cd" => ("ide", true),
            "ide-hd" => ("ide", false),
            _ => ("virtio", false),
        };
        let device = options.get("id").cloned().unwrap_or_default();
        let unit = options.get("unit").and_then(|unit| unit.parse::<usize>().ok());
        let bus = options.get("bus").and_then(|bus| bus.strip_prefix("ide.")?.parse::<usize>().ok());
        let place = match (bus, unit) {
            (None, unit) if interface == "floppy" => unit,
            (None, _) => None,
            (Some(bus), unit) => Some(2 * bus + unit.unwrap_or_else(|| self.free_unit(bus))),
        };
        let wanted = options.get("drive");
        let found = self.drives.iter().position(|drive| wanted.is_some_and(|id| *id == drive.id));
        let at = match (found, wanted) {
            (Some(at), _) => at,
            (None, Some(id)) => return Err(usage!("-device {value}: there is no drive `{id}`")),
            // A drive for removable media may be empty.
            (None, None) if is_cd || interface == "floppy" => {
                self.drives.push(Drive::default());
                self.drives.len() - 1
            }
            (None, None) => return Err(usage!("-device {value}: give the drive that is in it")),
        };
        let drive = &mut self.drives[at];
        (drive.interface, drive.device, drive.place) = (interface.to_owned(), device, place);
        drive.is_cd |= is_cd;
        drive.properties = options.clone();
        Ok(())
    }

    fn free_unit(&self, bus: usize) -> usize {
        let is_taken =
            |place: usize| self.drives.iter().any(|drive| drive.interface == "ide" && drive.place == Some(place));
        usize::from(is_taken(2 * bus))
    }

    /// Tells the machine of them. `defaults` are properties that all drives of a kind have.
    pub fn tell(&self, asked: &mut QtestArgs, defaults: &BTreeMap<(String, String), String>) -> Result<()> {
        let mut places = Places::default();
        let ide = || self.drives.iter().filter(|drive| drive.interface == "ide" && !drive.is_absent());
        for drive in ide().filter(|drive| drive.place.is_some()).chain(ide().filter(|drive| drive.place.is_none())) {
            let place = drive.place.or_else(|| places.iter().position(Option::is_none));
            let taken = || usage!("drive {}{}: it finds no place on the IDE cables", drive.id, drive.file);
            let place = place.filter(|place| *place < PLACES && places[*place].is_none()).ok_or_else(taken)?;
            places[place] = Some(drive.on_cable(defaults)?);
        }
        // A PC is sold with a drive for CDs.
        if !asked.is_bare && places[CDROM].is_none() {
            places[CDROM] = Some(IdeDrive { is_cd: true, ..IdeDrive::default() });
        }
        asked.places = Some(places);
        self.tell_diskettes(asked)?;
        for drive in self.drives.iter().filter(|drive| drive.interface == "virtio") {
            let readonly = Setting { name: "readonly".into(), value: if drive.readonly { "on" } else { "off" }.into() };
            let mut disk = planned("virtio-block", vec![readonly], vec![Backing::Path(PathBuf::from(&drive.file))]);
            disk.slot = drive.properties.get("addr").map(|addr| slot(addr)).transpose()?;
            asked.disks.push(disk);
        }
        Ok(())
    }

    fn tell_diskettes(&self, asked: &mut QtestArgs) -> Result<()> {
        let mut drives: [Option<&Drive>; DISKETTES] = [None; DISKETTES];
        for drive in self.drives.iter().filter(|drive| drive.interface == "floppy") {
            let place = drive.place.or_else(|| drives.iter().position(Option::is_none));
            let place = place.filter(|place| *place < DISKETTES && drives[*place].is_none());
            drives[place.ok_or_else(|| usage!("drive {}{}: a PC has two for diskettes", drive.id, drive.file))?] =
                Some(drive);
        }
        let there = drives.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        asked.floppy =
            drives[..there].iter().map(|drive| drive.map_or("none".to_owned(), Drive::in_diskette_drive)).collect();
        if drives.iter().flatten().all(|drive| drive.file.is_empty()) && there > 0 {
            asked.floppy.clear();
            let kind = |drive: &Option<&Drive>| drive.map_or(0, Drive::kind);
            asked.diskette_drives = Some(kind(&drives[0]) << 4 | kind(&drives[1]));
        }
        Ok(())
    }

    /// What the drives with exchangeable media are called here, and by the machine.
    pub fn names(&self, places: &Places) -> Vec<DriveName> {
        let mut names = Vec::new();
        let mut name = |drive: &Drive, machine: String| {
            let own = [(&drive.id, Whose::Medium), (&drive.device, Whose::Device)];
            let own = own.into_iter().filter(|(id, _)| !id.is_empty());
            names.extend(own.map(|(id, whose)| DriveName { drive: machine.clone(), name: id.clone(), whose }));
        };
        let mut floppies = [false; DISKETTES];
        for drive in self.drives.iter().filter(|drive| drive.interface == "floppy") {
            let place = drive.place.or_else(|| floppies.iter().position(|taken| !taken)).unwrap_or(0);
            if let Some(taken) = floppies.get_mut(place) {
                *taken = true;
                name(drive, format!("floppy{place}"));
            }
        }
        // As the machine counts them: from the second cable on.
        let order = (CDROM..PLACES).chain(0..CDROM);
        let cds: Vec<usize> = order.filter(|place| places[*place].as_ref().is_some_and(|drive| drive.is_cd)).collect();
        let mut left: Vec<usize> = (0..PLACES).collect();
        let ide = || self.drives.iter().filter(|drive| drive.interface == "ide" && !drive.is_absent());
        for drive in ide().filter(|drive| drive.place.is_some()).chain(ide().filter(|drive| drive.place.is_none())) {
            let Some(place) = drive.place.or_else(|| left.first().copied()) else { continue };
            left.retain(|other| *other != place);
            if let Some(number) = cds.iter().position(|cd| *cd == place) {
                name(drive, format!("cdrom{number}"));
            }
        }
        names
    }
}

impl Drive {
    /// A disk without a medium is no disk.
    fn is_absent(&self) -> bool {
        !self.is_cd && self.file.is_empty()
    }

    fn on_cable(&self, defaults: &BTreeMap<(String, String), String>) -> Result<IdeDrive> {
        let driver = if self.is_cd { "ide-cd" } else { "ide-hd" };
        let property = |name: &str| {
            self.properties.get(name).or_else(|| defaults.get(&(driver.to_owned(), name.to_owned()))).cloned()
        };
        let mut options: Vec<(&'static str, String)> =
            PROPERTIES.iter().filter_map(|(name, option)| Some((*option, property(name)?))).collect();
        match ["cyls", "heads", "secs"].map(property) {
            [None, None, None] => {}
            [Some(cylinders), Some(heads), Some(sectors)] => {
                options.push(("-geometry", format!("{cylinders}/{heads}/{sectors}")));
            }
            _ => return Err(usage!("-device {driver}: give all of cyls, heads and secs, or none")),
        }
        let image = Some(self.file.clone()).filter(|file| !file.is_empty());
        Ok(IdeDrive { is_cd: self.is_cd, image, readonly: self.readonly, options })
    }

    fn in_diskette_drive(&self) -> String {
        match (self.file.as_str(), self.readonly) {
            ("", _) => "none".to_owned(),
            (file, true) => format!("{file},readonly"),
            (file, false) => file.to_owned(),
        }
    }

    fn kind(&self) -> u8 {
        let word = self.properties.get("drive-type");
        DISKETTE_TYPES
            .iter()
            .find(|(name, _)| word.is_some_and(|word| word == name))
            .map_or(USUAL_TYPE, |(_, kind)| *kind)
    }
}

/// The path of an image. What could be made to fail on its way to the file is the file itself, if nothing is to fail.
fn image(option: &str, value: &str, file: &str) -> Result<String> {
    let Some(rest) = file.strip_prefix("blkdebug:") else { return Ok(file.to_owned()) };
    match rest.split_once(':') {
        Some(("", path)) => Ok(path.to_owned()),
        _ => {
            Err(usage!("{option} {value}: an image does not fail here on purpose; give blkdebug::PATH, or PATH alone"))
        }
    }
}

/// Images are raw.
fn image_format(option: &str, value: &str, said: &[String]) -> Result<()> {
    match said.iter().find(|format| !["", "raw", "file", "host_device"].contains(&format.as_str())) {
        Some(format) => Err(usage!("{option} {value}: there is no format `{format}` here; an image is raw, in a file")),
        None => Ok(()),
    }
}

/// Words of which the first may do without its name.
fn first_is(value: &str, name: &str) -> BTreeMap<String, String> {
    let (first, mut options) = list(value);
    match first.split_once('=') {
        Some((name, value)) => options.insert(name.to_owned(), value.to_owned()),
        None => options.insert(name.to_owned(), first),
    };
    options
}

/// JSON as words: what is in an object has its name before its own.
fn flattened(value: &str) -> Result<BTreeMap<String, String>> {
    let parsed: serde_json::Value =
        serde_json::from_str(value).map_err(|error| usage!("-blockdev {value}: is no JSON: {error}"))?;
    let mut words = BTreeMap::new();
    flatten("", &parsed, &mut words);
    Ok(words)
}

fn flatten(before: &str, value: &serde_json::Value, words: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                let name = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
                flatten(&name, member, words);
            }
        }
        serde_json::Value::String(text) => drop(words.insert(before.to_owned(), text.clone())),
        other => drop(words.insert(before.to_owned(), other.to_string())),
    }
}
