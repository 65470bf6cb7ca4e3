//! One `send(2)` or `sendmsg(2)` and one `recvmsg(2)`, written out: none allocates, and whatever a hostile sender does, each
//! descriptor that the kernel puts into our table is owned before anything else is looked at, so that none can leak.
#![allow(unsafe_code)] // The kernel takes descriptors, and hands them over, as numbers in a byte buffer.

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use schema::HANDLES_MAX;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors that the kernel passes with one datagram (`SCM_MAX_FD`). Room for all of them, always: were there
/// less, the rest would be cut off, and what a sender did could not be told from what we lacked.
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// `CMSG_SPACE` for that many, in 64-bit words, which are aligned as a `cmsghdr` must be.
const CONTROL_WORDS: usize = control_words(DESCRIPTORS_MAX);

const fn control_words(descriptors: usize) -> usize {
    // SAFETY: a computation on its argument alone.
    unsafe { libc::CMSG_SPACE((descriptors * size_of::<RawFd>()) as u32) as usize }.div_ceil(size_of::<u64>())
}

/// What one `recvmsg` delivered, beside the bytes and the descriptors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    /// Bytes of the datagram that fitted.
    pub bytes: usize,
    /// The datagram was longer.
    pub cut: bool,
    /// Descriptors were lost: the sender attached more than possible, or our own table is full.
    pub descriptors_cut: bool,
}

/// Whether a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Whatever the flags of the open file say: others may hold it.
    Never,
    /// As long as the socket's own receive timeout, unless the open file says otherwise.
    AsLongAsTheSocketDoes,
}

/// Sends one datagram, or says at once why not.
pub(crate) fn send(socket: BorrowedFd<'_>, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if !descriptors.is_empty() {
        return send_with(socket, datagram, descriptors);
    }
    // The shorter way: the kernel has no description of a message to read first.
    socket::send(socket.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// # Panics
/// With more than [`HANDLES_MAX`] descriptors, or none.
fn send_with(socket: BorrowedFd<'_>, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    assert!(!descriptors.is_empty() && descriptors.len() <= HANDLES_MAX);
    // Only read by the kernel, as `sendmsg` promises.
    let mut vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    let mut control = [0u64; control_words(HANDLES_MAX)];
    // SAFETY: all of `msghdr` may be zero: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    let bytes = (descriptors.len() * size_of::<RawFd>()) as u32;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: a computation on its argument alone.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as _;
    // SAFETY: `message` describes at least one header's room in `control`, which is aligned for it.
    let first = unsafe { &mut *libc::CMSG_FIRSTHDR(&raw const message) };
    first.cmsg_level = libc::SOL_SOCKET;
    first.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: a computation on its argument alone.
    first.cmsg_len = unsafe { libc::CMSG_LEN(bytes) } as _;
    // SAFETY: the data of `first` follows it.
    let numbers = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
    for (index, descriptor) in descriptors.iter().enumerate() {
        // SAFETY: `control` has room for HANDLES_MAX numbers, and there are no more; they need not be aligned.
        unsafe { numbers.add(index).write_unaligned(descriptor.as_raw_fd()) };
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message describes `datagram` and `control`, which outlive the call.
    Errno::result(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) }).map(drop)
}

/// Takes the next datagram, if there is one, where the kernel lets no descriptors pass: the shorter way.
pub(crate) fn receive_bytes(socket: BorrowedFd<'_>, into: &mut [u8], wait: Wait) -> Result<Delivery, Errno> {
    // With MSG_TRUNC the length is the datagram's own, also when it did not fit.
    let flags = MsgFlags::MSG_TRUNC | if wait == Wait::Never { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
    let bytes = socket::recv(socket.as_raw_fd(), into, flags)?;
    Ok(Delivery { bytes, cut: bytes > into.len(), descriptors_cut: false })
}

/// Takes the next datagram, if there is one.
///
/// Its descriptors are appended to `descriptors`, close-on-exec, whatever else is wrong with it.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    wait: Wait,
) -> Result<Delivery, Errno> {
    let mut control = [MaybeUninit::<u64>::uninit(); CONTROL_WORDS];
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: all of `msghdr` may be zero: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;

    let flags = libc::MSG_CMSG_CLOEXEC | if wait == Wait::Never { libc::MSG_DONTWAIT } else { 0 };
    // SAFETY: the header describes `into` and `control`, both writable for their whole lengths and alive until after the call.
    let received = Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;

    // SAFETY: the kernel has filled `control` up to `msg_controllen`, and `message` still describes it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return whole headers within what the kernel wrote, or null.
        let header = unsafe { next.read_unaligned() };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: a computation on its argument alone.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            // The count comes from the length of the message, never from the size of the buffer, which is rounded up.
            let count = (header.cmsg_len as usize).saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: the data of `next` follows its header.
            let first = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: `cmsg_len`, which the kernel wrote, covers `count` numbers; they need not be aligned.
                let number = unsafe { first.add(index).read_unaligned() };
                // SAFETY: the kernel has just put this number into our table for us; nobody else knows it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: `next` is a header within what `message` describes.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }

    Ok(Delivery {
        bytes: received as usize,
        cut: message.msg_flags & libc::MSG_TRUNC != 0,
        descriptors_cut: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}
