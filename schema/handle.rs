//! The table that describes the descriptors of a message.

use crate::HANDLES_MAX;

/// The kind of kernel object behind a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// A sealed memfd.
    Region = 1,
    /// An eventfd.
    Wake = 2,
    /// A regular file or block device, opened afresh for its holder.
    File = 3,
    /// An end of a pipe.
    Stream = 4,
    /// One end of a SEQPACKET pair.
    Channel = 5,
    /// The end from which new channels are made.
    Connect = 6,
    /// A tap network interface.
    Tap = 7,
    /// `/dev/kvm`.
    Kvm = 8,
    /// One end of a SEQPACKET pair that carries data alone, never descriptors.
    Packets = 9,
    /// A connected unix stream socket.
    Socket = 10,
    /// A TCP socket that listens on a loopback address.
    Listener = 11,
}

/// What the holder of a descriptor may do with it. Rights only shrink; each is enforced by the kernel object itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(pub u32);

impl Rights {
    /// Read bytes.
    pub const READ: Rights = Rights(1);
    /// Write bytes.
    pub const WRITE: Rights = Rights(2);
    /// Map as memory.
    pub const MAP: Rights = Rights(4);
    /// Add to a wake.
    pub const SIGNAL: Rights = Rights(8);
    /// Sleep on a wake.
    pub const WAIT: Rights = Rights(16);
    /// The content can never change again.
    pub const FROZEN: Rights = Rights(32);

    /// Every right there is.
    pub const ALL: Rights = Rights(63);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
    /// Whether every right of `other` is in `self`.
    #[must_use]
    pub const fn covers(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One descriptor of a datagram, as its sender claims it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// Index of the descriptor in the datagram.
    pub slot: u8,
    /// Claimed kind.
    pub kind: Kind,
    /// Claimed rights.
    pub rights: Rights,
    /// Claimed size in bytes, for regions; otherwise zero.
    pub size: u64,
}

/// The descriptors that a body names, in the order of its fields.
///
/// Those beyond [`HANDLES_MAX`] are counted and not kept: such a body is refused whatever they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handles {
    kept: [Option<Handle>; HANDLES_MAX],
    named: usize,
}

impl Handles {
    /// How many the body names, also when those are too many.
    pub fn len(&self) -> usize {
        self.named
    }

    /// Whether the body names none.
    pub fn is_empty(&self) -> bool {
        self.named == 0
    }

    /// Those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Handle> {
        self.kept[..self.named.min(HANDLES_MAX)].iter().flatten()
    }
}

impl FromIterator<Handle> for Handles {
    fn from_iter<I: IntoIterator<Item = Handle>>(handles: I) -> Handles {
        let mut all = Handles::default();
        for handle in handles {
            if let Some(place) = all.kept.get_mut(all.named) {
                *place = Some(handle);
            }
            all.named += 1;
        }
        all
    }
}

/// Event, over a connect capability alone: an end of a new channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The end.
    pub end: Handle,
}

/// A buffer of one call: part of a region that the callee holds already. It ends with the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The callee's own key of the region.
    pub region: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// What the callee may do: [`Rights::READ`], [`Rights::WRITE`] or both.
    pub rights: Rights,
}
