//! `--display vnc`: where viewers connect, and what they are to know, opened by the one process that may.

#![allow(unsafe_code)] // TCP_NODELAY of a listener, an option that has no safe wrapper.

use anyhow::{Context, Result, bail, ensure};
use imc::Listener;
use nix::errno::Errno;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Where viewers look first: display number 0.
pub const PORT: u16 = 5900;
/// Ports that are tried where none is named: one for each of so many machines.
const PORTS: u16 = 64;
/// The longest password of security type 2: what is beyond would count for nothing (RFC 6143, 7.2.2).
const PASSWORD_BYTES: usize = 8;
/// Bits of a file's mode by which others read it.
const OTHERS_READ: u32 = 0o044;

/// Viewers of a machine's display, to be let in once it runs.
#[derive(Debug, Clone)]
pub struct Display {
    password_file: PathBuf,
    port: Option<u16>,
    opened: Arc<OnceLock<Opened>>,
}

/// Where they connect now.
#[derive(Debug)]
pub struct Opened {
    /// On each address of the loopback interface.
    pub listeners: Vec<Listener>,
    /// The port of all of them.
    pub port: u16,
    /// Zeros at the end.
    pub password: [u8; PASSWORD_BYTES],
}

impl Display {
    /// For viewers that know what is in this file, at this port or the first free one.
    #[must_use]
    pub fn new(password_file: PathBuf, port: Option<u16>) -> Display {
        Display { password_file, port, opened: Arc::default() }
    }

    /// Opens it, unless that was done before: each machine that follows a reset is seen at the same place.
    pub fn open(&self) -> Result<&Opened> {
        if self.opened.get().is_none() {
            let password = read_password(&self.password_file)?;
            let (listeners, port) = listen(self.port)?;
            let _ = self.opened.set(Opened { listeners, port, password });
        }
        self.opened.get().context("a display is opened once")
    }
}

fn read_password(path: &Path) -> Result<[u8; PASSWORD_BYTES]> {
    let shown = format!("--display: password-file {}", path.display());
    let mut file = File::open(path).with_context(|| format!("{shown}: cannot be opened"))?;
    let mode = file.metadata().with_context(|| format!("{shown}: cannot be looked at"))?.permissions().mode();
    ensure!(mode & OTHERS_READ == 0, "{shown}: others may read it; `chmod 600` makes it yours");
    let mut text = Vec::new();
    // More than a password and the end of its line need not be read to be refused.
    let bound = PASSWORD_BYTES as u64 + 2;
    file.by_ref().take(bound).read_to_end(&mut text).with_context(|| format!("{shown}: cannot be read"))?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    ensure!(
        !line.is_empty() && line.len() <= PASSWORD_BYTES && !line.contains(&0) && !line.contains(&b'\n'),
        "{shown}: give one line of 1 to {PASSWORD_BYTES} bytes, which is what VNC's way to ask for a password knows"
    );
    let mut password = [0; PASSWORD_BYTES];
    password[..line.len()].copy_from_slice(line);
    Ok(password)
}

fn listen(port: Option<u16>) -> Result<(Vec<Listener>, u16)> {
    match port {
        Some(0) => {
            bail!("--display: port 0 is none; give another, or leave it out for the first free one from {PORT} on")
        }
        Some(port) => {
            let listeners = listen_at(port).with_context(|| format!("--display: port {port} cannot be had"))?;
            Ok((listeners, port))
        }
        None => {
            let free = (PORT..PORT + PORTS).find_map(|port| match listen_at(port) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                listeners => Some(listeners.map(|listeners| (listeners, port))),
            });
            let last = PORT + PORTS - 1;
            let free =
                free.with_context(|| format!("--display: none of the ports {PORT} to {last} is free; give port=N"))?;
            free.context("--display: no port of this machine can be had")
        }
    }
}

/// Listens at a port of both loopback addresses, or of the one that this machine has.
fn listen_at(port: u16) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match TcpListener::bind((address, port)) {
            Ok(listener) => listeners.push(ready(listener)?),
            // A machine without that protocol, or without that address.
            Err(error)
                if error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() { Err(ErrorKind::AddrNotAvailable.into()) } else { Ok(listeners) }
}

/// What connections inherit: what is sent goes out at once, for a person waits for it.
fn ready(listener: TcpListener) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the kernel reads an integer, which outlives the call.
    let set = unsafe {
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), length)
    };
    Errno::result(set)?;
    Listener::new(OwnedFd::from(listener)).map_err(|fault| io::Error::other(fault.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn password_that_is_none_or_that_others_read_is_refused() {
        for content in [&b""[..], b"\n", b"ninebytes", b"ninebytes\n", b"a\nb", b"a\0b", b"eight888\nmore"] {
            let said = format!("{:#}", read_password(file(content, 0o600).path()).unwrap_err());
            assert!(said.contains("one line of 1 to 8 bytes"), "{}: {said}", content.escape_ascii());
        }
        for mode in [0o644, 0o640, 0o604] {
            let said = format!("{:#}", read_password(file(b"secret", mode).path()).unwrap_err());
            assert!(said.contains("chmod 600"), "{said}");
        }
        assert!(format!("{:#}", read_password(Path::new("/nowhere")).unwrap_err()).contains("cannot be opened"));
    }

    #[test]
    fn password_is_the_line_of_its_file() {
        assert_eq!(read_password(file(b"secret\n", 0o600).path()).unwrap(), *b"secret\0\0");
        assert_eq!(read_password(file(b"eight888", 0o400).path()).unwrap(), *b"eight888");
    }

    #[test]
    fn port_that_somebody_has_is_named_and_the_next_free_one_found() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let said = format!("{:#}", listen(Some(port)).unwrap_err());
        assert!(said.contains(&format!("port {port} cannot be had")), "{said}");
        assert!(listen(Some(0)).is_err());
        let (first, one) = listen(None).unwrap();
        let (_second, other) = listen(None).unwrap();
        assert_ne!(one, other);
        assert!(first.iter().all(|listener| Listener::new(listener.as_fd().try_clone_to_owned().unwrap()).is_ok()));
        TcpStream::connect((Ipv4Addr::LOCALHOST, one)).unwrap();
    }
}
