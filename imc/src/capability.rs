//! Descriptors with a type and rights, derived from the kernel.

use crate::connect::{self, CONNECT_RIGHTS, Connect};
use crate::ends::{check_packets, check_pipe};
use crate::region::{self, ReadOnly, ReadWrite, Region, Rights, SIZE_SEALS};
use crate::wake::{self, Wake};
use crate::{Fault, Frozen};
use nix::errno::Errno;
use nix::fcntl::{self, FcntlArg, OFlag, SealFlag};
use nix::libc;
use nix::sys::socket::{self, SockType, UnixAddr, sockopt};
use nix::sys::stat::{self, FileStat, SFlag};
use nix::sys::uio;
use schema::{HANDLES_MAX, Handle, Kind};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// A capability: a descriptor whose type says what it is and what may be done with it.
///
/// The types are a closed list: nothing that could be authority against its receiver is among them.
pub trait Capability: Sized + AsFd + FromVerified {
    /// What a message claims of it, as its descriptor number `slot`.
    fn handle(&self, slot: u8) -> Handle;

    /// Whether a claim is one of this type, whatever the descriptor is.
    ///
    /// # Errors
    /// [`Fault::HandleKind`], [`Fault::HandleRights`] when it is not.
    fn accepts(claimed: &Handle) -> Result<(), Fault>;

    /// Takes a descriptor for what it is claimed to be, if the kernel agrees.
    ///
    /// What came in a message was looked at when that was decoded; there
    /// [`Descriptors::take_as`](crate::Descriptors::take_as) does the same without asking the kernel again.
    ///
    /// # Errors
    /// Those of [`Capability::accepts`]; [`Fault::HandleObject`] when the object is not as claimed. The descriptor is
    /// closed then.
    fn receive(descriptor: OwnedFd, claimed: &Handle) -> Result<Self, Fault> {
        Self::accepts(claimed)?;
        verify(descriptor.as_fd(), claimed)?;
        Self::from_verified(descriptor, Verified(claimed))
    }
}

pub(crate) use verified::{FromVerified, Verified};

mod verified {
    //! Nobody outside makes a capability of an unverified descriptor, or a capability type of his own.

    use super::{Fault, Handle, OwnedFd};

    /// A claim that the kernel has agreed to and that the type accepts.
    pub struct Verified<'a>(pub(crate) &'a Handle);

    pub trait FromVerified: Sized {
        fn from_verified(descriptor: OwnedFd, verified: Verified<'_>) -> Result<Self, Fault>;
    }
}

impl<R: Rights> Capability for Region<R> {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Region, rights: R::CLAIM, size: self.bytes() }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Region, R::CLAIM)
    }
}

impl<R: Rights> FromVerified for Region<R> {
    fn from_verified(descriptor: OwnedFd, verified: Verified<'_>) -> Result<Self, Fault> {
        Ok(Region::new(descriptor, verified.0.size))
    }
}

impl Capability for Wake {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Wake, rights: WAKE_RIGHTS, size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Wake, WAKE_RIGHTS)
    }
}

impl FromVerified for Wake {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
        Ok(Wake::from_checked(descriptor))
    }
}

/// A regular file or block device, opened afresh for its one holder.
#[derive(Debug)]
pub struct BlockFile {
    /// The open file. Its position is nobody's business: read and write at offsets.
    pub file: File,
    /// It may be read only.
    pub readonly: bool,
    /// Its size, as the kernel says.
    pub bytes: u64,
}

impl BlockFile {
    /// Takes an open file, if it is of the kind that may be granted.
    ///
    /// # Errors
    /// [`Fault::HandleObject`] when it is neither a regular file nor a block device, or is open in a way that no holder
    /// expects: by path only, for appending, for writing alone.
    pub fn new(mut file: File) -> Result<Self, Fault> {
        let (readonly, status) = check_file(file.as_fd())?;
        let bytes = if kind(&status) == SFlag::S_IFBLK {
            file.seek(SeekFrom::End(0)).map_err(|error| Fault::Io(errno(&error)))?
        } else {
            u64::try_from(status.st_size).unwrap_or(0)
        };
        Ok(BlockFile { file, readonly, bytes })
    }

    /// The same file with less power: a fresh open for reading.
    ///
    /// There is no way back for a holder without `/proc`, or who by the file's own permissions may not write to it:
    /// the kernel has no read-only file for others.
    ///
    /// Needs `/proc` itself.
    pub fn read_only(&self) -> Result<BlockFile, Fault> {
        BlockFile::new(File::from(region::reopen_read_only(self.as_fd())?))
    }
}

impl AsFd for BlockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Capability for BlockFile {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::File, rights: file_rights(self.readonly), size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::File, claimed.rights)
    }
}

impl FromVerified for BlockFile {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
        BlockFile::new(File::from(descriptor))
    }
}

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

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Tap> for OwnedFd {
    fn from(tap: Tap) -> OwnedFd {
        tap.0
    }
}

