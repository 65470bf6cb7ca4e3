//! What a host in seccomp mode 1 cannot do itself: somebody beside it reads and writes its disks and draws its random bytes.
//!
//! Host and helper share one region, the [`Mailbox`], and an eventfd each way: the helper sleeps on one of its own, the host
//! on its wake, as for everything else. The host [asks](Asking) for one thing at a time, as it did by a system call. The
//! helper [works](Work) with what it was granted; what the host writes into the region it copies once and checks.

mod asking;
mod mailbox;
mod run;
#[cfg(test)]
mod tests;
mod thread;
mod work;

pub(crate) use asking::Asking;
pub(crate) use mailbox::Mailbox;
pub use run::help;
pub(crate) use thread::start as start_thread;
pub(crate) use work::{Disk, Work};
