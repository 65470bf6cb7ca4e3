//! The whole VMM in a thread, driven over its channel as the supervisor does it.

use crate::testing::{
    ALARM_MS, DEAF, EXIT, HANG, LATER, LEVELS, PATIENCE, Rig, SCRATCH, TOY_BYTES, VECTOR, file, pci_toy, toy, wish,
};
use imc::{Capability, Kvm};
use schema::host::Empty;
use schema::manifest::{Manifest, Power, Range, Space};
use schema::vmm::{Boot, Counted, Counters, Drive, Driven, Machine, Reason, Renew, Retire, Start, Stopped};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const PORT: u64 = 0x500;
const OTHER: u64 = 0x600;
const WINDOW: u64 = 0xd000_0000;

fn two_toys() -> Rig {
    Rig::running(&[toy("first", Space::Port(PORT as u16)), toy("second", Space::Memory(WINDOW))])
}

#[test]
fn access_reaches_the_device_behind_its_address() {
    let mut rig = two_toys();
    rig.store(true, PORT + SCRATCH, 4, 0x1234_5678);
    rig.store(false, WINDOW + SCRATCH, 2, 0x1_0041);
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 0x1234_5679);
    assert_eq!(rig.load(true, PORT + SCRATCH, 1), 0x79);
    assert_eq!(rig.load(false, WINDOW + SCRATCH, 8), 0x42);
    let counted = rig.counted();
    assert_eq!((counted.devices[0].lane, counted.devices[1].lane, counted.exits), (3, 2, 0));
    rig.end().unwrap();
}

#[test]
fn access_that_nobody_answers_is_ones_and_one_to_memory_is_memory() {
    let mut rig = two_toys();
    assert_eq!(rig.load(true, 0x700, 2), 0xffff);
    assert_eq!(rig.load(true, PORT + TOY_BYTES - 2, 4), 0xffff_ffff);
    assert_eq!(rig.load(false, 0xe000_0000, 8), u64::MAX);
    rig.store(true, 0x700, 1, 0);
    rig.store(false, 0x1000, 4, 0xa5a5_0001);
    assert_eq!(rig.load(false, 0x1002, 2), 0xa5a5);
    let odd = Drive { write: false, port: true, address: PORT, width: 8, value: 0 };
    assert!(rig.ask::<_, Driven>(&odd, &[]).unwrap_err().contains("no such access"));
}

#[test]
fn committed_level_is_applied_before_the_access_completes() {
    let mut rig = two_toys();
    rig.store(true, PORT + LEVELS, 4, 1);
    assert_eq!(rig.counted().devices[0].interrupts, 1);
    rig.store(true, PORT + LEVELS, 4, 0);
    rig.store(true, PORT + LEVELS, 4, 0);
    assert_eq!(rig.counted().devices[0].interrupts, 2);
}

#[test]
fn level_that_changes_of_its_own_accord_is_applied() {
    let mut rig = two_toys();
    rig.store(true, PORT + LATER, 4, 0);
    assert_eq!(rig.counted().devices[0].interrupts, 0);
    rig.until("the interrupt", |rig| rig.counted().devices[0].interrupts == 1);
}

#[test]
fn alarm_comes_at_its_deadline_and_not_before() {
    let mut rig = two_toys();
    let start = Instant::now();
    rig.store(true, PORT + ALARM_MS, 4, 60);
    rig.until("the alarm", |rig| rig.counted().devices[0].interrupts == 1);
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(rig.load(true, PORT + ALARM_MS, 4), 1, "once");
}

#[test]
fn alarms_of_two_devices_come_at_their_own_deadlines() {
    let mut rig = two_toys();
    rig.store(true, PORT + ALARM_MS, 4, 3_600_000);
    let start = Instant::now();
    rig.store(false, WINDOW + ALARM_MS, 4, 20);
    rig.until("the alarm", |rig| rig.counted().devices[1].interrupts == 1);
    assert!(start.elapsed() < PATIENCE / 2);
    assert_eq!(rig.counted().devices[0].interrupts, 0);
}