impl Capability for Tap {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Tap, rights: DEVICE_RIGHTS, size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Tap, DEVICE_RIGHTS)
    }
}

impl FromVerified for Tap {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
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

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Capability for UnixStream {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Socket, rights: DEVICE_RIGHTS, size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Socket, DEVICE_RIGHTS)
    }
}

impl FromVerified for UnixStream {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
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

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Capability for Listener {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Listener, rights: schema::Rights::READ, size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Listener, schema::Rights::READ)
    }
}

impl FromVerified for Listener {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
        Ok(Listener(descriptor))
    }
}

impl Capability for Connect {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Connect, rights: CONNECT_RIGHTS, size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Connect, CONNECT_RIGHTS)
    }
}

impl FromVerified for Connect {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
        Ok(Connect::from_checked(descriptor))
    }
}

/// `/dev/kvm`, from which a machine is made.
#[derive(Debug)]
pub struct Kvm(OwnedFd);

impl Kvm {
    /// Takes an open `/dev/kvm`.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Fault> {
        check_device(descriptor.as_fd(), KVM_DEVICE)?;
        Ok(Kvm(descriptor))
    }
}

impl AsFd for Kvm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Kvm> for OwnedFd {
    fn from(kvm: Kvm) -> OwnedFd {
        kvm.0
    }
}

impl Capability for Kvm {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::Kvm, rights: DEVICE_RIGHTS, size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::Kvm, DEVICE_RIGHTS)
    }
}

impl FromVerified for Kvm {
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
        Ok(Kvm(descriptor))
    }
}

/// The identity of a region's memory: device and inode, as the kernel numbers them.
pub(crate) type Memory = (u64, u64);

/// Whether the received descriptors are what the handles claim, each by itself and, unless `aliases`, none the memory of
/// another.
pub(crate) fn verify_all<'a>(
    all: impl Iterator<Item = (BorrowedFd<'a>, &'a Handle)>,
    aliases: bool,
) -> Result<(), Fault> {
    let mut seen: [Option<Memory>; HANDLES_MAX] = [None; HANDLES_MAX];
    for (place, (descriptor, handle)) in (0..HANDLES_MAX).zip(all) {
        let memory = verify(descriptor, handle)?;
        if !aliases && memory.is_some() && seen.contains(&memory) {
            return Err(Fault::HandleObject("it is the memory of another descriptor of the message"));
        }
        seen[place] = memory;
    }
    Ok(())
}

