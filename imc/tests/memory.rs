//! Regions and wakes, as the kernel keeps them.

use imc::{BlockFile, Capability, Fault, Frozen, PAGE_BYTES, Region, Wake};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::ftruncate;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

fn load(region: &imc::Mapping, at: usize) -> u8 {
    assert!(at < region.len());
    nix_read(region, at)
}

#[allow(unsafe_code)] // A mapping is a raw pointer.
fn nix_read(mapping: &imc::Mapping, at: usize) -> u8 {
    // SAFETY: the caller checked that `at` lies within the mapping.
    unsafe { mapping.as_ptr().add(at).read_volatile() }
}

#[allow(unsafe_code)] // A mapping is a raw pointer.
fn store(mapping: &imc::Mapping, at: usize, byte: u8) {
    assert!(at < mapping.len() && mapping.writable());
    // SAFETY: within the mapping, which may be stored to.
    unsafe { mapping.as_ptr().add(at).write_volatile(byte) }
}

#[test]
fn size_of_a_region_never_changes() {
    let region = Region::create("test", 10).unwrap();
    assert_eq!(region.bytes(), PAGE_BYTES, "whole pages");
    assert_eq!(ftruncate(region.as_fd(), 0), Err(Errno::EPERM));
    assert_eq!(ftruncate(region.as_fd(), 8192), Err(Errno::EPERM));
    let more = fcntl(region.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
    assert_eq!(more, Err(Errno::EPERM));
    assert!(Region::create("test", 0).is_err() && Region::create("test", u64::MAX).is_err());
}

#[test]
fn what_one_mapping_stores_the_others_load() {
    let region = Region::create("test", 8192).unwrap();
    let (writer, reader) = (region.map().unwrap(), region.read_only().unwrap().map().unwrap());
    drop(region);
    assert!(writer.writable() && !reader.writable());
    store(&writer, 8191, 7);
    assert_eq!(load(&reader, 8191), 7, "a mapping outlives its descriptor");
}

#[test]
fn read_only_region_cannot_be_mapped_to_write() {
    let weak = Region::create("test", 4096).unwrap().read_only().unwrap();
    let mode = OFlag::from_bits_retain(fcntl(weak.as_fd(), FcntlArg::F_GETFL).unwrap()) & OFlag::O_ACCMODE;
    assert_eq!(mode, OFlag::O_RDONLY);
    assert_eq!(nix::unistd::write(weak.as_fd(), b"x"), Err(Errno::EBADF));
    let status = nix::sys::stat::fstat(weak.as_fd()).unwrap();
    assert_eq!(status.st_mode & 0o777, 0o400, "who may not ignore modes cannot open it anew for more");
}

#[test]
fn frozen_region_cannot_be_changed_by_anybody() {
    let frozen = Region::<Frozen>::freeze("test", b"fixed").unwrap();
    let mapping = frozen.map().unwrap();
    assert_eq!((load(&mapping, 0), load(&mapping, 5)), (b'f', 0));
    // Even its maker, as root, by way of /proc.
    let path = format!("/proc/self/fd/{}", frozen.as_fd().as_raw_fd());
    if let Ok(again) = open(path.as_str(), OFlag::O_RDWR, Mode::empty()) {
        assert_eq!(nix::unistd::write(&again, b"x"), Err(Errno::EPERM));
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert_eq!(fallocate(&again, punch, 0, 4096), Err(Errno::EPERM));
    }
}

#[test]
fn region_is_known_by_its_name() {
    let region = Region::create("cofferdam:test", 4096).unwrap();
    let link = std::fs::read_link(format!("/proc/self/fd/{}", region.as_fd().as_raw_fd())).unwrap();
    assert!(link.to_str().unwrap().starts_with("/memfd:cofferdam:test"));
}

#[test]
fn wake_sums_its_rings_and_is_taken_once() {
    let wake = Wake::create().unwrap();
    assert_eq!(wake.drain(), None);
    wake.signal(2).unwrap();
    wake.try_clone().unwrap().signal(3).unwrap();
    assert_eq!((wake.drain(), wake.drain()), (Some(5), None));
    wake.signal(1).unwrap();
    assert_eq!(wake.sleep().unwrap(), 1);
}

#[test]
fn wake_stuffed_full_is_seen_before_it_makes_anybody_wait() {
    let wake = Wake::create().unwrap();
    assert!(wake.has_room());
    wake.signal(u64::MAX - 1).unwrap();
    assert!(!wake.has_room());
    assert_eq!(wake.drain(), Some(u64::MAX - 1));
    assert!(wake.has_room());
}

#[test]
fn wait_ends_with_the_ring_or_the_time() {
    let wake = Wake::create().unwrap();
    let begun = Instant::now();
    assert!(!wake.wait(Duration::from_millis(20)).unwrap());
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let bell = wake.try_clone().unwrap();
    let ringer = std::thread::spawn(move || bell.signal(1).unwrap());
    assert!(wake.wait(Duration::from_secs(5)).unwrap());
    ringer.join().unwrap();
    assert_eq!(wake.drain(), Some(1), "waiting takes nothing");
}

#[test]
fn sleeper_is_woken_from_another_thread() {
    let wake = Wake::create().unwrap();
    let bell = wake.try_clone().unwrap();
    let sleeper = std::thread::spawn(move || wake.sleep().unwrap());
    bell.signal(9).unwrap();
    assert_eq!(sleeper.join().unwrap(), 9);
}

#[test]
fn read_only_file_cannot_be_written_to() {
    let both = BlockFile::new(tempfile::tempfile().unwrap()).unwrap();
    let weak = both.read_only().unwrap();
    assert!(!both.readonly && weak.readonly);
    assert_eq!(nix::unistd::write(weak.as_fd(), b"x"), Err(Errno::EBADF));
    assert_eq!(fallocate(weak.as_fd(), FallocateFlags::empty(), 0, 4096), Err(Errno::EBADF));
    assert!(weak.read_only().unwrap().readonly);
    let claimed = weak.handle(0);
    let more = schema::Handle { rights: both.handle(0).rights, ..claimed };
    let again = weak.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(BlockFile::receive(again, &more).err(), Some(Fault::HandleRights), "nor be claimed to be more");
}

#[test]
fn copy_outside_of_a_mapping_does_not_happen() {
    let region = Region::create("test", 4096).unwrap();
    let (writer, reader) = (region.map().unwrap(), region.read_only().unwrap().map().unwrap());
    let panics = |act: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err();
    assert!(panics(&|| writer.write(4095, b"ab")) && panics(&|| writer.write(usize::MAX, b"ab")));
    assert!(panics(&|| reader.write(0, b"a")), "it may not be stored to");
    assert!(panics(&|| reader.read(4095, &mut [0; 2])));
    writer.write(4094, b"ab");
    let mut seen = [0; 2];
    reader.read(4094, &mut seen);
    assert_eq!(&seen, b"ab");
}

#[test]
fn copies_begin_and_end_anywhere() {
    let mapping = Region::create("test", 4096).unwrap().map().unwrap();
    let pattern: Vec<u8> = (1..=40).collect();
    for (offset, length) in (0..9).flat_map(|offset| (0..40).map(move |length| (offset, length))) {
        mapping.write(0, &[0; 64]);
        mapping.write(offset, &pattern[..length]);
        let mut around = [0xff; 64];
        mapping.read(0, &mut around);
        let mut expected = [0; 64];
        expected[offset..offset + length].copy_from_slice(&pattern[..length]);
        assert_eq!(around, expected, "{length} bytes at {offset}");
        let mut copy = vec![0xff; length];
        mapping.read(offset, &mut copy);
        assert_eq!(copy, &pattern[..length]);
    }
}