#[test]
fn device_that_does_not_answer_is_given_up_and_the_others_go_on() {
    let mut rig = two_toys();
    rig.store(true, PORT + LEVELS, 4, 1);
    rig.store(true, PORT + HANG, 4, 0);
    let late = rig.late();
    assert_eq!((late.host, late.violation), (0, false));
    assert!(late.text.contains("first"), "{}", late.text);
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 0xffff_ffff);
    rig.store(false, WINDOW + SCRATCH, 4, 8);
    assert_eq!(rig.load(false, WINDOW + SCRATCH, 4), 9);
    let counted = rig.counted();
    assert_eq!(counted.devices[0].ones, 2);
    assert_eq!(counted.devices[0].interrupts, 2, "the level of a dead device is low");
}

#[test]
fn hub_answers_while_an_access_waits_for_a_device() {
    let mut rig = Rig::started(
        Machine { deadline_ms: 3000, ..Rig::without_kvm() },
        &[],
        &[toy("first", Space::Port(PORT as u16))],
    );
    let hang = Drive { write: true, port: true, address: PORT + HANG, width: 4, value: 0 };
    let start = Instant::now();
    let _ = rig.channel.call::<_, Driven>(&hang, &[], Duration::from_millis(50)).unwrap_err();
    let _: Counted = rig.ask(&Counters, &[]).unwrap();
    rig.channel.tell(&Retire { host: 0, why: "the test says so".to_owned() }, &[]).unwrap();
    rig.until("the retired lane's waiter", |rig| rig.counted().devices[0].ones == 1);
    assert!(start.elapsed() < Duration::from_millis(2500), "it waited for the deadline");
}

#[test]
fn unanswered_alarm_gives_the_host_up() {
    let mut rig = two_toys();
    rig.store(true, PORT + ALARM_MS, 4, 30);
    rig.store(true, PORT + DEAF, 4, 0);
    let late = rig.late();
    assert_eq!((late.host, late.violation), (0, false));
    assert!(late.text.contains("alarm"), "{}", late.text);
    assert_eq!(rig.load(true, PORT + SCRATCH, 1), 0xff);
    assert_eq!(rig.load(false, WINDOW + SCRATCH, 1), 1);
}

#[test]
fn retired_host_reads_as_ones() {
    let mut rig = two_toys();
    rig.store(false, WINDOW + LEVELS, 4, 1);
    rig.channel.tell(&Retire { host: 1, why: "killed".to_owned() }, &[]).unwrap();
    rig.until("ones", |rig| rig.load(false, WINDOW + SCRATCH, 4) == 0xffff_ffff);
    assert_eq!(rig.counted().devices[1].interrupts, 2);
    assert_eq!(rig.load(true, PORT + SCRATCH, 1), 1);
}

#[test]
fn switch_ends_the_run_with_its_number() {
    for number in [0, 1, 0xffff_fffe] {
        let mut rig = two_toys();
        rig.store(true, PORT + EXIT, 4, number);
        let text = "first: the guest asks for an end with a number".to_owned();
        assert_eq!(rig.stopped(), Stopped { reason: Reason::Exit, code: number as u32, text });
        rig.counted();
        rig.end().unwrap();
    }
}

#[test]
fn hosts_finish_before_the_end_is_told() {
    let mut rig = two_toys();
    rig.store(false, WINDOW + LATER, 4, 0);
    rig.store(true, PORT + EXIT, 4, 3);
    assert_eq!(rig.stopped().code, 3);
    assert_eq!(rig.counted().devices[1].lane, 2, "the other device was asked to finish");
}

/// A register of the configuration space of the function in slot 2, loaded or stored.
fn config(rig: &mut Rig, register: u64, value: Option<u64>) -> u64 {
    rig.store(true, 0xcf8, 4, 1 << 31 | 2 << 11 | register);
    match value {
        Some(value) => {
            rig.store(true, 0xcfc, 4, value);
            value
        }
        None => rig.load(true, 0xcfc, 4),
    }
}

