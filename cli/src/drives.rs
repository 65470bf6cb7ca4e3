//! IDE drives, as the command line names them.

use crate::args::usage;
use crate::machine::{parse_image, planned};
use anyhow::Result;
use schema::host::Setting;
use std::path::PathBuf;
use vmm::supervisor::{Backing, Bay, PlannedDevice};

/// The four places, by the option of the device that says what is there.
const PLACES: [&str; 4] = ["primary", "primary-slave", "secondary", "secondary-slave"];
/// Where the first CD-ROM drive is, as PCs were sold.
const CD_PLACE: usize = 2;

/// The IDE function with these disks and CDs: the CDs from the second channel on, the disks where there is room.
pub fn ide(disks: &[String], cds: &[String]) -> Result<PlannedDevice> {
    let mut places: [Option<(&str, Option<Backing>)>; PLACES.len()] = [const { None }; PLACES.len()];
    let order = (CD_PLACE..PLACES.len()).chain(0..CD_PLACE);
    let full = |flag: &str, image: &str| {
        usage!("{flag} {image}: there are four IDE drives with --ide and --cdrom, and no more; leave this one out")
    };
    for (at, cd) in cds.iter().enumerate() {
        let place = order.clone().nth(at).ok_or_else(|| full("--cdrom", cd))?;
        places[place] = Some(match cd.as_str() {
            "none" => ("empty", None),
            path => ("cdrom", Some(Backing::Path(PathBuf::from(path)))),
        });
    }
    for disk in disks {
        let place = places.iter().position(Option::is_none).ok_or_else(|| full("--ide", disk))?;
        let (path, readonly) = parse_image("--ide", disk)?;
        let what = if readonly { "readonly" } else { "disk" };
        places[place] = Some((what, Some(Backing::Path(PathBuf::from(path)))));
    }
    let (mut options, mut backing) = (Vec::new(), Vec::new());
    for (name, place) in PLACES.into_iter().zip(places) {
        if let Some((what, image)) = place {
            options.push(Setting { name: name.into(), value: what.into() });
            backing.extend(image);
        }
    }
    let bays = (0..cds.len()).zip(order).map(|(number, place)| Bay {
        name: format!("cdrom{number}"),
        number: place as u8,
        option: PLACES[place].into(),
        empty: "empty".into(),
        readonly: "cdrom".into(),
        writable: None,
    });
    Ok(PlannedDevice { bays: bays.collect(), ..planned("piix-ide", options, backing) })
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
