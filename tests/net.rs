//! Frames between a guest and a real tap, in a network namespace of the test, while their processes are killed.
//!
//! The guest sends back what it gets. Frames go through the tap, the net relay, the rings, the card's host and guest memory, and
//! all that way back.
#![allow(unsafe_code)] // A packet socket, which no library here has.

mod harness;

use harness::{Place, Vm, echo_guest, kvm, send};
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The guest ends with this code when it was told to; the program then ends with twice that and one more.
const RIGHT: i32 = 2 * 32 + 1;
const TAP: &str = "cofferdam0";
/// The type of frames of the test (IEEE: for local experiments).
const TYPE: u16 = 0x88b5;
const GUEST: [u8; 6] = [0x02, 0, 0, 0, 0, 7];
const TEST: [u8; 6] = [0x02, 0, 0, 0, 0, 8];
/// A frame that was not lost comes back within this, on the busiest machine, whatever is started anew meanwhile.
const COMES_BACK: Duration = Duration::from_secs(20);
/// One that may be lost is sent again after this.
const AGAIN: Duration = Duration::from_millis(300);

/// How often the card's host is killed, and its relay.
const HOST_KILLS: u32 = 50;
const RELAY_KILLS: u32 = 20;

/// Takes this thread, and what it starts, into a network of its own. False: that is not allowed, and was said.
fn alone() -> bool {
    // SAFETY: no memory is passed.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 && std::path::Path::new("/dev/net/tun").exists();
    if !left {
        println!("SKIPPED: a network namespace with a tap cannot be made here");
    }
    left && kvm()
}

/// The kernel's end of the tap.
struct Cable(OwnedFd);

impl Cable {
    /// Waits until the supervisor has made the interface, switches it on, and listens there.
    fn plug() -> Cable {
        // SAFETY: no memory is passed.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, TYPE.to_be().into()) };
        assert!(socket >= 0, "a packet socket: {}", Error::last_os_error());
        // SAFETY: it was just made, and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let name = std::ffi::CString::new(TAP).unwrap();
        let mut index = 0;
        harness::wait_until("the tap is there", || {
            // SAFETY: the name ends with a zero.
            index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            index != 0
        });
        // SAFETY: all of `ifreq` may be zero.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(TAP.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which outlives the call.
        let up = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
        assert_eq!(up, 0, "switching the tap on: {}", Error::last_os_error());
        // SAFETY: all of `sockaddr_ll` may be zero.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = TYPE.to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: the address outlives the call, and has this size.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        assert_eq!(bound, 0, "listening at the tap: {}", Error::last_os_error());
        Cable(socket)
    }

    fn send(&self, content: &[u8]) {
        assert!(self.try_send(content), "sending: {}", Error::last_os_error());
    }

    /// False: there is nobody at the other end any more.
    fn try_send(&self, content: &[u8]) -> bool {
        let frame = [&GUEST[..], &TEST, &TYPE.to_be_bytes(), content].concat();
        // SAFETY: the frame outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        sent == frame.len() as isize
    }

    /// The content of the next frame that comes back within `wait`.
    fn receive(&self, wait: Duration) -> Option<Vec<u8>> {
        let timeout = libc::timeval { tv_sec: wait.as_secs() as _, tv_usec: wait.subsec_micros() as _ };
        let mut frame = [0; 2048];
        // SAFETY: the timeout and the frame outlive the calls, and have these sizes.
        let received = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                size_of::<libc::timeval>() as u32,
            );
            libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0)
        };
        if received < 0 {
            assert_eq!(Error::last_os_error().kind(), ErrorKind::WouldBlock);
            return None;
        }
        assert_eq!((&frame[..6], &frame[6..12]), (&TEST[..], &GUEST[..]), "it comes from whom it was sent to");
        Some(frame[14..received as usize].to_vec())
    }
}

/// Content number `number`: of any length that a frame may have.
fn content(number: u32) -> Vec<u8> {
    let length = 46 + number as usize * 37 % 1455;
    let mut bytes: Vec<u8> = (0..length).map(|at| (at as u32).wrapping_mul(number | 1) as u8).collect();
    bytes[..4].copy_from_slice(&(number << 8).to_be_bytes());
    bytes
}

fn start<'a>(place: &'a Place, words: &[&str]) -> Vm<'a> {
    let nic = format!("rtl8139,tap={TAP},mac=02:00:00:00:00:07");
    let mut all = vec!["--nic", &nic, "--device", "debug-exit", "--restart", "1000000"];
    all.extend(words);
    let vm = place.start("echo", &echo_guest(), &all);
    vm.wait_until_running();
    vm
}