#[test]
fn message_of_a_vector_is_stored_to_guest_memory() {
    const TARGET: u64 = 0x3000;
    let mut rig = Rig::running(&[pci_toy("function")]);
    assert_eq!(config(&mut rig, 0, None), 0x0001_1b36);
    let (registers, table) = (config(&mut rig, 0x10, None), config(&mut rig, 0x14, None));
    assert_eq!(rig.load(false, registers, 4), 0xffff_ffff, "not decoded yet");
    config(&mut rig, 4, Some(0b110));
    assert_eq!(rig.load(false, registers + SCRATCH, 4), 1);

    let capability = config(&mut rig, 0x34, None) & 0xff;
    assert_eq!(config(&mut rig, capability, None) & 0xff, 0x11, "MSI-X");
    rig.store(false, registers + VECTOR, 4, 0);
    rig.store(false, table, 8, TARGET);
    rig.store(false, table + 8, 4, 0x4041);
    assert_eq!(rig.load(false, table + 2048, 8), 1, "pending");
    rig.store(false, registers + LEVELS, 4, 1);
    assert_eq!(rig.counted().devices[0].interrupts, 1);
    config(&mut rig, capability, Some(1 << 31));
    assert_eq!(rig.counted().devices[0].interrupts, 2, "the pin is quiet once messages are enabled");
    assert_eq!(rig.load(false, TARGET, 4), 0, "masked");
    rig.store(false, table + 12, 4, 0);
    rig.until("the message", |rig| rig.load(false, TARGET, 4) == 0x4041);
    rig.store(false, TARGET, 4, 0);
    rig.store(false, registers + VECTOR, 4, 0);
    rig.until("another", |rig| rig.load(false, TARGET, 4) == 0x4041);
    assert_eq!(rig.load(false, table + 2048, 8), 0);
}

#[test]
fn direct_range_is_memory_of_the_device() {
    let screen = Manifest {
        ranges: vec![Range { name: "screen".to_owned(), length: 4096, space: Space::Memory(WINDOW) }],
        wishes: vec![wish(Power::Direct, None, 4096)],
        ..crate::testing::manifest("screen")
    };
    let mut rig = Rig::running(&[screen]);
    rig.store(false, WINDOW + 0xff8, 8, 0x0102_0304_0506_0708);
    assert_eq!(rig.load(false, WINDOW + 0xffc, 2), 0x0304);
    assert_eq!(rig.counted().devices[0].lane, 0);
}

#[test]
fn range_in_guest_memory_is_refused_outside_the_bus_window() {
    for base in [0x9_ffe0, 0x9_fff0, 0xb_fff0, 0xc_0000, 0x10_0000] {
        let mut rig = Rig::greeted();
        rig.ask::<_, Empty>(&Rig::without_kvm(), &[]).unwrap();
        rig.give_memory(2 << 20).unwrap();
        let sentence = rig.attach(&toy("toy", Space::Memory(base))).unwrap_err();
        assert!(sentence.contains("lies in guest memory"), "{base:#x}: {sentence}");
    }
}

#[test]
fn bus_window_is_never_memory() {
    const DISPLAY: u64 = 0xa_0000;
    let mut rig = Rig::running(&[toy("display", Space::Memory(DISPLAY))]);
    rig.store(false, DISPLAY + SCRATCH, 4, 7);
    assert_eq!(rig.load(false, DISPLAY + SCRATCH, 4), 8);
    rig.store(false, 0xb_8000, 2, 0x0741);
    assert_eq!(rig.load(false, 0xb_8000, 2), 0xffff, "nobody is there");
    for memory in [0x9_fff8, 0xc_0000] {
        rig.store(false, memory, 8, 0x1234);
        assert_eq!(rig.load(false, memory, 8), 0x1234);
    }
}

