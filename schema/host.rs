//! Between the supervisor and a device host.

use crate::Handle;
use crate::lane::Carrier;
use crate::manifest::Manifest;

/// The protocol that this program speaks.
pub const PROTOCOL: u16 = 1;
/// `Grant::device` of a grant that concerns the whole host.
pub const HOST_WIDE: u8 = 255;
/// Most devices in one host; also most devices of one VM, so that a group by class can hold them all.
pub const DEVICES_MAX: usize = 64;
/// Most options of one device: a manifest declares no more.
pub const OPTIONS_MAX: usize = crate::manifest::LIST_MAX;
/// Longest value of an option: it may be a path.
pub const VALUE_MAX: usize = 4096;
/// Bytes of the region between a host and its helper: a page of what is asked and answered, and room for data. A request of
/// the kernel's usual size, 4 KiB to 256 KiB, is one question.
pub const HELPER_REGION_BYTES: u64 = (4 << 10) + (256 << 10);
/// Longest network frame: a header of 14 bytes, a VLAN tag of 4, and 1500 of content. The checksum is not part of it.
pub const FRAME_MAX: usize = 1518;
/// Bytes for one frame in a ring: its length, the frame, and room up to a multiple of a cache line.
pub const FRAME_SLOT_BYTES: usize = 1536;
/// Frames in one ring; a power of two. As many as a window of TCP on a fast line has under way.
pub const FRAME_SLOTS: u32 = 256;
/// Bytes of the region of a net device: a page of indices, and the rings of what it sends and of what it receives.
pub const FRAMES_REGION_BYTES: u64 = (4 << 10) + 2 * FRAME_SLOTS as u64 * FRAME_SLOT_BYTES as u64;
/// The code with which a host ends whose helper has ended: a signal's handler has no other words.
pub const HELPER_GONE: i32 = 102;
/// Longest sentence of a log line, a refusal or a report. A longer one is cut when it is sent: it is for people.
pub const SENTENCE_MAX: usize = 400;

/// How strictly a host is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Level {
    /// A process, nothing more.
    Off = 1,
    /// Namespaces, empty root, no capabilities, limits.
    Process = 2,
    /// And a system call filter.
    Seccomp = 3,
    /// And nothing but read, write, exit and sigreturn.
    Strict = 4,
}

/// Host to supervisor, the first message: it is confined and may be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u16,
}

/// Call: be these devices. The reply is [`Manifests`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assign {
    /// How strictly to confine.
    pub level: Level,
    /// The devices, in the order that grants index.
    pub devices: Vec<Assignment>,
    /// A helper, where level `strict` needs one, is a thread of the host and not a process.
    pub threaded: bool,
}

/// One device that a host is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Catalogue name.
    pub device: String,
    /// Its options.
    pub options: Vec<Setting>,
    /// What its lane runs over.
    pub carrier: Carrier,
    /// Its next operation ended two incarnations: the device is reset, and that one answered as ones.
    pub poisoned: bool,
    /// What was exchanged since its state was left.
    pub exchanged: Option<Exchanged>,
}

/// A medium was exchanged while nobody served the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// The number of the bay that it is in.
    pub bay: u8,
    /// Though the guest may hold what was there.
    pub forced: bool,
}

/// One option's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Name of the option.
    pub name: String,
    /// Its value, unparsed.
    pub value: String,
}

/// Reply to [`Assign`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifests {
    /// One for each assignment, in order.
    pub manifests: Vec<Manifest>,
}

/// What a granted descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Purpose {
    /// Host-wide: the one eventfd a host sleeps on.
    Wake = 1,
    /// Host-wide: "my irq levels changed".
    Irq = 2,
    /// Request region of a lane.
    Request = 3,
    /// State region of a device.
    State = 4,
    /// Eventfd of the lane's waiter.
    Reply = 5,
    /// An MSI-X vector; `number` says which.
    Vector = 6,
    /// Guest memory; `base` is its guest address.
    Memory = 7,
    /// A file; `number` is the index of the wish.
    File = 8,
    /// The pair of rings; `number` is the index of the wish.
    Stream = 9,
    /// The relay's eventfd for the stream or the frames of wish `number`.
    Bell = 10,
    /// A switch; `number` is the index of the wish.
    Switch = 11,
    /// Memory of a direct range; `number` is the index of the wish.
    Direct = 12,
    /// A lane's end on the `socket` carrier.
    Packets = 13,
    /// The pipe by which entries come, on the `pipe` carrier.
    Asked = 14,
    /// The pipe by which answers go, on the `pipe` carrier.
    Answers = 15,
    /// What a host writes on the `virtio` carrier.
    AnswerRegion = 16,
    /// Host-wide, also to the helper: what it is asked, what it answers, and the bytes.
    HelperRegion = 17,
    /// Host-wide, also to the helper: the eventfd that the helper sleeps on.
    HelperWake = 18,
    /// Where a display draws what it shows; `number` is the index of the wish.
    Scanout = 19,
    /// The pair of frame rings, also to the net relay; `number` is the index of the wish.
    Frames = 20,
    /// To the net relay alone: the tap or socket that frames go to and come from.
    Network = 21,
    /// To the display relay alone: what a display has drawn, to read.
    Screen = 22,
    /// To the display relay alone: where viewers connect.
    Listener = 23,
    /// To the display relay alone: the eventfd by which it asks for a picture.
    Wanted = 24,
    /// To the display relay alone: what viewers are to know; 8 bytes, zeros at the end.
    Password = 25,
}

/// One capability handed to a device or its VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Index of the device; [`HOST_WIDE`] for the host itself.
    pub device: u8,
    /// What it is for.
    pub purpose: Purpose,
    /// Which one of several.
    pub number: u32,
    /// Guest address, for memory.
    pub base: u64,
    /// The descriptor.
    pub handle: Handle,
}

/// Call: at most eight grants. The reply is [`Empty`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// The grants.
    pub grants: Vec<Grant>,
}

/// Call: everything is granted; map, allocate, construct. The reply is [`Empty`] or a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach;

/// Call: install the filter. The reply, [`Empty`], is sent by the sealed process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal;

/// A reply with nothing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Empty;

/// The body of an error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub reason: String,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Severity {
    Error = 1,
    Warning = 2,
    Info = 3,
    Debug = 4,
}

/// A log line, from a host or the VMM. Untrusted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much it matters.
    pub severity: Severity,
    /// What happened.
    pub text: String,
}
