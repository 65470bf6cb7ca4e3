//! Disk images: opened and locked by the one process that may, and granted to each holder by an open of its own.

use super::mac::{Mac, Relabelled};
use super::plan::Backing;
use anyhow::{Context, Result, bail, ensure};
use imc::BlockFile;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;

/// Sectors of a disk have this many bytes.
const SECTOR: u64 = 512;

/// A disk image: the supervisor's own open, which holds the lock, and how to open it afresh.
pub struct Image {
    file: File,
    readonly: bool,
    _lock: Option<Flock<File>>,
    /// Restores what it was labelled before.
    relabelled: OnceLock<Relabelled>,
}

impl Image {
    /// Opens and locks it.
    pub fn open(backing: &Backing, readonly: bool) -> Result<Image> {
        match backing {
            Backing::Network(_) => bail!("a network is no disk"),
            Backing::Memory(content) => {
                let mut file = File::from(
                    nix::sys::memfd::memfd_create(c"cofferdam:disk", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
                        .context("making a disk in memory")?,
                );
                file.write_all(content)?;
                Ok(Image { file, readonly, _lock: None, relabelled: OnceLock::new() })
            }
            Backing::Path(path) => {
                let shown = path.display();
                let kind =
                    std::fs::metadata(path).with_context(|| format!("disk {shown}: cannot be opened"))?.file_type();
                ensure!(
                    kind.is_file() || kind.is_block_device(),
                    "disk {shown}: is {}, not a file or block device",
                    if kind.is_dir() { "a folder" } else { "something else" }
                );
                let mut file = OpenOptions::new()
                    .read(true)
                    .write(!readonly)
                    .open(path)
                    .with_context(|| format!("disk {shown}: cannot be opened"))?;
                let bytes = file.seek(SeekFrom::End(0))?;
                // What may only be read may end within a sector, which is then not there: images of CDs come truncated.
                ensure!(
                    bytes > 0 && (readonly || bytes.is_multiple_of(SECTOR)),
                    "disk {shown}: its size, {bytes} bytes, is not a multiple of {SECTOR}; extend it with \
                     `truncate -s %{SECTOR} {shown}`"
                );
                let how = if readonly { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
                let lock = Flock::lock(file.try_clone()?, how).map_err(|(_, error)| match error {
                    nix::errno::Errno::EWOULDBLOCK => anyhow::anyhow!(
                        "disk {shown}: another VM or program holds it locked; end that one, or use `,readonly` in both"
                    ),
                    error => anyhow::anyhow!("disk {shown}: cannot be locked: {error}"),
                })?;
                Ok(Image { file, readonly, _lock: Some(lock), relabelled: OnceLock::new() })
            }
        }
    }

    /// Gives it the label by which its VM may have it.
    pub fn label(&self, mac: &Mac) -> Result<()> {
        if let Some(relabelled) = mac.claim_image(&self.file, self.readonly)? {
            // It is given one once.
            let _ = self.relabelled.set(relabelled);
        }
        Ok(())
    }

    /// Whether it is the file of this name.
    #[must_use]
    pub fn is(&self, path: &Path) -> bool {
        let same = |own: &Metadata, other: &Metadata| (own.dev(), own.ino()) == (other.dev(), other.ino());
        matches!((self.file.metadata(), std::fs::metadata(path)), (Ok(own), Ok(other)) if same(&own, &other))
    }

    /// A fresh open with the least access mode, for one holder.
    pub fn grant(&self) -> Result<BlockFile> {
        let again = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = OpenOptions::new().read(true).write(!self.readonly).open(again).context("opening a disk afresh")?;
        Ok(BlockFile::new(file)?)
    }
}
