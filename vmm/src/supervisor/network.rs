//! What a net device's frames go to, opened by the one process that may.

#![allow(unsafe_code)] // TUNSETIFF, an ioctl that has no safe wrapper.

use anyhow::{Context, Result, anyhow, bail, ensure};
use imc::{Tap, UnixStream};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket, socketpair};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

/// Longest name of an interface (IFNAMSIZ, less the zero at its end).
const INTERFACE_NAME_MAX: usize = libc::IFNAMSIZ - 1;
/// What passt tells a guest's DHCP client of the network: a guest that believed in larger packets would never get them.
const MTU: &str = "1500";

/// Which network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPlan {
    /// The tap interface of this name. Where there is none it is made, and gone with the VM, by who may.
    Tap(String),
    /// A passt, or a program with its framing, that listens at this path.
    Passt(PathBuf),
    /// A passt of the VM's own, which speaks to the network with the rights of the user.
    User,
}

/// A network: to be opened once, and used by each machine that follows a reset.
#[derive(Debug, Clone)]
pub struct Network {
    plan: NetworkPlan,
    opened: Arc<OnceLock<Opened>>,
}

/// An open network.
#[derive(Debug)]
struct Opened {
    end: End,
    /// Ended with the VM.
    passt: Option<Own>,
}

/// Our end of a network.
#[derive(Debug)]
pub enum End {
    /// A tap network interface.
    Tap(Tap),
    /// A socket with frames and their lengths.
    Socket(UnixStream),
}

/// A program of the VM's own.
#[derive(Debug)]
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself: it does with its socket.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Network {
    /// One that is not opened yet.
    #[must_use]
    pub fn new(plan: NetworkPlan) -> Network {
        Network { plan, opened: Arc::default() }
    }

    /// Opens it, unless that was done before.
    pub fn open(&self) -> Result<&End> {
        if self.opened.get().is_none() {
            let opened = match &self.plan {
                NetworkPlan::Tap(name) => Opened { end: End::Tap(open_tap(name)?), passt: None },
                NetworkPlan::Passt(path) => Opened { end: End::Socket(reach_passt(path)?), passt: None },
                NetworkPlan::User => {
                    let (end, passt) = start_passt()?;
                    Opened { end: End::Socket(end), passt: Some(passt) }
                }
            };
            let _ = self.opened.set(opened);
        }
        self.opened.get().map(|opened| &opened.end).context("a network is opened once")
    }

    /// The process number of its passt, if that is the VM's own.
    #[must_use]
    pub fn passt(&self) -> Option<u32> {
        Some(self.opened.get()?.passt.as_ref()?.0.id())
    }

    /// What kind a relay of it has to do with.
    #[must_use]
    pub fn kind(&self) -> sandbox::Network {
        match self.plan {
            NetworkPlan::Tap(_) => sandbox::Network::Tap,
            NetworkPlan::Passt(_) | NetworkPlan::User => sandbox::Network::Socket,
        }
    }
}

fn open_tap(name: &str) -> Result<Tap> {
    ensure!(
        !name.is_empty() && name.len() <= INTERFACE_NAME_MAX && !name.contains(['/', '\0', ' ', '%']),
        "tap {name:?}: an interface's name has 1 to {INTERFACE_NAME_MAX} characters, without `/`, `%` and spaces"
    );
    // Its relay sleeps by poll(2), and must not be kept in a read of a frame that another reader took.
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let tun: OwnedFd = opened.context("tap: /dev/net/tun cannot be opened; is the module `tun` loaded?")?.into();
    // SAFETY: all of `ifreq` may be zero: numbers and bytes.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and fills an `ifreq`, which outlives the call.
    let attached = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    match Errno::result(attached) {
        Ok(_) => {}
        Err(Errno::EPERM) => bail!(
            "tap {name}: you may not use it; an administrator can make it yours: \
             `ip tuntap add {name} mode tap user $USER`, then `ip link set {name} up`"
        ),
        Err(Errno::EBUSY) => bail!("tap {name}: another program uses it"),
        Err(Errno::EINVAL) => bail!("tap {name}: is no tap interface of one queue (`ip tuntap add {name} mode tap`)"),
        Err(error) => bail!("tap {name}: cannot be used: {error}"),
    }
    Tap::new(tun).map_err(|fault| anyhow!("tap {name}: {fault}"))
}

fn reach_passt(path: &Path) -> Result<UnixStream> {
    let shown = path.display();
    let address = UnixAddr::new(path).with_context(|| format!("passt {shown}: is too long for a socket's path"))?;
    let end = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(end.as_raw_fd(), &address)
        .with_context(|| format!("passt {shown}: nobody listens there; start `passt --socket {shown}` first"))?;
    UnixStream::new(end).map_err(|fault| anyhow!("passt {shown}: {fault}"))
}

/// Starts passt with one end of a pair as its standard input: it needs no name in the file system, and ends when the other end
/// is closed, even if we are killed.
fn start_passt() -> Result<(UnixStream, Own)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let started = Command::new("passt")
        .args(["--foreground", "--quiet", "--mtu", MTU, "--fd", "0"])
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let passt = started.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            anyhow!("user network: the program passt is missing (Debian package passt); or give tap=NAME")
        }
        _ => anyhow!("user network: passt cannot be started: {error}"),
    })?;
    Ok((UnixStream::new(ours).map_err(|fault| anyhow!("user network: {fault}"))?, Own(passt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(plan: NetworkPlan) -> String {
        format!("{:#}", Network::new(plan).open().unwrap_err())
    }

    #[test]
    fn names_that_no_interface_has_are_refused() {
        for name in ["", "a/b", "tap%d", "sixteen-letters-"] {
            assert!(sentence(NetworkPlan::Tap(name.into())).contains("an interface's name"), "{name}");
        }
    }

    #[test]
    fn socket_where_nobody_listens_is_named_with_what_to_do() {
        let said = sentence(NetworkPlan::Passt("/nowhere/passt.socket".into()));
        assert!(said.contains("passt --socket /nowhere/passt.socket"), "{said}");
    }

    #[test]
    fn network_is_opened_once() {
        let folder = std::env::temp_dir().join(format!("cofferdam-passt-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        let network = Network::new(NetworkPlan::Passt(folder.join("socket")));
        assert!(matches!(network.open().unwrap(), End::Socket(_)) && network.clone().open().is_ok());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok() && listener.accept().is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
