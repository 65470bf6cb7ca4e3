//! What happens when the receiver's own descriptor table is full. A test program of its own: the limit is the process's.

mod raw;

use imc::{Fault, Wake};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use raw::{EVENT, datagram, descriptors, pair};
use schema::host::Hello;
use std::os::fd::AsFd;
use std::time::Duration;

#[test]
fn descriptors_that_do_not_fit_are_a_fault_and_those_that_did_are_closed() {
    let (mut channel, peer) = pair();
    let wake = Wake::create().unwrap();
    let before = descriptors();
    peer.send(&datagram(EVENT, 0, 8, &Hello { protocol: 1 }), &[wake.as_fd(); 8]);

    // Room for two more.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, before as u64 + 2, hard).unwrap();
    let fault = channel.receive(Some(Duration::from_secs(5))).unwrap_err();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();

    assert_eq!(fault, Fault::Truncated);
    assert_eq!(descriptors(), before);
}
