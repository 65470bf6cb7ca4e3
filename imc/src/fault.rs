//! What can go wrong between two processes, and whose fault it was.

use nix::errno::Errno;
use schema::BadBody;

/// Why a datagram, or a whole channel, was given up. All but [`Fault::PeerGone`], [`Fault::Deadline`] and [`Fault::Io`]
/// mean that the peer broke the protocol; after any of them the channel says nothing more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The first bytes are not those of a message.
    #[error("the datagram does not begin as a message does")]
    BadMagic,
    /// The header is of another version, or sets a flag that means nothing yet.
    #[error("the header has a version or flags that are not spoken here")]
    BadVersion,
    /// The datagram is longer than any message may be.
    #[error("the datagram is longer than {} bytes", crate::DATAGRAM_MAX)]
    Oversize,
    /// The datagram, or what travelled with it, did not arrive whole, or is not as long as its header says.
    #[error("the datagram or its descriptors did not arrive whole")]
    Truncated,
    /// Header, body and datagram do not agree, one to one, on the descriptors.
    #[error("header, body and datagram do not agree on the descriptors")]
    HandleCount,
    /// A descriptor's claimed kind is not one that may be sent here.
    #[error("a descriptor is claimed to be of a kind that is not taken here")]
    HandleKind,
    /// The claimed rights are not those of the kernel object, or not those that are due.
    #[error("a descriptor does not have the rights that it is claimed to have")]
    HandleRights,
    /// The kernel says that the descriptor is something else.
    #[error("a descriptor is not what it is claimed to be: {0}")]
    HandleObject(&'static str),
    /// Nobody here knows this message.
    #[error("message {0:#x} is not known here")]
    UnknownOrdinal(u16),
    /// The body is of another struct than the message's.
    #[error("the body is not of the message's type")]
    SchemaMismatch,
    /// The body breaks the schema.
    #[error(transparent)]
    BadBody(#[from] BadBody),
    /// A message of this type cannot come now.
    #[error("a message of this type cannot come now")]
    BadState,
    /// A reply to no call, or a call whose number is in use.
    #[error("the number of a call or reply is wrong")]
    BadTxid,
    /// More calls or events than the peer may have under way.
    #[error("more messages are under way than are allowed")]
    NoCredit,
    /// Nothing came in time.
    #[error("nothing came in time")]
    Deadline,
    /// The peer has closed its end, or died.
    #[error("the peer is gone")]
    PeerGone,
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Io(#[from] Errno),
}

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer understood and declined; its reason, untrusted text.
    #[error("refused: {0}")]
    Refused(String),
    /// The peer is gone: it exited or was killed.
    #[error("the peer is gone")]
    Gone,
    /// No answer by the deadline. An answer that comes later is dropped.
    #[error("no answer in time")]
    Late,
    /// The peer broke the protocol; the channel is closed.
    #[error("the peer broke the protocol: {0}")]
    Violation(Fault),
    /// Our own side failed: the message breaks the schema's bounds, or the kernel refused.
    #[error(transparent)]
    Failed(SendError),
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer does not read: its queue is full.
    #[error("the peer's queue is full")]
    Full,
    /// The peer is gone, or its channel was closed over a violation.
    #[error("the peer is gone")]
    Gone,
    /// The message breaks the schema's bounds.
    #[error(transparent)]
    Body(#[from] BadBody),
    /// The descriptors are not those that the body names, one to one.
    #[error("the descriptors are not those that the body names")]
    Handles,
    /// This call was answered before, or never made.
    #[error("no such call waits for an answer")]
    NotOwed,
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Io(#[from] Errno),
}
