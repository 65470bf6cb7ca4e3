//! A device host that is against us: it sets itself up as an honest one and then breaks one rule of the lane or channel.
//!
//! Test-only. It stands in for `debug-exit`; the first port it is given says which rule.

// It writes raw words into shared memory and makes system calls that no library offers.
#![allow(unsafe_code)]

use device::Options;
use imc::{Channel, Mapping, ReadOnly, ReadWrite, Region, Wake};
use sandbox::{DescriptorKind, Held, Mode, Recipe};
use schema::host::{Assign, Attach, Empty, Grants, Hello, Level, Log, Manifests, PROTOCOL, Purpose, Seal, Severity};
use schema::manifest::Space;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What it does once it is sealed, by `(port - 0x5000) / 4`.
const MODES: [fn(&mut Host); 8] = [silent, sequence, levels, stuffed, flood, descriptors, dies, flicker];

/// What an honest host would have used.
struct Host {
    channel: Channel,
    request: Mapping,
    state: Mapping,
    wakes: Vec<Wake>,
}

fn main() {
    let channel = Channel::inherit(3).expect("a channel at 3");
    let (mut host, mode) = set_up(channel);
    mode(&mut host);
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn set_up(mut channel: Channel) -> (Host, fn(&mut Host)) {
    let mut confined = Some(sandbox::confine().expect("confined"));
    let mut recipe = None;
    channel.tell(&Hello { protocol: PROTOCOL }, &[]).expect("hello");
    let (mut request, mut state, mut wakes, mut mode) = (None, None, Vec::new(), MODES[0]);
    loop {
        let packet = channel.receive(None).expect("a message").expect("for ever");
        let call = packet.call.expect("the supervisor calls");
        if packet.is::<Assign>() {
            let (assign, _) = packet.decode::<Assign>().expect("an assignment");
            let device = &assign.devices[0];
            let entry =
                devices::catalogue().iter().find(|entry| entry.name == device.device).expect("in the catalogue");
            let options = device.options.iter().map(|option| (option.name.clone(), option.value.clone()));
            let manifest = (entry.manifest)(&Options::new(options)).expect("a manifest");
            if let Space::Port(first) = manifest.ranges[0].space {
                mode = MODES[usize::from(first - 0x5000) / 4];
            }
            // Its level has no filter; the rest of what an honest host does, the audit wants to see.
            recipe = Some(Recipe::host(Level::Process, std::slice::from_ref(&manifest)));
            channel.reply(call, &Manifests { manifests: vec![manifest] }, &[]).expect("manifests");
        } else if packet.is::<Grants>() {
            let (grants, mut descriptors) = packet.decode::<Grants>().expect("grants");
            for grant in grants.grants {
                use imc::Capability;
                let descriptor = descriptors.take(grant.handle.slot).expect("its descriptor");
                match grant.purpose {
                    Purpose::Request => {
                        let region = Region::<ReadOnly>::receive(descriptor, &grant.handle).expect("a region");
                        request = Some(region.map().expect("mapped"));
                    }
                    Purpose::State => {
                        let region = Region::<ReadWrite>::receive(descriptor, &grant.handle).expect("a region");
                        state = Some(region.map().expect("mapped"));
                    }
                    Purpose::Wake | Purpose::Irq | Purpose::Reply | Purpose::Switch => {
                        wakes.push(Wake::receive(descriptor, &grant.handle).expect("a wake"));
                    }
                    _ => {}
                }
            }
            channel.reply(call, &Empty, &[]).expect("granted");
        } else if packet.is::<Attach>() {
            channel.reply(call, &Empty, &[]).expect("attached");
        } else if packet.is::<Seal>() {
            let eventfd = |wake: &Wake| Held::new(wake.as_fd().as_raw_fd(), DescriptorKind::Eventfd, Mode::Both);
            let mut held: Vec<Held> = wakes.iter().map(eventfd).collect();
            held.push(Held::new(3, DescriptorKind::Channel, Mode::Both));
            let (confined, recipe) = (confined.take().expect("once"), recipe.take().expect("assigned"));
            let _sealed = confined.seal(&recipe, &held).expect("sealed");
            // The switch would end the machine by right: that is what it is for. It was granted last.
            std::mem::forget(wakes.pop());
            channel.reply(call, &Empty, &[]).expect("sealed");
            let (Some(request), Some(state)) = (request, state) else { panic!("no lane was granted") };
            return (Host { channel, request, state, wakes }, mode);
        }
    }
}

impl Host {
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.state.len());
        // SAFETY: in bounds, aligned, and only accessed atomically here.
        unsafe { AtomicU64::from_ptr(self.state.as_ptr().add(offset).cast()) }
    }

    /// The latest sequence that the VMM has published.
    fn published(&self) -> u32 {
        let mut latest = 0u32;
        for entry in 0..32 {
            // SAFETY: the request region is a page with 32 entries in its second half; each begins with an aligned word.
            let word = unsafe { &*self.request.as_ptr().add(2048 + entry * 64).cast::<AtomicU64>() };
            latest = latest.max(word.load(Ordering::Relaxed) as u32);
        }
        latest
    }

    fn wake_all(&self) {
        for wake in self.wakes.iter().filter(|wake| wake.has_room()) {
            let _ = wake.signal(1);
        }
    }
}

