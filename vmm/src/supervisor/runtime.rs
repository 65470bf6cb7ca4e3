//! The runtime folder: which VMs of this user are running, and where their supervisors listen.

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest name of a VM: with the folder it must fit a socket address of 108 bytes.
pub const NAME_MAX: usize = 40;

/// A name that is held by somebody who only cleans up is free again well within these tries.
const CLAIM_TRIES: u32 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(10);

/// The user's runtime folder; made on first use, private to the user.
pub fn folder() -> Result<PathBuf> {
    let user = nix::unistd::geteuid();
    let folder = match (std::env::var_os("COFFERDAM_RUNTIME"), std::env::var_os("XDG_RUNTIME_DIR")) {
        (Some(named), _) => PathBuf::from(named),
        (None, Some(xdg)) => PathBuf::from(xdg).join("cofferdam"),
        (None, None) if user.is_root() => PathBuf::from("/run/cofferdam"),
        (None, None) => std::env::temp_dir().join(format!("cofferdam-{user}")),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make the runtime folder {}", folder.display()))?;
    let found = fs::symlink_metadata(&folder)?;
    ensure!(
        found.is_dir() && found.uid() == user.as_raw() && found.mode() & 0o077 == 0,
        "the runtime folder {} must be a folder of yours that nobody else may enter (mode 0700)",
        folder.display()
    );
    Ok(folder)
}

/// Refuses names that could not be a file's, or would leave the folder.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    ensure!(
        !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(allowed) && !name.starts_with('.'),
        "--name {name:?}: use 1 to {NAME_MAX} letters, digits, `-`, `_` or `.`, not beginning with `.`"
    );
    Ok(())
}

/// A running VM's place in the folder. Held while it runs; removed when dropped.
///
/// The lock says whether the supervisor lives; files that nobody holds locked are stale, whatever left them there.
pub struct Entry {
    /// Where operators connect.
    pub listener: OwnedFd,
    socket: PathBuf,
    lock_path: PathBuf,
    _lock: Flock<File>,
}

impl Entry {
    /// Claims `name`; refuses one that is running.
    pub fn claim(name: &str) -> Result<Entry> {
        check_name(name)?;
        let folder = folder()?;
        let (socket, lock_path) = paths(&folder, name);
        let mut claimed = lock(&lock_path)?;
        // Whoever lists VMs holds the lock of a stale entry for the moment that it takes to remove it.
        for _ in 0..CLAIM_TRIES {
            if claimed.is_some() {
                break;
            }
            std::thread::sleep(CLAIM_PAUSE);
            claimed = self::lock(&lock_path)?;
        }
        let Some(lock) = claimed else {
            bail!("a VM named `{name}` is running already; give another --name");
        };
        let _ = fs::remove_file(&socket);
        let listener = self::socket_for(&socket, |fd, address| Ok(bind(fd.as_raw_fd(), address)?))
            .with_context(|| format!("cannot make the control socket {}", socket.display()))?;
        listen(&listener, Backlog::new(8)?)?;
        Ok(Entry { listener, socket, lock_path, _lock: lock })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Names of the running VMs; removes what dead ones left.
pub fn running() -> Result<Vec<String>> {
    let folder = folder()?;
    let mut names = Vec::new();
    for file in fs::read_dir(&folder)? {
        let path = file?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".lock")) else { continue };
        match lock(&path)? {
            None => names.push(name.to_owned()),
            Some(_stale) => {
                let (socket, lock_path) = paths(&folder, name);
                let _ = fs::remove_file(socket);
                let _ = fs::remove_file(lock_path);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Connects to the supervisor of `name`.
pub fn reach(name: &str) -> Result<OwnedFd> {
    check_name(name)?;
    let (socket, _) = paths(&folder()?, name);
    socket_for(&socket, |fd, address| Ok(connect(fd.as_raw_fd(), address)?))
        .map_err(|_absent| anyhow!("no VM named `{name}` is running; `cofferdam ps` lists those that are"))
}

fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.sock")), folder.join(format!("{name}.lock")))
}

/// The lock, unless somebody else holds it. A file that was unlinked between open and lock is tried again.
fn lock(path: &Path) -> Result<Option<Flock<File>>> {
    /// Each retry means that somebody ended in just that instant; more than a few is a fault.
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error.into()),
            Ok(lock) => {
                if fs::symlink_metadata(path).is_ok_and(|now| lock.metadata().is_ok_and(|was| was.ino() == now.ino())) {
                    return Ok(Some(lock));
                }
            }
        }
    }
    bail!("{} keeps changing", path.display())
}

fn socket_for(path: &Path, act: impl FnOnce(&OwnedFd, &UnixAddr) -> Result<()>) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    act(&fd, &UnixAddr::new(path)?)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", "../x", "a/b", ".hidden", "x\n", &"x".repeat(NAME_MAX + 1)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("my-vm_2.test").is_ok());
    }

    #[test]
    fn a_lock_that_is_held_is_not_taken_and_one_that_is_not_is() {
        let folder = std::env::temp_dir().join(format!("cofferdam-lock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.lock");
        let held = lock(&path).unwrap().expect("nobody has it");
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
        fs::remove_dir_all(&folder).unwrap();
    }
}
