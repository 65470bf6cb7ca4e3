//! IDE drives, as the command line names them.

use crate::args::usage;
use crate::machine::{parse_image, planned, set_clock};
use anyhow::Result;
use schema::host::Setting;
use std::path::PathBuf;
use vmm::supervisor::{Backing, Bay, PlannedDevice};

/// The catalogue name of the function.
const IDE: &str = "piix-ide";
/// The four places, by the option of the device that says what is there.
const PLACES: [&str; 4] = ["primary", "primary-slave", "secondary", "secondary-slave"];
/// Where the first CD-ROM drive is, as PCs were sold.
const CD_PLACE: usize = 2;

/// What is at one of the places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdeDrive {
    /// A CD-ROM drive; a disk otherwise.
    pub is_cd: bool,
    /// Its image. A disk has one.
    pub image: Option<String>,
    /// A disk that is only read.
    pub readonly: bool,
    /// Further options of the place, by what follows its name: `-serial`, `-model`.
    pub options: Vec<(&'static str, String)>,
}

/// What is at each of them.
pub type Places = [Option<IdeDrive>; PLACES.len()];

/// The IDE function with these disks and CDs: the CDs from the second channel on, the disks where there is room.
pub fn ide(disks: &[String], cds: &[String]) -> Result<PlannedDevice> {
    let mut places = Places::default();
    let order = || (CD_PLACE..PLACES.len()).chain(0..CD_PLACE);
    let full = |flag: &str, image: &str| {
        usage!("{flag} {image}: there are four IDE drives with --ide and --cdrom, and no more; leave this one out")
    };
    for (at, cd) in cds.iter().enumerate() {
        let place = order().nth(at).ok_or_else(|| full("--cdrom", cd))?;
        let image = Some(cd.clone()).filter(|path| path != "none");
        places[place] = Some(IdeDrive { is_cd: true, image, ..IdeDrive::default() });
    }
    for disk in disks {
        let place = places.iter().position(Option::is_none).ok_or_else(|| full("--ide", disk))?;
        let (path, readonly) = parse_image("--ide", disk)?;
        places[place] = Some(IdeDrive { image: Some(path.to_owned()), readonly, ..IdeDrive::default() });
    }
    Ok(placed(&places))
}

/// The IDE function with these drives.
pub fn placed(places: &Places) -> PlannedDevice {
    let (mut options, mut backing) = (Vec::new(), Vec::new());
    for (name, place) in PLACES.into_iter().zip(places) {
        let Some(drive) = place else { continue };
        let what = match (drive.is_cd, &drive.image) {
            (true, None) => "empty",
            (true, Some(_)) => "cdrom",
            (false, _) if drive.readonly => "readonly",
            (false, _) => "disk",
        };
        options.push(Setting { name: name.into(), value: what.into() });
        let more = drive.options.iter().map(|(suffix, value)| (format!("{name}{suffix}"), value.clone()));
        options.extend(more.map(|(name, value)| Setting { name, value }));
        backing.extend(drive.image.iter().map(|path| Backing::Path(PathBuf::from(path))));
    }
    let order = (CD_PLACE..PLACES.len()).chain(0..CD_PLACE);
    let cds = order.filter(|place| places[*place].as_ref().is_some_and(|drive| drive.is_cd));
    let bays = (0..).zip(cds).map(|(number, place): (usize, usize)| Bay {
        name: format!("cdrom{number}"),
        number: place as u8,
        option: PLACES[place].into(),
        empty: "empty".into(),
        readonly: "cdrom".into(),
        writable: None,
    });
    PlannedDevice { bays: bays.collect(), ..planned(IDE, options, backing) }
}

/// The disks among these devices: at which place, what is in each, and whether it is only read.
pub fn disks(devices: &[PlannedDevice]) -> Vec<(usize, PathBuf, bool)> {
    let mut found = Vec::new();
    for device in devices.iter().filter(|device| device.device == IDE) {
        let mut images = device.backing.iter();
        for (number, name) in PLACES.iter().enumerate() {
            let option = device.options.iter().find(|option| option.name == *name);
            let what = option.map_or("none", |option| option.value.as_str());
            let image = if matches!(what, "none" | "empty") { None } else { images.next() };
            if let (Some(Backing::Path(path)), "disk" | "readonly") = (image, what) {
                found.push((number, path.clone(), what == "readonly"));
            }
        }
    }
    found
}

/// Tells firmware, in the memory of the clock, how the disks' sectors are addressed.
pub fn tell_clock(devices: &mut [PlannedDevice]) {
    /// Of a disk that has more cylinders than the BIOS' interface, addresses are translated.
    const BIOS_CYLINDERS: u64 = 1024;
    /// There are never more (ATA-3, 7.7.2).
    const CYLINDERS_MAX: u64 = 16_383;
    let mut translations = 0;
    for (number, path, _) in disks(devices) {
        let given = format!("{}-geometry", PLACES[number]);
        let ide = devices.iter().filter(|device| device.device == IDE).flat_map(|device| &device.options);
        let given = ide.filter(|option| option.name == given).map(|option| option.value.clone()).next();
        // Who opens the image says what is wrong with it.
        let sectors = std::fs::metadata(&path).map_or(0, |file| file.len() / 512);
        let cylinders = (sectors / (16 * 63)).min(CYLINDERS_MAX);
        let geometry = given.unwrap_or_else(|| format!("{cylinders}/16/63"));
        let cylinders = geometry.split('/').next().and_then(|cylinders| cylinders.parse().ok()).unwrap_or(0_u64);
        translations |= u8::from(cylinders > BIOS_CYLINDERS) << (2 * number);
        // There is room for two.
        if number < 2 {
            set_clock(devices, &format!("disk{number}"), geometry);
        }
    }
    set_clock(devices, "translations", translations.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn places(disks: &[&str], cds: &[&str]) -> (Vec<(String, String)>, usize) {
        let device = ide(&words(disks), &words(cds)).unwrap();
        let settings = device.options.into_iter().map(|setting| (setting.name, setting.value));
        (settings.collect(), device.backing.len())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_fifth_drive_finds_no_place() {
        let sentence = ide(&words(&["a", "b", "c", "d"]), &words(&["e"])).unwrap_err().to_string();
        assert!(sentence.starts_with("--ide d: there are four"), "{sentence}");
        let sentence = ide(&[], &words(&["a", "b", "c", "d", "e"])).unwrap_err().to_string();
        assert!(sentence.starts_with("--cdrom e: there are four"), "{sentence}");
        let sentence = ide(&words(&["a,fast"]), &[]).unwrap_err().to_string();
        assert!(sentence.contains("--ide a,fast") && sentence.contains("readonly"), "{sentence}");
    }

    #[test]
    fn cds_are_on_the_second_channel_and_disks_where_there_is_room() {
        let both = [("primary", "disk"), ("secondary", "cdrom")];
        assert_eq!(places(&["a"], &["c.iso"]), (pairs(&both), 2));
        let many =
            [("primary", "disk"), ("primary-slave", "readonly"), ("secondary", "empty"), ("secondary-slave", "disk")];
        assert_eq!(places(&["a", "b,readonly", "c"], &["none"]), (pairs(&many), 3));
        assert_eq!(places(&[], &[]), (Vec::new(), 0));
    }
}
