//! Where lines come from and go to: standard input and output, or a socket that we listen at or connect to.

use super::inherited::inherited;
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Bytes taken at once.
const READ_BYTES: usize = 64 * 1024;
/// Longest line or message: one that writes as much memory as a command may, in hexadecimal, and some more.
const PENDING_MAX: usize = 160 << 20;

/// A way to somebody, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Our standard input and output.
    Stdio,
    /// A socket that somebody else listens at.
    Connect(PathBuf),
    /// A socket that we listen at: one peer at a time.
    Listen(PathBuf),
    /// A connected socket that whoever started us has left open, by its number.
    Inherited(i32),
}

/// A link, and who is at its other end.
pub struct Port {
    listener: Option<(UnixListener, PathBuf)>,
    peer: Option<Peer>,
}

struct Peer {
    input: OwnedFd,
    output: File,
    pending: Vec<u8>,
}

/// What became of a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody came.
    Came,
    /// Something was said; or nothing.
    Said,
    /// Who was there is gone.
    Left,
}

impl Port {
    /// Opens it.
    pub fn open(link: &Link) -> Result<Port> {
        match link {
            Link::Stdio => {
                let input = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
                let output = std::io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
                Ok(Port { listener: None, peer: Some(Peer { input, output: output.into(), pending: Vec::new() }) })
            }
            Link::Connect(path) => {
                let stream =
                    UnixStream::connect(path).with_context(|| format!("{}: nobody listens", path.display()))?;
                Ok(Port { listener: None, peer: Some(Peer::of(stream)?) })
            }
            Link::Inherited(number) => Ok(Port { listener: None, peer: Some(Peer::of(inherited(*number)?)?) }),
            Link::Listen(path) => {
                let bound = UnixListener::bind(path);
                let listener = bound.with_context(|| format!("{}: a socket cannot be made there", path.display()))?;
                Ok(Port { listener: Some((listener, path.clone())), peer: None })
            }
        }
    }

    /// What to poll.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        match (&self.peer, &self.listener) {
            (Some(peer), _) => Some(peer.input.as_fd()),
            (None, Some((listener, _))) => Some(listener.as_fd()),
            (None, None) => None,
        }
    }

    /// Whether somebody is there, or may come.
    pub fn is_open(&self) -> bool {
        self.source().is_some()
    }

    /// Whether somebody is there.
    pub fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Takes what there is. Call when the source polls readable, or at any other time.
    pub fn look(&mut self) -> Heard {
        let readable = |fd: BorrowedFd<'_>| {
            let mut polled = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
            matches!(nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO), Ok(1))
        };
        let Some(peer) = &mut self.peer else {
            let Some((listener, _)) = &self.listener else { return Heard::Said };
            if readable(listener.as_fd())
                && let Ok((stream, _)) = listener.accept()
            {
                self.peer = Peer::of(stream).ok();
                return if self.peer.is_some() { Heard::Came } else { Heard::Said };
            }
            return Heard::Said;
        };
        if !readable(peer.input.as_fd()) {
            return Heard::Said;
        }
        let mut bytes = vec![0; READ_BYTES];
        match nix::unistd::read(&peer.input, &mut bytes) {
            Ok(count) if count > 0 && peer.pending.len() + count <= PENDING_MAX => {
                peer.pending.extend_from_slice(&bytes[..count]);
                Heard::Said
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Heard::Said,
            _ => {
                self.peer = None;
                Heard::Left
            }
        }
    }

    /// The whole lines that were said.
    pub fn lines(&mut self) -> Vec<String> {
        let Some(peer) = &mut self.peer else { return Vec::new() };
        let Some(end) = peer.pending.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = peer.pending.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    /// What was said, all of it; the caller takes from its beginning.
    pub fn pending(&mut self) -> Option<&mut Vec<u8>> {
        self.peer.as_mut().map(|peer| &mut peer.pending)
    }

    /// Says something to whoever is there.
    pub fn say(&mut self, text: &str) {
        if let Some(peer) = &mut self.peer
            && peer.output.write_all(text.as_bytes()).and_then(|()| peer.output.flush()).is_err()
        {
            self.peer = None;
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.listener {
            let _ = std::fs::remove_file::<&Path>(path);
        }
    }
}

impl Peer {
    fn of(stream: UnixStream) -> Result<Peer> {
        let input = OwnedFd::from(stream.try_clone()?);
        Ok(Peer { input, output: File::from(OwnedFd::from(stream)), pending: Vec::new() })
    }
}
