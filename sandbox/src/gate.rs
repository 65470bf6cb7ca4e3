//! What lets a plugin make the calls that loading takes, and ends that from outside.
//!
//! A plugin has two filters from its first instruction on. The outer one kills for what is never permitted. The inner one
//! permits what a sealed plugin has, and asks about the rest (seccomp_unotify(2)). While it loads, the gate says yes to each;
//! closed, there is nobody to ask, and the kernel refuses (`ENOSYS`). So it is sealed whether it means to be or not.

#![allow(unsafe_code)] // The ioctls of a filter's listener, which have no safe wrapper.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;

/// `SECCOMP_IOCTL_NOTIF_RECV` of <linux/seccomp.h>: `_IOWR('!', 0, struct seccomp_notif)`.
const RECEIVE: libc::c_ulong = 0b11 << 30 | (size_of::<Asked>() as libc::c_ulong) << 16 | 0x21 << 8;
/// `SECCOMP_IOCTL_NOTIF_SEND`: `_IOWR('!', 1, struct seccomp_notif_resp)`.
const SEND: libc::c_ulong = 0b11 << 30 | (size_of::<Answer>() as libc::c_ulong) << 16 | 0x21 << 8 | 1;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: the call is made as if there were no filter. What its arguments point at may change
/// meanwhile; nothing here depends on that, for the outer filter has permitted any.
const CONTINUE: u32 = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Asked {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// The gate of one plugin. Dropped, it is closed.
#[derive(Debug)]
pub struct Gate {
    end: Arc<EventFd>,
    keeper: Option<JoinHandle<()>>,
}

impl Gate {
    /// Opens the gate at the listener that process `pid`, a child of this one, has at `number`.
    pub(crate) fn open(pidfd: &OwnedFd, number: RawFd) -> io::Result<Gate> {
        // SAFETY: no memory is passed.
        let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
        if taken < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this number, and nobody else knows it.
        let listener = unsafe { OwnedFd::from_raw_fd(taken as RawFd) };
        let end = Arc::new(EventFd::new()?);
        let told = end.clone();
        let keeper = std::thread::Builder::new().name("gate".into()).spawn(move || keep(&listener, &told))?;
        Ok(Gate { end, keeper: Some(keeper) })
    }

    /// Closes it for good: from now on the plugin has the calls of a sealed one and no more.
    pub fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        // An eventfd that nobody else writes has room.
        let _ = self.end.write(1);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Says yes to each call, except for a second program and for a socket, until told to end or until there is nobody to ask. The listener is
/// closed with it.
fn keep(listener: &OwnedFd, end: &EventFd) {
    let mut started = false;
    loop {
        let mut watched =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let happened = |at: usize| watched[at].revents().unwrap_or(PollFlags::empty());
        if !happened(1).is_empty() || happened(0).intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return;
        }
        if !happened(0).contains(PollFlags::POLLIN) {
            continue;
        }
        let mut asked = Asked::default();
        // SAFETY: the request names the size of `asked`, which is all zero as the kernel wants it.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &mut asked) } < 0 {
            // Who asked was interrupted or is gone.
            continue;
        }
        let refused = match i64::from(asked.number) {
            libc::SYS_execveat => std::mem::replace(&mut started, true),
            libc::SYS_socket => true,
            _ => false,
        };
        let answer = if refused {
            Answer { id: asked.id, error: -libc::EACCES, ..Answer::default() }
        } else {
            Answer { id: asked.id, flags: CONTINUE, ..Answer::default() }
        };
        // SAFETY: the request names the size of `answer`. One that is gone meanwhile needs none.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &answer) };
    }
}
