//! Files and block devices.

use crate::Fault;
use crate::capability::{Capability, FromVerified, READ_WRITE, Verified, claim, flags, kind};
use crate::region::reopen_read_only;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{self, FileStat, SFlag};
use schema::{Handle, Kind};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
            file.seek(SeekFrom::End(0)).map_err(|error| Fault::Io(Errno::try_from(error).unwrap_or(Errno::EIO)))?
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
        BlockFile::new(File::from(reopen_read_only(self.as_fd())?))
    }
}

impl AsFd for BlockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Capability for BlockFile {
    fn handle(&self, slot: u8) -> Handle {
        Handle { slot, kind: Kind::File, rights: rights(self.readonly), size: 0 }
    }
    fn accepts(claimed: &Handle) -> Result<(), Fault> {
        claim(claimed, Kind::File, claimed.rights)
    }
}

impl FromVerified for BlockFile {
    fn check(descriptor: BorrowedFd<'_>, claimed: &Handle) -> Result<(), Fault> {
        let (readonly, _) = check_file(descriptor)?;
        claim(claimed, Kind::File, rights(readonly))
    }
    fn from_verified(descriptor: OwnedFd, _: Verified<'_>) -> Result<Self, Fault> {
        BlockFile::new(File::from(descriptor))
    }
}

fn rights(readonly: bool) -> schema::Rights {
    if readonly { schema::Rights::READ } else { READ_WRITE }
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
