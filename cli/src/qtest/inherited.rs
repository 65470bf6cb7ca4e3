//! A socket that whoever started us has left open for us.

// Of such a descriptor there is nothing but its number.
#![allow(unsafe_code)]

use anyhow::{Context, Result};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

/// Another descriptor of the socket of this number.
pub fn inherited(number: i32) -> Result<UnixStream> {
    // SAFETY: it is borrowed for this line alone; one that is not open cannot be duplicated, and that is an error.
    let again = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
    let stream = UnixStream::from(again.with_context(|| format!("descriptor {number}: is not open"))?);
    stream.peer_addr().with_context(|| format!("descriptor {number}: is no socket with somebody at its other end"))?;
    Ok(stream)
}