/// Whether a received descriptor is what its handle claims, of whatever kind; and for a region, which memory it is. Kinds
/// that no message may carry are refused: a channel comes by inheritance alone, or to an acceptor, and nothing that could
/// be authority against its receiver is taken.
fn verify(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<Option<Memory>, Fault> {
    match claimed.kind {
        Kind::Region => return check_region(descriptor, claimed).map(Some),
        Kind::Wake => {
            Wake::accepts(claimed)?;
            check_wake(descriptor)?;
        }
        Kind::File => {
            let (readonly, _) = check_file(descriptor)?;
            claim(claimed, Kind::File, file_rights(readonly))?;
        }
        Kind::Kvm => {
            Kvm::accepts(claimed)?;
            check_device(descriptor, KVM_DEVICE)?;
        }
        Kind::Connect => {
            Connect::accepts(claimed)?;
            connect::check(descriptor)?;
        }
        Kind::Tap => {
            Tap::accepts(claimed)?;
            check_tap(descriptor)?;
        }
        Kind::Socket => {
            UnixStream::accepts(claimed)?;
            check_stream(descriptor)?;
        }
        Kind::Listener => {
            Listener::accepts(claimed)?;
            check_listener(descriptor)?;
        }
        Kind::Stream => check_pipe(descriptor, claimed)?,
        Kind::Packets => check_packets(descriptor, claimed)?,
        Kind::Channel => return Err(Fault::HandleKind),
    }
    Ok(None)
}

const WAKE_RIGHTS: schema::Rights = schema::Rights::SIGNAL.and(schema::Rights::WAIT);
const DEVICE_RIGHTS: schema::Rights = schema::Rights::READ.and(schema::Rights::WRITE);
// Linux, `Documentation/admin-guide/devices.txt`: major and minor number.
const KVM_DEVICE: (u64, u64) = (10, 232);
const TUN_DEVICE: (u64, u64) = (10, 200);

fn file_rights(readonly: bool) -> schema::Rights {
    if readonly { schema::Rights::READ } else { schema::Rights::READ.and(schema::Rights::WRITE) }
}

pub(crate) fn claim(claimed: &Handle, kind: Kind, rights: schema::Rights) -> Result<(), Fault> {
    if claimed.kind != kind {
        return Err(Fault::HandleKind);
    }
    if claimed.rights != rights {
        return Err(Fault::HandleRights);
    }
    Ok(())
}

/// A memfd whose size is sealed and as claimed, and which can do exactly what is claimed.
fn check_region(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<Memory, Fault> {
    // Only memfds have seals; asking also excludes files whose page faults somebody else could stall.
    let seals = fcntl::fcntl(descriptor, FcntlArg::F_GET_SEALS)
        .map_err(|_| Fault::HandleObject("it is not a memfd"))
        .map(SealFlag::from_bits_retain)?;
    if !seals.contains(SIZE_SEALS) {
        return Err(Fault::HandleObject("its size is not sealed"));
    }
    let status = stat::fstat(descriptor)?;
    if claimed.size == 0 || u64::try_from(status.st_size) != Ok(claimed.size) {
        return Err(Fault::HandleObject("it has another size"));
    }
    let mode = access_mode(descriptor)?;
    let write_sealed = seals.contains(SealFlag::F_SEAL_WRITE);
    let fits = match claimed.rights {
        ReadWrite::CLAIM => {
            mode == OFlag::O_RDWR && !seals.intersects(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE)
        }
        ReadOnly::CLAIM => {
            mode == OFlag::O_RDONLY || (mode == OFlag::O_RDWR && seals.contains(SealFlag::F_SEAL_FUTURE_WRITE))
        }
        Frozen::CLAIM => write_sealed && mode != OFlag::O_WRONLY,
        _ => false,
    };
    if fits { Ok((status.st_dev, status.st_ino)) } else { Err(Fault::HandleRights) }
}

/// An eventfd, as far as can be told where there is no `/proc` to ask: three questions, none of which changes its count.
///
/// 1. It is an anonymous inode of the kernel, like one that we made ourselves.
/// 2. It can be read without waiting, but not by less than eight bytes. Besides an eventfd, a timer and a signalfd are so.
/// 3. Nothing can be written to it. A timer and a signalfd refuse even that: they have no such operation.
fn check_wake(descriptor: BorrowedFd<'_>) -> Result<(), Fault> {
    const NO_EVENTFD: Fault = Fault::HandleObject("it is not an eventfd");
    let status = stat::fstat(descriptor)?;
    if (status.st_dev, status.st_ino, status.st_mode) != anonymous_inode()? {
        return Err(NO_EVENTFD);
    }
    let readable = wake::read_nowait(descriptor, &mut [0; 4]) == Err(Errno::EINVAL);
    let writable = uio::writev(descriptor, &[]) == Ok(0);
    if readable && writable { Ok(()) } else { Err(NO_EVENTFD) }
}

/// Device, number and mode of the one inode that all eventfds of the running kernel share.
fn anonymous_inode() -> Result<(u64, u64, u32), Fault> {
    static FOUND: OnceLock<(u64, u64, u32)> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let own = Wake::create().map_err(|error| Fault::Io(errno(&error)))?;
    let status = stat::fstat(&own)?;
    Ok(*FOUND.get_or_init(|| (status.st_dev, status.st_ino, status.st_mode)))
}

/// A regular file or block device, open for reading or for both; whether it is the first, and its status.
fn check_file(descriptor: BorrowedFd<'_>) -> Result<(bool, FileStat), Fault> {
    let status = stat::fstat(descriptor)?;
    if !matches!(kind(&status), SFlag::S_IFREG | SFlag::S_IFBLK) {
        return Err(Fault::HandleObject("it is neither a regular file nor a block device"));
    }
    let flags = flags(descriptor)?;
    if flags.intersects(OFlag::O_PATH | OFlag::O_APPEND) {
        return Err(Fault::HandleObject("it is open by path only, or for appending"));
    }
    match flags & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => Ok((true, status)),
        OFlag::O_RDWR => Ok((false, status)),
        _ => Err(Fault::HandleObject("it is open for writing alone")),
    }
}

fn check_device(descriptor: BorrowedFd<'_>, (major, minor): (u64, u64)) -> Result<(), Fault> {
    let status = stat::fstat(descriptor)?;
    let number = (stat::major(status.st_rdev), stat::minor(status.st_rdev));
    if kind(&status) != SFlag::S_IFCHR || number != (major, minor) {
        return Err(Fault::HandleObject("it is another device"));
    }
    if access_mode(descriptor)? != OFlag::O_RDWR {
        return Err(Fault::HandleRights);
    }
    Ok(())
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

pub(crate) fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT)
}

pub(crate) fn flags(descriptor: BorrowedFd<'_>) -> Result<OFlag, Fault> {
    Ok(OFlag::from_bits_retain(fcntl::fcntl(descriptor, FcntlArg::F_GETFL)?))
}

pub(crate) fn access_mode(descriptor: BorrowedFd<'_>) -> Result<OFlag, Fault> {
    Ok(flags(descriptor)? & OFlag::O_ACCMODE)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
