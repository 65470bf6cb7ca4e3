//! A helper, asked by hosts of both kinds.

use super::mailbox::{DATA_MAX, Kind, Question};
use super::work::Ended;
use super::{Asking, Disk, Mailbox, Work};
use device::RawFile;
use imc::lane::Rest;
use imc::{Region, Wake};
use sandbox::{HelperForm, Recipe};
use schema::host::{HELPER_REGION_BYTES, Level};
use schema::manifest::{Class, Manifest, Power, Wish};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use vm_memory::{Bytes, VolatileSlice};

/// More than one question may move.
const DISK: u64 = 2 * DATA_MAX as u64 + 512;

/// A device that has `power`.
fn manifest(power: Power) -> Manifest {
    let wish = Wish { power, name: "it".into(), switch: None, bytes: 0, range: 0, because: "a test".into() };
    Manifest {
        name: "disk".into(),
        summary: String::new(),
        class: Class::Block,
        ranges: vec![],
        registers: vec![],
        lines: vec![],
        vectors: 0,
        doorbells: vec![],
        wishes: vec![wish],
        state_bytes: 8,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: vec![],
        options: vec![],
        remembered: 0,
    }
}

fn recipe(power: Power) -> Recipe {
    let host = Recipe::host_over(Level::Strict, &[manifest(power)], &[]);
    host.helper_of(HelperForm::Process).expect("a helper").clone()
}

fn contents() -> Vec<u8> {
    (0..DISK).map(|at| (at / 512 * 7 + at % 251) as u8).collect()
}

fn disk(readonly: bool) -> (File, Disk) {
    let mut file = File::from(nix::sys::memfd::memfd_create(c"disk", nix::sys::memfd::MFdFlags::empty()).unwrap());
    file.write_all(&contents()).unwrap();
    let copy = file.try_clone().unwrap();
    (file, Disk { device: 3, wish: 2, file: RawFile::new(copy, DISK, readonly) })
}

/// A helper by this recipe, and the region and wakes that it shares with its host.
fn helper(power: Power, disks: Vec<Disk>) -> (Work, Region<imc::ReadWrite>, Wake, Wake) {
    let region = Region::create("cofferdam:helper", HELPER_REGION_BYTES).unwrap();
    let mailbox = Mailbox::map(region.try_clone().unwrap()).unwrap();
    let (asked, bell) = (Wake::create().unwrap(), Wake::create().unwrap());
    let (own_asked, own_bell) = (asked.try_clone().unwrap(), bell.try_clone().unwrap());
    let work = Work::new(mailbox, own_asked, own_bell, disks, &recipe(power)).unwrap();
    (work, region, asked, bell)
}

fn question(kind: Kind, offset: u64, bytes: u64) -> Question {
    Question { kind: kind as u32, disk: 0, offset, bytes }
}

/// Why a helper of one disk ends over this question; nothing, if it answers it.
fn violation(readonly: bool, question: &Question) -> Option<&'static str> {
    let (file, disk) = disk(readonly);
    let (mut work, ..) = helper(Power::FileWrite, vec![disk]);
    let ended = work.act(question).err();
    let mut after = vec![0; DISK as usize];
    file.read_exact_at(&mut after, 0).unwrap();
    assert!(ended.is_none() || after == contents() && file.metadata().unwrap().len() == DISK, "{question:?}");
    ended.map(|ended| match ended {
        Ended::Violation(what) => what,
        Ended::Io(error) => panic!("{error}"),
    })
}

#[test]
fn what_reaches_beyond_a_disk_is_refused() {
    for (offset, bytes) in [(DISK, 512), (DISK - 512, 1024), (u64::MAX, 512), (u64::MAX - 511, 512), (DISK + 1, 0)] {
        for kind in [Kind::Read, Kind::Write] {
            assert_eq!(violation(false, &question(kind, offset, bytes)), Some("bytes beyond the end of a disk"));
        }
    }
    assert_eq!(violation(false, &question(Kind::Write, DISK - 512, 512)), None);
}

