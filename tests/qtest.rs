//! `cofferdam qtest`, driven as test programs drive it: over its standard input, and by its second name over sockets.

#[path = "harness/driven.rs"]
mod driven;
mod harness;
#[path = "harness/python.rs"]
mod python;

#[path = "qtest/alike.rs"]
mod alike;
#[path = "qtest/board.rs"]
mod board;
#[path = "qtest/drives.rs"]
mod drives;
#[path = "qtest/firmware.rs"]
mod firmware;
#[path = "qtest/monitor.rs"]
mod monitor;

use driven::{Machine, Program, second_name};
use harness::{PATIENCE, Place, text};
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_line_that_makes_no_sense_fails_and_the_next_is_answered() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &[]);
    assert_eq!(machine.ask("dance"), "FAIL Unknown command 'dance'");
    assert_eq!(
        machine.ask("irq_intercept_in pic"),
        "FAIL there is no `pic`; the interrupt inputs are those of `ioapic`"
    );
    assert!(
        machine.ask("irq_intercept_out teapot").starts_with("FAIL there is no device `teapot`; there are uart16550, ")
    );
    assert_eq!(machine.ask("endianness"), "little");
    assert_eq!(machine.end(), Some(0), "who leaves ends it");
}

#[test]
fn memory_is_what_was_written_however_it_is_read() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &[]);
    machine.ask("writeq 0x1000 0x1122334455667788");
    assert_eq!(machine.ask("readw 0x1002"), "0x0000000000005566");
    assert_eq!(machine.ask("b64read 0x1000 8"), "iHdmVUQzIhE=");
    machine.ask("memset 0x200000 0x100000 0xa5");
    machine.ask("b64write 0x2fffff 2 AQI=");
    assert_eq!(machine.ask("read 0x2ffffe 3"), "0xa50102");
    let long = machine.ask("read 0x200000 0x80000");
    assert!(long.len() == 2 + 2 * 0x80000 && long[2..].bytes().all(|digit| digit == b'a' || digit == b'5'));
    assert_eq!(machine.ask("readl 0xf0000000"), "0x00000000ffffffff", "nothing is there");
}

#[test]
fn every_isolation_and_carrier_answers_alike() {
    let place = Place::new();
    let script = |words: &[&str]| {
        let mut machine = Machine::start(&place, words);
        machine.ask("irq_intercept_in ioapic");
        let mut said = Vec::new();
        machine.set_cmos(0x0b, 0x12);
        for _ in 0..3 {
            said.push(machine.ask("clock_step 700000000"));
            said.push(machine.cmos(0).to_string());
            said.push(machine.cmos(0x0c).to_string());
        }
        for line in ["outb 0x3fc 8", "outb 0x3f9 2", "inb 0x3fa", "outb 0x64 0xaa", "inb 0x60", "inb 0x379"] {
            said.push(machine.ask(line));
        }
        said.extend(machine.irqs());
        said
    };
    let first = script(&[]);
    assert!(
        first.iter().any(|line| line == "IRQ raise 8") && first.iter().any(|line| line == "IRQ lower 8"),
        "{first:?}"
    );
    for words in [["--isolate", "none"], ["--isolate", "class"], ["--sandbox", "strict"], ["--carrier", "socket"]] {
        assert_eq!(script(&words), first, "{words:?}");
    }
}

#[test]
fn time_passes_by_command_alone_and_the_same_each_time() {
    let place = Place::new();
    let run = || {
        let mut machine = Machine::start(&place, &["--device", "ib700"]);
        machine.ask("irq_intercept_in ioapic");
        let mut said = vec![machine.ask("clock_step")];
        // Eight interrupts a second, each taken.
        machine.set_cmos(0x0a, 0x2d);
        machine.set_cmos(0x0b, 0x42);
        for _ in 0..20 {
            said.push(machine.ask("clock_step"));
            said.push(machine.cmos(0x0c).to_string());
        }
        said.push(machine.ask("clock_set 5000000000"));
        said.push([9, 8, 7, 4, 2, 0].map(|register| format!("{:x}", machine.cmos(register))).join("-"));
        said.extend(machine.irqs());
        said
    };
    let first = run();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(run(), first);
    assert_eq!(first[0], "0", "no alarm is due");
    assert_eq!(first[1], "125000000");
    assert_eq!(first.iter().filter(|line| *line == "IRQ raise 8").count(), 21);
    assert_eq!(first[42], "1-3-1-0-0-3", "five seconds after a February's last two");
}

