//! Drives and disks: what is told of them, and what is to be in them.

use super::commands::Call;
use super::{Facts, Failed};
use crate::qtest::setup::{DriveName, Whose};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use vmm::supervisor::Medium;

/// Bytes of the blocks that a file system counts.
const BLOCK_BYTES: u64 = 512;

/// What a command has done with a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The drive, as the machine calls it.
    pub drive: String,
    /// What is to be in it; nothing: the medium is taken out.
    pub medium: Option<Medium>,
    /// Though the guest holds the one that is there.
    pub forced: bool,
}

/// A drive whose medium can be exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// As the machine calls it.
    pub name: String,
    /// What else it is called.
    pub names: Vec<DriveName>,
    /// What is in it.
    pub medium: Option<Medium>,
}

/// A disk, whose medium stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// By the place where it is.
    pub name: String,
    /// Its image.
    pub medium: Medium,
}

impl Drive {
    /// What who asks calls it: after what is in it, or else by its place.
    pub fn shown(&self) -> &str {
        self.called(Whose::Medium).or(self.called(Whose::Place)).unwrap_or(&self.name)
    }

    /// What who asks calls the device.
    pub fn device(&self) -> &str {
        self.called(Whose::Device).unwrap_or(&self.name)
    }

    /// It has a tray. Diskettes are taken out by hand.
    pub fn has_tray(&self) -> bool {
        self.name.starts_with("cdrom")
    }

    /// Nothing is to be in it.
    pub fn emptied(&self, forced: bool) -> Exchange {
        Exchange { drive: self.name.clone(), medium: None, forced }
    }

    /// A file is to be in it. Images are raw; whether one can be written is as it was, unless it is said.
    pub fn changed(&self, file: &str, format: &str, mode: &str, forced: bool) -> Result<Exchange, Failed> {
        if format != "raw" {
            return Err(Failed::generic(format!("Unknown driver '{format}'; an image is raw")));
        }
        let readonly = match mode {
            "retain" => self.medium.as_ref().is_some_and(|medium| medium.readonly),
            mode => mode == "read-only",
        };
        let medium = Some(Medium { path: file.into(), readonly });
        Ok(Exchange { drive: self.name.clone(), medium, forced })
    }

    fn called(&self, whose: Whose) -> Option<&str> {
        self.names.iter().find(|name| name.whose == whose).map(|name| name.name.as_str())
    }

    fn is(&self, name: &str) -> bool {
        self.name == name || self.names.iter().any(|known| known.name == name)
    }
}

/// The drive that a command names.
pub fn named<'a>(call: &Call<'a>) -> Result<&'a Drive, Failed> {
    match (call.word("device"), call.word("id")) {
        (Some(name), None) | (None, Some(name)) => find(name, call.facts),
        _ => Err(Failed::generic("Need exactly one of 'device' and 'id'")),
    }
}

/// The drive of this name.
pub fn find<'a>(name: &str, facts: &Facts<'a>) -> Result<&'a Drive, Failed> {
    if facts.disks.iter().any(|disk| disk.name == name) {
        return Err(Failed::generic(format!("Device '{name}' is not removable")));
    }
    facts.drives.iter().find(|drive| drive.is(name)).ok_or_else(|| Failed::absent(name))
}

/// All of them, as `query-block` has them.
pub fn blocks(facts: &Facts<'_>) -> Value {
    let common = |name: &str, is_removable: bool| json!({ "device": name, "type": "unknown", "removable": is_removable, "locked": false });
    let drive = |drive: &Drive| {
        let mut shown = common(drive.shown(), true);
        shown["qdev"] = drive.device().into();
        if drive.has_tray() {
            shown["tray_open"] = false.into();
        }
        if let Some(medium) = &drive.medium {
            shown["inserted"] = inserted(drive.shown(), medium);
        }
        shown
    };
    let disk = |disk: &Disk| {
        let mut shown = common(&disk.name, false);
        shown["inserted"] = inserted(&disk.name, &disk.medium);
        shown
    };
    facts.drives.iter().map(drive).chain(facts.disks.iter().map(disk)).collect()
}