/// Answers nothing.
fn silent(_: &mut Host) {}

/// Says that it has done what was never asked.
fn sequence(host: &mut Host) {
    loop {
        host.word(0).store(0x1234_5678 << 32 | 1, Ordering::SeqCst);
        host.wake_all();
        std::thread::yield_now();
    }
}

/// Raises lines that it does not have, and claims deadlines long past and masks that allow everything.
fn levels(host: &mut Host) {
    for round in 0u64.. {
        for offset in (256..512).step_by(8) {
            host.word(offset).store(if round % 2 == 0 { u64::MAX } else { 0 }, Ordering::Relaxed);
        }
        commit_all(host, round);
        host.wake_all();
    }
}

/// Says that everything asked is done, with whatever is in the header.
fn commit_all(host: &Host, round: u64) {
    let sequence = u64::from(host.published());
    fence(Ordering::SeqCst);
    host.word(0).store(sequence << 32 | (round & 0xffff_ffff), Ordering::SeqCst);
}

/// Fills every eventfd that it holds.
fn stuffed(host: &mut Host) {
    for wake in &host.wakes {
        let full = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: eight bytes of a live local. Where it would block for want of room it may: nobody waits for us.
        unsafe {
            let descriptor = wake.as_fd().as_raw_fd();
            let flags = libc::fcntl(descriptor, libc::F_GETFL);
            libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK);
            libc::write(descriptor, full.as_ptr().cast(), 8);
        }
    }
}

/// Logs as fast as it can, then says what is no message.
fn flood(host: &mut Host) {
    let log = Log { severity: Severity::Warning, text: "\u{1b}[2J spam".repeat(20) };
    for _ in 0..20_000 {
        if host.channel.tell(&log, &[]).is_err() {
            std::thread::yield_now();
        }
    }
    let nonsense = [0x5a; 64];
    // SAFETY: sends bytes of a live local over our channel.
    unsafe { libc::send(3, nonsense.as_ptr().cast(), nonsense.len(), 0) };
}

/// Sends a descriptor, which no host may.
fn descriptors(host: &mut Host) {
    let log = Log { severity: Severity::Info, text: "a gift".into() };
    let gift = host.wakes[0].as_fd().as_raw_fd();
    let _ = host.channel.tell(&log, &[host.wakes[0].as_fd()]);
    let mut message = [0u8; 32];
    message[..4].copy_from_slice(b"IMC1");
    let mut bytes = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
    let mut control = [0u64; 3];
    // SAFETY: all pointers are to live locals of the sizes given; the control buffer holds one header and one descriptor.
    unsafe {
        let mut packet: libc::msghdr = std::mem::zeroed();
        packet.msg_iov = &mut bytes;
        packet.msg_iovlen = 1;
        packet.msg_control = control.as_mut_ptr().cast();
        packet.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&packet);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(gift);
        libc::sendmsg(3, &packet, 0);
    }
}

/// Ends at the first access.
fn dies(host: &mut Host) {
    while host.published() == 0 {
        std::thread::yield_now();
    }
    std::process::exit(7);
}

/// Answers everything, and changes every word of the header while it is being read.
fn flicker(host: &mut Host) {
    let mut value = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0u64.. {
        for offset in (256..512).step_by(8) {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            host.word(offset).store(value, Ordering::Relaxed);
        }
        commit_all(host, round);
        if round % 64 == 0 {
            host.wake_all();
        }
    }
}
