//! A tap is known by the kernel's word alone.
#![allow(unsafe_code)] // TUNSETIFF, an ioctl.

use imc::{Capability, Channel, Fault, Tap};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use schema::host::{Grant, Grants, Purpose};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// An open `/dev/net/tun`, attached to a new interface of this kind unless that is zero. `None` where that is not allowed.
fn tun(kind: i32) -> Option<OwnedFd> {
    let opened = open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    if kind != 0 {
        // SAFETY: all of `ifreq` may be zero.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_flags = kind as libc::c_short;
        // SAFETY: TUNSETIFF reads and fills an `ifreq`, which outlives the call.
        let attached = unsafe { libc::ioctl(opened.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
        (attached == 0).then_some(())?;
    }
    Some(opened)
}

#[test]
fn only_an_attached_tap_is_a_tap() {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    assert_eq!(Tap::new(null).unwrap_err(), Fault::HandleObject("it is another device"));
    let Some(alone) = tun(0) else {
        println!("SKIPPED: /dev/net/tun cannot be opened here");
        return;
    };
    assert_eq!(Tap::new(alone).unwrap_err(), Fault::HandleObject("it is attached to no interface"));
    let (Some(packets), Some(frames)) = (tun(libc::IFF_TUN), tun(libc::IFF_TAP | libc::IFF_NO_PI)) else {
        println!("SKIPPED: a tap cannot be made here");
        return;
    };
    assert_eq!(Tap::new(packets).unwrap_err(), Fault::HandleObject("it is attached to an interface of IP packets"));
    let tap = Tap::new(frames).unwrap();

    let (mut creator, mut host) = Channel::pair().unwrap();
    let grant = Grant { device: 0, purpose: Purpose::File, number: 0, base: 0, handle: tap.handle(0) };
    creator.tell(&Grants { grants: vec![grant] }, &[tap.as_fd()]).unwrap();
    let packet = host.receive(Some(Duration::from_secs(5))).unwrap().unwrap();
    let (grants, mut descriptors) = packet.decode::<Grants>().unwrap();
    let received: Tap = descriptors.take_as(&grants.grants[0].handle).unwrap();
    drop(received);
}