#[test]
fn who_listens_to_a_device_hears_it_alone() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &["--device", "uart16550,port=0x2f8,irq=4"]);
    machine.ask("irq_intercept_out uart16550.1");
    assert_eq!(machine.ask("irq_intercept_in ioapic"), "FAIL IRQ intercept already enabled");
    for line in ["outb 0x3fc 8", "outb 0x3f9 2", "outb 0x2fc 8", "outb 0x2f9 2"] {
        machine.ask(line);
    }
    assert_eq!(machine.irqs(), ["IRQ raise 4"], "the input was high already");
    machine.ask("set_irq_in /machine/ioapic unnamed 5 1");
    assert_eq!(machine.irqs(), Vec::<String>::new());
}

#[test]
fn four_serial_ports_and_a_printer_print_where_they_are_told() {
    let place = Place::new();
    let files: Vec<String> = (0..4).map(|number| place.path(&format!("{number}")).display().to_string()).collect();
    let ports = [("uart16550", 0x2f8, 3), ("uart16550", 0x3e8, 4), ("uart16550", 0x2e8, 3), ("parallel", 0x278, 5)];
    let specs: Vec<String> = ports
        .iter()
        .zip(&files)
        .map(|((name, port, irq), to)| format!("{name},port={port},irq={irq},to={to}"))
        .collect();
    let words: Vec<&str> = specs.iter().flat_map(|spec| ["--device", spec]).collect();
    let mut machine = Machine::start(&place, &words);
    for (number, (_, port, _)) in ports.iter().take(3).enumerate() {
        machine.ask(&format!("outb {port} {}", b'0' + number as u8));
    }
    for line in ["outb 0x278 0x33", "outb 0x27a 0x05", "outb 0x27a 0x04"] {
        machine.ask(line);
    }
    let until = Instant::now() + PATIENCE;
    for (number, file) in files.iter().enumerate() {
        let wanted = number.to_string();
        while std::fs::read_to_string(file).unwrap_or_default() != wanted {
            assert!(Instant::now() < until, "port {number} has not printed");
            machine.ask("endianness");
        }
    }
}

#[test]
fn by_its_second_name_it_answers_both_protocols_and_ends_well_on_a_signal() {
    let place = Place::new();
    let mut program = Program::start(&place, &["-machine", "pc", "-m", "64", "-rtc", "clock=vm"]);
    assert_eq!(program.execute("query-status", json!({}))["return"]["status"], "running");
    let machines = program.execute("query-machines", json!({}));
    assert!(machines["return"].as_array().unwrap().iter().any(|one| one["name"] == "none"), "{machines}");
    let types = program.execute("qom-list-types", json!({}));
    assert!(types["return"].as_array().unwrap().iter().any(|one| one["name"] == "mc146818"));
    let refused = program.execute("device_add", json!({ "driver": "e1000", "id": "n" }));
    assert_eq!(refused["error"]["class"], "GenericError");
    assert_eq!(program.execute("device_del", json!({ "id": "n" }))["error"]["class"], "DeviceNotFound");
    assert_eq!(program.test.ask("inb 0x71"), program.test.ask("inb 0x71"));
    assert_eq!(program.terminate(), Some(0));
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    assert!(log.contains("] inb 0x71") && log.contains("OPENED"), "{log}");
}

