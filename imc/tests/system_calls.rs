//! A call is one send and one receive on each side, and nothing else.

use imc::Channel;
use schema::host::Hello;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
const CALLS: u16 = 100;

/// Takes from this thread every system call by which it could look, wait, arrange or allocate. A receive that did not wait
/// by itself would have to.
fn only_send_and_receive() {
    let taken = [
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_select,
        libc::SYS_pselect6,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_sched_yield,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_setsockopt,
        libc::SYS_getsockopt,
        libc::SYS_fcntl,
        libc::SYS_ioctl,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_read,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_brk,
    ];
    let rules: BTreeMap<_, _> = taken.into_iter().map(|call| (call, vec![])).collect();
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[test]
fn call_and_answer_need_nothing_but_sending_and_receiving() {
    let (mut client, mut server) = Channel::pair().unwrap();
    let mut answer = move || {
        let packet = server.receive(None).unwrap().unwrap();
        let call = packet.call.unwrap();
        let (hello, _) = packet.decode::<Hello>().unwrap();
        server.reply(call, &hello, &[]).unwrap();
    };
    let serving = std::thread::spawn(move || {
        answer();
        only_send_and_receive();
        (0..CALLS).for_each(|_| answer());
    });
    let calling = std::thread::spawn(move || {
        let mut call = |protocol| {
            let (hello, _) = client.call::<_, Hello>(&Hello { protocol }, &[], SOON).unwrap();
            assert_eq!(hello.protocol, protocol);
        };
        // The first call with another deadline tells the kernel of it.
        call(0);
        only_send_and_receive();
        (1..=CALLS).for_each(&mut call);
    });
    calling.join().unwrap();
    serving.join().unwrap();
}
