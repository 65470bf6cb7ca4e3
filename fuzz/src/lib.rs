//! What a hostile peer may send, as plain functions: each takes bytes, plays the peer with them, and asserts what must hold
//! whatever they are. libFuzzer calls them with bytes that it makes up (`fuzz_targets/`), and a test with all that were kept
//! (`tests/replay.rs`).

pub mod answers;
pub mod asked;
pub mod devices;
pub mod host;
pub mod memory;
pub mod messages;
pub mod receiver;
pub mod stream;
pub mod viewer;

mod heap;
mod input;
mod words;

/// Plays a peer with these bytes.
pub type Target = fn(&[u8]);

/// All targets.
pub const TARGETS: [(&str, Target); 11] = [
    ("messages", messages::run),
    ("receiver", receiver::run),
    ("memory", memory::run),
    ("host", host::run),
    ("asked", asked::run),
    ("socket", answers::socket),
    ("pipe", answers::pipe),
    ("virtio", answers::virtio),
    ("stream", stream::run),
    ("devices", devices::run),
    ("viewer", viewer::run),
];

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("there is a /proc").count()
}