#[test]
fn direct_range_moves_with_its_base_address_register() {
    let screen = Manifest {
        ranges: vec![Range { name: "screen".to_owned(), length: 4096, space: Space::Bar(0) }],
        wishes: vec![wish(Power::Direct, None, 4096)],
        vectors: 0,
        lines: Vec::new(),
        ..pci_toy("screen")
    };
    let mut rig = Rig::running(&[screen]);
    let first = config(&mut rig, 0x10, None);
    assert_eq!(rig.load(false, first, 4), 0xffff_ffff, "the guest has not mapped it");
    config(&mut rig, 4, Some(2));
    rig.store(false, first + 8, 4, 0x0102_0304);
    let second = first + 0x10_0000;
    config(&mut rig, 0x10, Some(second));
    assert_eq!(rig.load(false, first + 8, 4), 0xffff_ffff, "it has moved");
    assert_eq!(rig.load(false, second + 8, 4), 0x0102_0304);
    config(&mut rig, 4, Some(0));
    assert_eq!(rig.load(false, second + 8, 4), 0xffff_ffff);
    assert_eq!(rig.counted().devices[0].lane, 0);
}

#[test]
fn linked_devices_answer_and_are_all_woken() {
    let machine = Machine { in_process: true, ..Rig::without_kvm() };
    let devices = [toy("first", Space::Port(PORT as u16)), toy("second", Space::Port(OTHER as u16))];
    let mut rig = Rig::started(machine, &[], &devices);
    rig.store(true, PORT + SCRATCH, 4, 1);
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 2);
    rig.store(true, OTHER + LEVELS, 4, 1);
    assert_eq!(rig.counted().devices[1].interrupts, 1);
    rig.objects.iter().for_each(|object| object.wake.signal(1).unwrap());
    rig.until("both pumps", |rig| rig.load(true, PORT, 4) == 102 && rig.load(true, OTHER, 4) == 101);
    rig.store(true, PORT + EXIT, 1, 9);
    assert_eq!(rig.stopped().code, 9);
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let mut rig = Rig::greeted();
    assert!(rig.ask::<_, Empty>(&Start, &[]).unwrap_err().contains("not due"));
    assert!(rig.give_memory(2 << 20).unwrap_err().contains("not due"));
    rig.ask::<_, Empty>(&Rig::without_kvm(), &[]).unwrap();
    assert!(rig.ask::<_, Empty>(&Rig::without_kvm(), &[]).unwrap_err().contains("not due"));
    assert!(rig.ask::<_, Counted>(&Counters, &[]).unwrap_err().contains("not due"));
    rig.give_memory(2 << 20).unwrap();
    rig.attach(&toy("toy", Space::Port(PORT as u16))).unwrap();
    rig.ask::<_, Empty>(&Start, &[]).unwrap();
    assert!(rig.ask::<_, Empty>(&Start, &[]).unwrap_err().contains("running machine"));
    assert_eq!(rig.load(true, PORT, 1), 1);
    rig.end().unwrap();
}

#[test]
fn memory_of_another_layout_is_refused() {
    let mut rig = Rig::greeted();
    rig.ask::<_, Empty>(&Rig::without_kvm(), &[]).unwrap();
    assert!(rig.give_memory(4 << 20).unwrap_err().contains("not those of"));
    assert!(rig.end().is_err());
}

#[test]
fn kernel_without_kvm_is_refused() {
    let image = file(&[0xf4]);
    let machine = Machine { boot: Boot::Flat { image: image.handle(0), base: 0x10_0000 }, ..Rig::without_kvm() };
    let mut rig = Rig::greeted();
    assert!(rig.ask::<_, Empty>(&machine, &[image.as_fd()]).unwrap_err().contains("KVM"));
}

#[test]
fn device_on_top_of_another_or_of_memory_is_refused() {
    for (space, why) in [(Space::Port(PORT as u16 + 4), "overlap"), (Space::Memory(0x1000), "guest memory")] {
        let mut rig = Rig::greeted();
        rig.ask::<_, Empty>(&Rig::without_kvm(), &[]).unwrap();
        rig.give_memory(2 << 20).unwrap();
        rig.attach(&toy("first", Space::Port(PORT as u16))).unwrap();
        let refused = rig.attach(&toy("second", space)).unwrap_err();
        assert!(refused.contains(why) && refused.contains("second"), "{refused}");
    }
}