#[test]
fn a_watchdog_that_expires_is_an_event_and_what_follows_is_chosen() {
    let cases = [
        ("pause", "STOP"),
        ("reset", "RESET"),
        ("poweroff", "SHUTDOWN"),
        ("shutdown", "POWERDOWN"),
        ("none", "WATCHDOG"),
        ("debug", "WATCHDOG"),
    ];
    for (action, event) in cases {
        let place = Place::new();
        let mut program = Program::start(&place, &["-device", "ib700,id=watchdog0", "-watchdog-action", action]);
        program.test.ask("outb 0x443 14");
        program.test.ask("clock_step 1000000000");
        program.test.ask("outb 0x443 13");
        assert_eq!(program.test.ask("clock_step 3000000000"), "4000000000");
        assert_eq!(program.test.ask("clock_step 2000000000"), "6000000000");
        assert_eq!(program.event("WATCHDOG")["action"], action);
        if event != "WATCHDOG" {
            program.event(event);
        }
        match action {
            "poweroff" => assert_eq!(program.child.wait().unwrap().code(), Some(0)),
            "reset" => assert_eq!(program.test.ask("clock_step 1"), "6000000001", "time goes on"),
            "pause" => assert_eq!(program.execute("query-status", json!({}))["return"]["status"], "watchdog"),
            _ => assert_eq!(program.execute("query-status", json!({}))["return"]["status"], "running"),
        }
    }
}

#[test]
fn a_panic_is_an_event_however_it_is_told() {
    let place = Place::new();
    let mut program = Program::start(&place, &["-action", "panic=none", "-device", "pvpanic"]);
    assert_eq!(program.test.ask("inb 0x505"), "0x0003");
    program.test.ask("outb 0x505 2");
    assert_eq!(program.event("GUEST_CRASHLOADED")["action"], "run");
    program.test.ask("outb 0x505 1");
    assert_eq!(program.event("GUEST_PANICKED")["action"], "run");

    let place = Place::new();
    let mut program = Program::start(&place, &["-action", "panic=pause", "-device", "pvpanic-pci"]);
    let slot = (1..32).find(|slot| {
        program.test.ask(&format!("outl 0xcf8 {:#x}", 0x8000_0000u32 | slot << 11));
        program.test.ask("inl 0xcfc") == "0x111b36"
    });
    let function = 0x8000_0000u32 | slot.expect("the function is there") << 11;
    for (register, value) in [(0x10, 0xd000_0000u32), (4, 2)] {
        program.test.ask(&format!("outl 0xcf8 {:#x}", function | register));
        program.test.ask(&format!("outl 0xcfc {value:#x}"));
    }
    assert_eq!(program.test.ask("readb 0xd0000000"), "0x0000000000000003");
    program.test.ask("writeb 0xd0000000 1");
    assert_eq!(program.event("GUEST_PANICKED")["action"], "pause");
    program.event("STOP");
}

#[test]
fn an_argument_that_makes_no_sense_is_said() {
    let output = Command::new(second_name()).args(["-device", "teapot"]).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("'teapot' is not a valid device model name"), "{}", text(&output.stderr));
}

#[test]
fn firmware_s_configuration_has_what_was_asked_for() {
    let place = Place::new();
    let file = place.file("item", b"from a file");
    let item = format!("name=opt/a,file={}", file.display());
    let words = ["-fw_cfg", &item, "-fw_cfg", "name=opt/b,string=c,,d", "-smp", "3", "-m", "64"];
    let mut program = Program::start(&place, &words);
    let mut select = |selector: u16, bytes: usize| {
        program.test.ask(&format!("outw 0x510 {selector}"));
        (0..bytes).map(|_| program.test.number("inb 0x511") as u8).collect::<Vec<u8>>()
    };
    assert_eq!(select(0, 4), b"QEMU");
    assert_eq!(select(3, 8), (64u64 << 20).to_le_bytes());
    assert_eq!(select(5, 2), 3u16.to_le_bytes());
    let count = u32::from_be_bytes(select(0x19, 4).try_into().unwrap()) as usize;
    let directory = select(0x19, 4 + 64 * count);
    let content = |name: &str| {
        let mut entries = directory[4..].chunks(64);
        let entry = entries.find(|entry| entry[8..].starts_with(name.as_bytes()) && entry[8 + name.len()] == 0);
        let entry = entry.unwrap_or_else(|| panic!("no {name}"));
        (u16::from_be_bytes([entry[4], entry[5]]), u32::from_be_bytes(entry[..4].try_into().unwrap()) as usize)
    };
    for (name, expected) in [("opt/a", &b"from a file"[..]), ("opt/b", b"c,d")] {
        let (selector, bytes) = content(name);
        assert_eq!(select(selector, bytes), expected, "{name}");
    }
}

