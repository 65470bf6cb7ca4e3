//! Shared memory as its other holder sees it: through the file, not through any of our types.

use imc::{ReadWrite, Region};
use nix::sys::uio;

/// Stores a word, as a peer may at any time.
pub fn store(region: &Region<ReadWrite>, at: u64, word: u64) {
    uio::pwrite(region, &word.to_le_bytes(), at as i64).expect("the place is inside");
}

/// Loads a word.
pub fn load(region: &Region<ReadWrite>, at: u64) -> u64 {
    let mut word = [0; 8];
    uio::pread(region, &mut word, at as i64).expect("the place is inside");
    u64::from_le_bytes(word)
}

/// Makes the region what it was when new.
pub fn clear(region: &Region<ReadWrite>) {
    let zeros = vec![0; region.bytes() as usize];
    uio::pwrite(region, &zeros, 0).expect("a region takes its size");
}
