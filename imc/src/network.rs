//! What reaches beyond this machine's processes: a tap, a socket to a program that carries frames, one that viewers reach.

use crate::Fault;
use crate::capability::{READ_WRITE, check_device, descriptor_capabilities};
use nix::libc;
use nix::sys::socket::{self, SockType, UnixAddr, sockopt};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

// Linux, `Documentation/admin-guide/devices.txt`: major and minor number.
const TUN_DEVICE: (u64, u64) = (10, 200);

/// A tap network interface: an open `/dev/net/tun` that is attached to one.
///
/// It can neither be attached elsewhere nor made anew by who holds it: for that one needs power over the network.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// Takes an open and attached `/dev/net/tun`.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is something else, or not attached, or to an interface of IP packets.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Fault> {
        check_tap(descriptor.as_fd())?;
        Ok(Tap(descriptor))
    }
}

/// A connected unix stream socket, by which another program is reached that carries network frames.
///
/// What its peer sends beside bytes, descriptors among it, a holder never takes: it reads bytes alone.
#[derive(Debug)]
pub struct UnixStream(OwnedFd);

impl UnixStream {
    /// Takes a connected unix stream socket.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is something else.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Fault> {
        check_stream(descriptor.as_fd())?;
        Ok(UnixStream(descriptor))
    }
}

/// A TCP socket that listens on a loopback address: whoever reaches it is on this machine.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Takes a socket that listens.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is something else, or others than this machine's may reach it.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Fault> {
        check_listener(descriptor.as_fd())?;
        Ok(Listener(descriptor))
    }
}

descriptor_capabilities! {
    Tap: Tap, READ_WRITE, check_tap;
    UnixStream: Socket, READ_WRITE, check_stream;
    Listener: Listener, schema::Rights::READ, check_listener;
}

fn check_tap(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    check_device(descriptor, TUN_DEVICE)?;
    let flags = tap::interface_flags(descriptor).map_err(|_| Fault::HandleObject("it is attached to no interface"))?;
    if flags & libc::IFF_TAP == 0 {
        return Err(Fault::HandleObject("it is attached to an interface of IP packets"));
    }
    Ok(())
}

fn check_stream(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    const NO_STREAM: Fault = Fault::HandleObject("it is not a connected unix stream socket");
    let kind = socket::getsockopt(&descriptor, sockopt::SockType).map_err(|_| NO_STREAM)?;
    // Only one that is connected has a peer, and only a unix socket one without an address of another family.
    let unix = socket::getpeername::<UnixAddr>(descriptor.as_raw_fd()).is_ok();
    if kind == SockType::Stream && unix { Ok(()) } else { Err(NO_STREAM) }
}

fn check_listener(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    const NO_LISTENER: Fault = Fault::HandleObject("it is not a TCP socket that listens on a loopback address");
    let kind = socket::getsockopt(&descriptor, sockopt::SockType).map_err(|_| NO_LISTENER)?;
    let listens = socket::getsockopt(&descriptor, sockopt::AcceptConn).map_err(|_| NO_LISTENER)?;
    // A socket of another family has no such address.
    let address = descriptor.try_clone_to_owned().and_then(|own| TcpListener::from(own).local_addr());
    let is_loopback = address.is_ok_and(|address| address.ip().is_loopback());
    if kind == SockType::Stream && listens && is_loopback { Ok(()) } else { Err(NO_LISTENER) }
}

mod tap {
    //! `TUNGETIFF` of `linux/if_tun.h`.
    #![allow(unsafe_code)] // An ioctl that fills a C structure.

    use nix::errno::Errno;
    use nix::libc;
    use std::os::fd::{AsRawFd, BorrowedFd};

    /// The flags of the interface that an open `/dev/net/tun` is attached to.
    pub(super) fn interface_flags(tun: BorrowedFd<'_>) -> Result<i32, Errno> {
        // SAFETY: all of `ifreq` may be zero: numbers and bytes.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF fills an `ifreq`, which outlives the call.
        Errno::result(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })?;
        // SAFETY: it is the flags that TUNGETIFF has filled in.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }
}