#[test]
fn the_ide_function_is_beside_the_isa_bridge_as_on_a_piix3() {
    let place = Place::new();
    let mut machine = Machine::start(&place, &["--device", "pvpanic-pci"]);
    let mut function = |slot: u32, number: u32| {
        machine.ask(&format!("outl 0xcf8 {:#x}", 0x8000_0000 | slot << 11 | number << 8));
        machine.number("inl 0xcfc")
    };
    assert_eq!([function(0, 0), function(1, 0), function(1, 1)], [0x1237_8086, 0x7000_8086, 0x7010_8086]);
    assert_eq!([function(1, 2), function(2, 0), function(3, 0)], [0xffff_ffff, 0x0011_1b36, 0xffff_ffff]);
}

/// What somebody else's client does with a monitor.
const CLIENT: &str = r#"
import asyncio, sys
from qemu.qmp import ExecuteError, QMPClient

async def main(path, diskette):
    client = QMPClient("test")
    with client.listener(("STOP", "RESUME")) as events:
        await client.connect(path)
        print((await client.execute("query-status"))["status"])
        print("pc" in [one.get("alias") for one in await client.execute("query-machines")])
        print("floppy" in [one["name"] for one in await client.execute("qom-list-types")])
        await client.execute("blockdev-change-medium", {"id": "fd", "filename": diskette})
        print((await client.execute("query-block"))[0]["inserted"]["file"] == diskette)
        await client.execute("eject", {"id": "fd"})
        await client.execute("stop")
        await client.execute("cont")
        print([(await events.get())["event"] for _ in range(2)])
        for command, arguments in [("device_add", {"driver": "e1000"}), ("device_del", {"id": "x"}), ("eject", {"id": "y"})]:
            try:
                await client.execute(command, arguments)
            except ExecuteError as error:
                print(error.error_class)
        await client.execute("quit")
    # Whoever is asked to quit may be gone before its client is.
    try:
        await client.disconnect()
    except EOFError:
        pass

asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
fn the_qemu_project_s_own_client_is_answered() {
    let Some(interpreter) = python::monitor_client() else { return };
    let place = Place::new();
    let (test, monitor) = (place.path("qtest"), place.path("qmp"));
    let diskette = place.file("diskette", &[0; 1440 << 10]);
    let mut machine = Command::new(second_name())
        .env("COFFERDAM_RUNTIME", place.path("run"))
        .args(["-qtest", &format!("unix:{},server=on,wait=off", test.display())])
        .args(["-chardev", &format!("socket,path={},id=char0,server=on,wait=off", monitor.display())])
        .args(["-mon", "chardev=char0,mode=control", "-device", "floppy,id=fd", "-nodefaults"])
        .spawn()
        .expect("the program starts");
    harness::wait_until("it listens", || monitor.exists());
    let said = python::run(Command::new(interpreter).args(["-c", CLIENT]).arg(&monitor).arg(&diskette));
    let lines = "running\nTrue\nTrue\nTrue\n['STOP', 'RESUME']\nGenericError\nDeviceNotFound\nDeviceNotFound\n";
    assert_eq!(said.as_deref(), Ok(lines));
    assert_eq!(machine.wait().expect("our child").code(), Some(0));
}
