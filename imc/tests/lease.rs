//! Buffers that are lent for one call, between the two sides of a channel.

use imc::{Borrowed, CallId, Channel, LEASES_MAX, LeaseError, Lender, Mapping, PAGE_BYTES, Region, Table};
use schema::sample::{Add, Sum};
use schema::{Lease, Rights};
use std::time::Duration;

const SOON: Option<Duration> = Some(Duration::from_secs(5));
const PAGE: usize = PAGE_BYTES as usize;
const READ_WRITE: Rights = Rights::READ.and(Rights::WRITE);

/// A callee that holds a region, and a call of its peer's that waits for an answer.
struct Callee {
    channel: Channel,
    held: Table<Mapping>,
    region: u64,
    call: CallId,
    caller: Channel,
}

fn callee(mapping: Mapping) -> Callee {
    let (mut caller, mut channel) = Channel::pair().unwrap();
    let mut held = Table::with_bound(4);
    let region = held.insert(mapping).ok().unwrap().to_bits();
    let call = next_call(&mut caller, &mut channel);
    Callee { channel, held, region, call, caller }
}

fn next_call(caller: &mut Channel, channel: &mut Channel) -> CallId {
    let bytes = Lease { region: 0, offset: 0, length: 0, rights: Rights::READ };
    caller.call::<_, Sum>(&Add { bytes }, &[], Duration::ZERO).unwrap_err();
    channel.receive(SOON).unwrap().unwrap().call.unwrap()
}

fn region() -> Region<imc::ReadWrite> {
    Region::create("test", PAGE_BYTES).unwrap()
}

#[test]
fn lease_outside_of_the_region_is_refused() {
    let callee = callee(region().map().unwrap());
    let borrow = |offset, length| {
        let lease = Lease { region: callee.region, offset, length, rights: Rights::READ };
        Borrowed::new(&callee.held, callee.call, &lease).err()
    };
    for (offset, length) in [(0, PAGE_BYTES + 1), (1, PAGE_BYTES), (PAGE_BYTES + 1, 0), (u64::MAX, 1), (1, u64::MAX)] {
        assert_eq!(borrow(offset, length), Some(LeaseError::OutOfBounds), "{offset}, {length}");
    }
    assert_eq!(borrow(0, PAGE_BYTES), None);
    assert_eq!(borrow(PAGE_BYTES, 0), None);
}

#[test]
fn lease_of_a_region_that_is_not_held_is_refused() {
    let mut callee = callee(region().map().unwrap());
    let key = imc::Key::from_bits(callee.region);
    let lease = |region| Lease { region, offset: 0, length: 1, rights: Rights::READ };
    for forged in [0, callee.region + 1, callee.region ^ 1 << 20, u64::MAX] {
        let refused = Borrowed::new(&callee.held, callee.call, &lease(forged)).err();
        assert_eq!(refused, Some(LeaseError::NoRegion));
    }
    callee.held.remove(key).unwrap();
    callee.held.insert(region().map().unwrap()).ok().unwrap();
    let stale = Borrowed::new(&callee.held, callee.call, &lease(callee.region)).err();
    assert_eq!(stale, Some(LeaseError::NoRegion), "another region has its place, not its key");
}

#[test]
fn access_outside_of_the_lease_is_refused() {
    let callee = callee(region().map().unwrap());
    let lease = Lease { region: callee.region, offset: 8, length: 8, rights: READ_WRITE };
    let buffer = Borrowed::new(&callee.held, callee.call, &lease).unwrap();
    assert_eq!(buffer.len(), 8);
    assert_eq!(buffer.read(&callee.channel, 1, &mut [0; 8]), Err(LeaseError::OutOfBounds));
    assert_eq!(buffer.write(&callee.channel, 9, &[]), Err(LeaseError::OutOfBounds));
    assert_eq!(buffer.read(&callee.channel, usize::MAX, &mut [0]), Err(LeaseError::OutOfBounds));
    buffer.write(&callee.channel, 0, b"12345678").unwrap();
    let mut around = [0; 10];
    callee.held.get(imc::Key::from_bits(callee.region)).unwrap().read(7, &mut around);
    assert_eq!(&around, b"\x0012345678\0");
}

#[test]
fn lease_gives_no_right_that_it_does_not_name_or_that_is_not_there() {
    let callee = callee(region().read_only().unwrap().map().unwrap());
    let lease = |rights| Lease { region: callee.region, offset: 0, length: 8, rights };
    assert_eq!(Borrowed::new(&callee.held, callee.call, &lease(READ_WRITE)).err(), Some(LeaseError::Rights));
    let buffer = Borrowed::new(&callee.held, callee.call, &lease(Rights::READ)).unwrap();
    assert_eq!(buffer.write(&callee.channel, 0, b"x"), Err(LeaseError::Rights));
    assert_eq!(buffer.read(&callee.channel, 0, &mut [1; 8]), Ok(()));
}

#[test]
fn lease_ends_with_the_reply_and_a_later_call_does_not_revive_it() {
    let mut callee = callee(region().map().unwrap());
    let lease = Lease { region: callee.region, offset: 0, length: 8, rights: READ_WRITE };
    let buffer = Borrowed::new(&callee.held, callee.call, &lease).unwrap();
    buffer.write(&callee.channel, 0, b"x").unwrap();
    callee.channel.reply(callee.call, &Sum { sum: 0 }, &[]).unwrap();
    assert_eq!(buffer.read(&callee.channel, 0, &mut [0]), Err(LeaseError::Ended));
    assert!(callee.caller.receive(Some(Duration::ZERO)).unwrap().is_none(), "the late reply is dropped");
    let next = next_call(&mut callee.caller, &mut callee.channel);
    assert_ne!(next, callee.call);
    assert_eq!(buffer.write(&callee.channel, 0, b"y"), Err(LeaseError::Ended));
}

#[test]
fn nothing_is_lent_twice_at_a_time() {
    let mut lender = Lender::new(7, PAGE);
    assert_eq!(lender.lend(0, PAGE + 1, Rights::READ).err(), Some(LeaseError::OutOfBounds));
    assert_eq!(lender.lend(usize::MAX, 1, Rights::READ).err(), Some(LeaseError::OutOfBounds));
    let (key, lease) = lender.lend(8, 8, Rights::READ).unwrap();
    assert_eq!(lease, Lease { region: 7, offset: 8, length: 8, rights: Rights::READ });
    for (offset, length) in [(8, 8), (0, 9), (15, 1), (0, PAGE)] {
        assert_eq!(lender.lend(offset, length, Rights::READ).err(), Some(LeaseError::Lent));
    }
    assert!(lender.lend(0, 8, Rights::READ).is_ok() && lender.lend(16, 8, Rights::READ).is_ok());
    assert!(lender.settle(key) && !lender.settle(key));
    let (again, _) = lender.lend(8, 8, Rights::READ).unwrap();
    assert!(!lender.settle(key), "an old key takes back nothing new");
    assert!(lender.settle(again));
}

#[test]
fn only_so_much_is_lent() {
    let mut lender = Lender::new(7, PAGE);
    for at in 0..LEASES_MAX {
        lender.lend(at, 1, Rights::READ).unwrap();
    }
    assert_eq!(lender.lend(LEASES_MAX, 1, Rights::READ).err(), Some(LeaseError::TooMany));
}