#[test]
fn device_without_its_grants_is_refused() {
    for carrier in schema::lane::Carrier::ALL.into_iter().filter(|carrier| *carrier != schema::lane::Carrier::InProcess)
    {
        let mut rig = Rig::greeted();
        rig.ask::<_, Empty>(&Rig::without_kvm(), &[]).unwrap();
        rig.give_memory(2 << 20).unwrap();
        let manifest = toy("poor", Space::Port(PORT as u16));
        let attach = schema::vmm::AttachDevice { id: 0, host: 0, manifest, options: Vec::new(), carrier, slot: 0 };
        let refused = rig.ask::<_, Empty>(&attach, &[]).unwrap_err();
        assert!(refused.contains("poor: has no wake"), "{refused}");
    }
}

/// A guest that stores to a port and to memory, loads both, does a string of loads, and ends the run with what it found.
const GUEST: &[u8] = &[
    0xba, 0x00, 0x05, 0x00, 0x00, // mov edx, 0x500
    0xb8, 0x40, 0x00, 0x00, 0x00, // mov eax, 0x40
    0xef, // out dx, eax
    0xed, // in eax, dx              (0x41)
    0xbb, 0x00, 0x00, 0x00, 0xd0, // mov ebx, 0xd0000000
    0x89, 0x03, // mov [rbx], eax
    0x8b, 0x03, // mov eax, [rbx]    (0x42)
    0xba, 0x08, 0x05, 0x00, 0x00, // mov edx, 0x508
    0xef, // out dx, eax
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];

/// The machine's KVM; says why a test is skipped where there is none.
fn kvm() -> Option<Kvm> {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(file) => Some(Kvm::new(file.into()).unwrap()),
        Err(error) => {
            eprintln!("SKIPPED: /dev/kvm: {error}");
            None
        }
    }
}

fn with_kvm(kvm: &Kvm, guest: &[u8], cpus: u8, spin: bool) -> Rig {
    let image = file(guest);
    let machine = Machine {
        cpus,
        deadline_ms: 5000,
        spin,
        boot: Boot::Flat { image: image.handle(1), base: 0x10_0000 },
        kvm: Some(kvm.handle(0)),
        ..Rig::without_kvm()
    };
    let devices = [toy("first", Space::Port(PORT as u16)), toy("second", Space::Memory(WINDOW))];
    Rig::started(machine, &[kvm.as_fd(), image.as_fd()], &devices)
}

#[test]
fn guest_reaches_its_devices_through_kvm() {
    let Some(kvm) = kvm() else { return };
    for (cpus, spin) in [(1, false), (2, true)] {
        let mut rig = with_kvm(&kvm, GUEST, cpus, spin);
        let stopped = rig.stopped();
        assert_eq!((stopped.reason, stopped.code), (Reason::Exit, 0x42), "{}", stopped.text);
        let counted = rig.counted();
        assert_eq!((counted.devices[0].lane, counted.devices[1].lane), (4, 3), "with the request to finish");
        assert!(counted.exits >= 5, "{}", counted.exits);
        rig.end().unwrap();
    }
}

#[test]
fn deadline_that_a_guest_sets_ends_the_hubs_sleep() {
    let Some(kvm) = kvm() else { return };
    let guest = [
        0xba, 0x0c, 0x05, 0x00, 0x00, // mov edx, 0x50c
        0xb8, 0x14, 0x00, 0x00, 0x00, // mov eax, 20
        0xef, // out dx, eax
        0xed, // in eax, dx              (alarms so far)
        0x85, 0xc0, // test eax, eax
        0x74, 0xfb, // jz to the in
        0xba, 0x08, 0x05, 0x00, 0x00, // mov edx, 0x508
        0xef, // out dx, eax
        0xeb, 0xfe, // jmp to itself
    ];
    // Nothing else wakes the hub: the supervisor is silent, and loads of the count change no deadline.
    let mut rig = with_kvm(&kvm, &guest, 1, false);
    assert_eq!(rig.stopped().code, 1);
}