#[test]
fn more_than_there_is_room_for_is_refused() {
    for bytes in [DATA_MAX as u64 + 1, u64::MAX, 1 << 32] {
        for kind in [Kind::Read, Kind::Write, Kind::Random] {
            let refused = violation(false, &question(kind, 0, bytes));
            assert_eq!(refused, Some("more bytes than there is room for"), "{bytes}");
        }
    }
}

#[test]
fn disk_that_may_only_be_read_is_not_written() {
    let refused = violation(true, &question(Kind::Write, 0, 512));
    assert_eq!(refused, Some("a write to a disk that may only be read"));
}

#[test]
fn disk_that_there_is_not_is_refused() {
    for disk in [1, u64::MAX] {
        let elsewhere = Question { disk, ..question(Kind::Flush, 0, 0) };
        assert_eq!(violation(false, &elsewhere), Some("a disk that there is not"));
    }
}

#[test]
fn random_bytes_are_for_a_device_that_needs_them() {
    assert_eq!(violation(false, &question(Kind::Random, 0, 16)), Some("random bytes, which no device of it needs"));
    let (mut work, region, ..) = helper(Power::Entropy, vec![]);
    work.act(&question(Kind::Random, 0, 64)).unwrap().unwrap();
    let mut drawn = [0; 64];
    Mailbox::map(region).unwrap().data(64).read_slice(&mut drawn, 0).unwrap();
    assert!(drawn.iter().filter(|byte| **byte == 0).count() < 16, "{drawn:?}");
}

#[test]
fn what_nobody_does_is_refused() {
    for kind in [0, 5, u32::MAX] {
        let unknown = Question { kind, ..question(Kind::Read, 0, 512) };
        assert_eq!(violation(false, &unknown), Some("something that it does not do"));
    }
}

#[test]
fn region_that_is_too_small_is_refused() {
    let small = Region::create("cofferdam:helper", HELPER_REGION_BYTES - 4096).unwrap();
    assert!(Mailbox::map(small).is_err());
}

#[test]
fn honest_host_finds_its_disk_and_moves_whatever_it_likes() {
    let (file, disk) = disk(false);
    let (mut work, region, asked, bell) = helper(Power::FileWrite, vec![disk]);
    std::thread::spawn(move || work.until_ended().map(drop));
    let rest = Rest::new(bell, Arc::new(Wake::create().unwrap()));
    let asking = Asking::new(Mailbox::map(region).unwrap(), asked, rest);
    assert!(asking.disk(3, 1).is_none() && asking.disk(2, 2).is_none());
    let mut store = asking.disk(3, 2).expect("the disk");
    assert_eq!((store.bytes(), store.readonly()), (DISK, false));

    // Pieces that meet nowhere near the bounds of a question.
    let mut pieces: Vec<Vec<u8>> = [1, 511, DATA_MAX, 3000, DATA_MAX - 3000].map(|bytes| vec![0; bytes]).into();
    let slices: Vec<VolatileSlice<'_>> = pieces.iter_mut().map(|piece| piece.as_mut_slice().into()).collect();
    store.read_at(0, &slices).unwrap();
    assert!(pieces.concat() == contents()[..DISK as usize]);

    let mut written: Vec<u8> = contents().into_iter().rev().collect();
    for piece in &mut pieces {
        let rest = written.split_off(piece.len());
        *piece = std::mem::replace(&mut written, rest);
    }
    let slices: Vec<VolatileSlice<'_>> = pieces.iter_mut().map(|piece| piece.as_mut_slice().into()).collect();
    store.write_at(0, &slices).unwrap();
    store.flush().unwrap();
    let mut stored = vec![0; DISK as usize];
    file.read_exact_at(&mut stored, 0).unwrap();
    assert!(stored == pieces.concat());

    // A disk's own trouble is an error of the request, and the next one is answered.
    file.set_len(512).unwrap();
    let mut sector = [0u8; 512];
    let error = store.read_at(512, &[VolatileSlice::from(&mut sector[..])]).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Interrupted);
    store.read_at(0, &[VolatileSlice::from(&mut sector[..])]).unwrap();
    assert!(sector == *pieces.concat().first_chunk::<512>().unwrap());
}