/// Tells the guest to end, and looks that it does and that all was right.
fn end(mut vm: Vm<'_>, cable: &Cable) {
    let until = Instant::now() + COMES_BACK;
    while harness::lives(vm.pid().into()) && Instant::now() < until && cable.try_send(&[b'Q'; 46]) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(vm.wait(), Some(RIGHT), "{}", vm.errors());
}

/// The process number that `ps` has for a row of this VM.
fn pid_of(vm: &Vm<'_>, name: &str) -> i32 {
    vm.host(name)["pid"].as_i64().expect("a number") as i32
}

fn frames_come_back(words: &[&str]) {
    let place = Place::new();
    let vm = start(&place, words);
    let cable = Cable::plug();
    for number in 0..200 {
        cable.send(&content(number));
        assert_eq!(cable.receive(COMES_BACK).as_deref(), Some(&content(number)[..]), "frame {number}");
    }
    let differences: Vec<_> = vm.hosts().iter().map(|row| row["differences"].clone()).collect();
    assert!(differences.iter().all(|row| row.as_array().is_none_or(Vec::is_empty)), "{differences:?}");
    end(vm, &cable);
}

#[test]
fn frames_go_to_a_guest_and_come_back_whole() {
    if alone() {
        frames_come_back(&[]);
    }
}

#[test]
fn frames_that_come_faster_than_they_go_come_back_whole_and_in_order() {
    if !alone() {
        return;
    }
    let place = Place::new();
    let vm = start(&place, &[]);
    let cable = Cable::plug();
    let mut number = 0;
    for burst in [2, 9, 17, 40, 100, 300] {
        let first = number;
        for _ in 0..burst {
            cable.send(&content(number));
            number += 1;
        }
        for expected in first..number {
            assert_eq!(cable.receive(COMES_BACK).as_deref(), Some(&content(expected)[..]), "frame {expected}");
        }
    }
    end(vm, &cable);
}

#[test]
fn frames_come_back_at_level_strict() {
    if alone() {
        frames_come_back(&["--sandbox", "strict"]);
    }
}

#[test]
fn frames_come_back_from_a_card_that_is_linked_into_the_vmm() {
    if alone() {
        frames_come_back(&["--isolate", "none"]);
    }
}

#[test]
fn frames_come_back_over_sockets() {
    if alone() {
        frames_come_back(&["--carrier", "socket"]);
    }
}

#[test]
fn host_that_is_killed_loses_and_doubles_no_frame() {
    if !alone() {
        return;
    }
    let place = Place::new();
    let vm = start(&place, &[]);
    let cable = Cable::plug();
    let mut number = 0;
    for kill in 0..HOST_KILLS {
        let pid = pid_of(&vm, "rtl8139");
        // Some are on their way when it ends.
        let first = number;
        for _ in 0..8 {
            cable.send(&content(number));
            number += 1;
        }
        std::thread::sleep(Duration::from_micros(u64::from(kill) * 317 % 6000));
        send(pid, libc::SIGKILL);
        for expected in first..number {
            assert_eq!(cable.receive(COMES_BACK).as_deref(), Some(&content(expected)[..]), "frame {expected}");
        }
    }
    assert_eq!(cable.receive(AGAIN), None, "and no more");
    println!("{} restarts", vm.host("rtl8139")["restarts"]);
    end(vm, &cable);
}

#[test]
fn relay_that_is_killed_loses_frames_at_most_and_another_one_goes_on() {
    if !alone() {
        return;
    }
    let place = Place::new();
    let vm = start(&place, &[]);
    let cable = Cable::plug();
    let mut lost = 0;
    for number in 0..RELAY_KILLS {
        let pid = pid_of(&vm, "rtl8139 net relay");
        cable.send(&content(number));
        send(pid, libc::SIGKILL);
        let until = Instant::now() + COMES_BACK;
        // What comes may be an earlier one that is doubled.
        while cable.receive(AGAIN).is_none_or(|seen| seen != content(number)) {
            assert!(Instant::now() < until, "frame {number} does not come back; {}", vm.errors());
            cable.send(&content(number));
            lost += 1;
        }
        harness::wait_until("another relay runs", || {
            vm.host("rtl8139 net relay")["state"] == "running" && pid_of(&vm, "rtl8139 net relay") != pid
        });
    }
    println!("{lost} frames sent again");
    end(vm, &cable);
}

#[test]
fn tap_that_cannot_be_had_is_said_with_what_to_do() {
    let place = Place::new();
    let guest = place.file("guest", &echo_guest());
    let output = place.run(&["run", "--flat", guest.to_str().unwrap(), "--nic", "rtl8139,tap=a/b"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(harness::text(&output.stderr).contains("an interface's name"), "{}", harness::text(&output.stderr));
    let output = place.run(&["run", "--flat", guest.to_str().unwrap(), "--nic", "rtl8139"]);
    assert_eq!(output.status.code(), Some(2));
}