#[test]
fn guest_that_cannot_go_on_says_where_it_was() {
    let Some(kvm) = kvm() else { return };
    // ud2, without an interrupt table: a triple fault.
    let mut rig = with_kvm(&kvm, &[0x0f, 0x0b], 1, false);
    let stopped = rig.stopped();
    match stopped.reason {
        Reason::Reset => assert!(stopped.text.contains("processor 0: it shut down"), "{}", stopped.text),
        Reason::Failed => assert!(stopped.text.contains("rip 0x100000"), "{}", stopped.text),
        other => panic!("{other:?}: {}", stopped.text),
    }
}

#[test]
fn running_vcpu_is_kicked_when_the_run_ends() {
    let Some(kvm) = kvm() else { return };
    // jmp to itself: it never exits on its own.
    let mut rig = with_kvm(&kvm, &[0xeb, 0xfe], 1, false);
    rig.store(true, PORT + EXIT, 4, 5);
    assert_eq!(rig.stopped().code, 5);
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(200));
    assert!(cpu_time() - before < Duration::from_millis(100), "a vcpu still runs");
}

/// Processor time of this test's process so far.
fn cpu_time() -> Duration {
    let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
    spent.into()
}

/// One toy, whose host is started anew when it fails.
fn restarted_toy() -> Rig {
    let machine = Machine { restarts: true, ..Rig::without_kvm() };
    Rig::started(machine, &[], &[toy("first", Space::Port(PORT as u16))])
}

#[test]
fn access_waits_on_for_a_host_that_is_started_anew() {
    let mut rig = restarted_toy();
    rig.store(true, PORT + SCRATCH, 4, 7);
    rig.store(true, PORT + DEAF, 4, 0);
    let load = Drive { write: false, port: true, address: PORT + SCRATCH, width: 4, value: 0 };
    let _ = rig.channel.call::<_, Driven>(&load, &[], Duration::from_millis(50)).unwrap_err();
    let late = rig.late();
    assert_eq!((late.host, late.violation, late.gave_up), (0, false, false));
    rig.objects[0].host();
    // Another access is refused as long as this one is under way. Another incarnation of a toy remembers nothing.
    rig.until("an access", |rig| rig.ask::<_, Driven>(&load, &[]) == Ok(Driven { value: 1 }));
    assert_eq!(rig.counted().devices[0].ones, 0);
}

#[test]
fn access_waits_for_a_bounded_number_of_deadlines() {
    let mut rig = restarted_toy();
    rig.store(true, PORT + HANG, 4, 0);
    let complaints: Vec<bool> = (0..4).map(|_| rig.late().gave_up).collect();
    assert_eq!(complaints.iter().filter(|gave_up| **gave_up).count(), 1, "{complaints:?}");
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 0xffff_ffff);
}

#[test]
fn lane_that_a_host_broke_begins_anew_with_another_host() {
    let mut rig = restarted_toy();
    rig.store(true, PORT + LEVELS, 4, 1);
    rig.store(true, PORT + DEAF, 4, 0);
    // Says that it has done what was never asked.
    imc::lane::wipe(&rig.objects[0].state, 0x1234_5678).unwrap();
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 0xffff_ffff);
    let late = rig.late();
    assert_eq!((late.host, late.device, late.violation, late.gave_up), (0, 0, true, false));
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 0xffff_ffff, "until the lane is renewed");
    let interrupts = rig.counted().devices[0].interrupts;
    imc::lane::wipe(&rig.objects[0].state, late.issued).unwrap();
    rig.ask::<_, Empty>(&Renew { host: 0 }, &[]).unwrap();
    rig.objects[0].host();
    assert_eq!(rig.load(true, PORT + SCRATCH, 4), 1);
    rig.store(true, PORT + LEVELS, 4, 1);
    assert_eq!(rig.counted().devices[0].interrupts, interrupts + 1, "its lines are heard again");
}
