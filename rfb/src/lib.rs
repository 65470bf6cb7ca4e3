//! The remote framebuffer protocol, RFC 6143, as the server of one screen speaks it to its viewers: bytes in, bytes out.
//!
//! There is no socket here, no clock and no process: who has these hands a [`Viewer`] what came from its connection, sends on
//! what it has to say, and gives what a person did there, gathered in [`Hands`], to the guest. A viewer may be anybody who can
//! reach the port, so it is believed nothing: each of its messages is taken as it comes, in any pieces, and none makes a buffer
//! grow. Until it has answered the challenge of the [`Door`] it is shown nothing.
//!
//! Raw pixels are the one encoding, in tiles that have changed: viewers are on this machine, where bytes are cheaper than the
//! time to encode them, and a decoder of compressed pictures is not what a person should have to trust here.

mod door;
mod format;
mod hands;
mod keysym;
mod picture;
mod viewer;

pub use door::{CHALLENGE_BYTES, Door, GUESSES_MAX, GUESSES_PERIOD, PASSWORD_BYTES};
pub use hands::Hands;
pub use picture::{Picture, TILE};
pub use viewer::{Ended, OUTPUT_BYTES, Viewer};