/// What is in them, as `query-named-block-nodes` has it.
pub fn nodes(facts: &Facts<'_>) -> Value {
    let drives = facts.drives.iter().filter_map(|drive| Some((drive.shown(), drive.medium.as_ref()?)));
    let disks = facts.disks.iter().map(|disk| (disk.name.as_str(), &disk.medium));
    drives.chain(disks).map(|(name, medium)| inserted(name, medium)).collect()
}

/// What is in one. Nothing is held back, kept in a cache of ours, or encrypted.
fn inserted(name: &str, medium: &Medium) -> Value {
    let file = std::fs::metadata(&medium.path).ok();
    let (bytes, taken) = file.map_or((0, 0), |file| (file.len(), file.blocks() * BLOCK_BYTES));
    let mut shown = json!({
        "file": medium.path, "node-name": name, "ro": medium.readonly, "drv": "raw", "encrypted": false,
        "backing_file_depth": 0, "detect_zeroes": "off", "write_threshold": 0,
        "cache": { "writeback": true, "direct": false, "no-flush": false },
        "image": { "filename": medium.path, "format": "raw", "virtual-size": bytes, "actual-size": taken },
    });
    for limit in ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"] {
        shown[limit] = 0.into();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qtest::actions::Actions;
    use crate::qtest::setup::Names;

    #[test]
    fn a_drive_that_is_not_there_or_an_image_that_is_not_said_is_refused() {
        let name = |name: &str, whose| DriveName { drive: "cdrom0".into(), name: name.into(), whose };
        let names = vec![name("ide1-cd0", Whose::Place), name("mine", Whose::Medium), name("reader", Whose::Device)];
        let medium = Some(Medium { path: "a.img".into(), readonly: true });
        let drives = [Drive { name: "cdrom0".into(), names, medium }];
        let disks = [Disk { name: "ide0-hd0".into(), medium: Medium { path: "d.img".into(), readonly: false } }];
        let facts = Facts {
            status: "running",
            names: &Names::default(),
            is_pc: true,
            memory_bytes: 0,
            devices: &[],
            drives: &drives,
            disks: &disks,
            actions: Actions::default(),
        };
        let asked = |arguments: Value| named(&Call { name: "eject", arguments: &arguments, facts: &facts }).cloned();
        assert_eq!(asked(json!({ "device": "floppy1" })), Err(Failed::absent("floppy1")));
        assert!(asked(json!({})).unwrap_err().why.starts_with("Need exactly one"));
        assert!(asked(json!({ "id": "mine", "device": "mine" })).unwrap_err().why.starts_with("Need exactly one"));
        assert!(asked(json!({ "device": "ide0-hd0" })).unwrap_err().why.contains("not removable"));
        for name in ["cdrom0", "ide1-cd0", "mine", "reader"] {
            assert_eq!(asked(json!({ "id": name })).as_ref(), Ok(&drives[0]), "{name}");
        }
        let drive = &drives[0];
        assert_eq!((drive.shown(), drive.device()), ("mine", "reader"));
        assert!(drive.changed("b.img", "qcow2", "retain", false).unwrap_err().why.contains("qcow2"));
        for (mode, readonly) in [("retain", true), ("read-only", true), ("read-write", false)] {
            let medium = drive.changed("b.img", "raw", mode, false).unwrap().medium;
            assert_eq!(medium, Some(Medium { path: "b.img".into(), readonly }));
        }
        let told = blocks(&facts);
        assert_eq!((&told[0]["device"], &told[0]["inserted"]["file"]), (&json!("mine"), &json!("a.img")));
        assert_eq!((&told[1]["device"], &told[1]["removable"]), (&json!("ide0-hd0"), &json!(false)));
        assert_eq!(nodes(&facts).as_array().map(Vec::len), Some(2));
    }
}
