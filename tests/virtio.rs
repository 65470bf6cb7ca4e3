//! Virtio devices in Python, C++ and Rust: their library bears what drivers do, they answer as our own, and the kit finds nothing.

#[path = "harness/cpp.rs"]
mod cpp;
#[path = "harness/drive.rs"]
mod drive;
mod harness;
#[path = "harness/python.rs"]
mod python;
#[path = "harness/rust.rs"]
mod rust;

use drive::drive;
use harness::{Place, root, text};

/// Where the script's driver has the parts of its queue, its indirect table, and its buffers.
const DESC: u64 = 0x10_0000;
const AVAIL: u64 = 0x10_4000;
const USED: u64 = 0x10_8000;
const TABLE: u64 = 0x11_0000;
const BUFFERS: u64 = 0x12_0000;
const BUFFERS_BYTES: u64 = 0x8000;
/// Bytes of the common configuration, and some that are no register.
const COMMON_BYTES: u64 = 0x40;
/// Entries of its queue.
const ENTRIES: u64 = 8;
/// Turns of a script: each some descriptors, and then something that the device notices.
const TURNS: usize = 150;
const DRIVER_OK: u64 = 0xf;

/// A driver that is sometimes a good one, as a script that is the same in each run.
struct Driver {
    random: u64,
    /// The device's bytes are known: they may be looked at, and may become descriptors.
    knows_bytes: bool,
    lines: Vec<String>,
    available: u64,
}

impl Driver {
    /// What it does.
    fn script(seed: u64, knows_bytes: bool) -> String {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut driver = Driver { random, knows_bytes, lines: Vec::new(), available: 0 };
        driver.start();
        for turn in 0..TURNS {
            driver.turn();
            driver.lines.push("quiesce 0".to_owned());
            driver.lines.push(format!("load {USED} {}", 4 + 8 * ENTRIES + 2));
            driver.lines.push("vectors".to_owned());
            if knows_bytes && turn % 8 == 0 {
                driver.lines.push(format!("load {BUFFERS} {BUFFERS_BYTES}"));
            }
        }
        driver.sweep();
        driver.lines.join("\n") + "\n"
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8) % bound
    }

    fn write(&mut self, offset: u64, width: u64, value: u64) {
        self.lines.push(format!("write 0 {offset} {width} {value} 0"));
    }

    fn store(&mut self, address: u64, bytes: &[u8]) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.lines.push(format!("store {address} {digits}"));
    }

    /// Resets the device and starts it with a queue, with or without the event index, vectors, and a queue in its right place.
    fn start(&mut self) {
        self.available = 0;
        for part in [DESC, AVAIL, USED] {
            self.store(part, &[0; 0x100]);
        }
        for status in [0, 1, 3] {
            self.write(0x14, 1, status);
        }
        let event_index = self.below(2) << 29;
        for (half, features) in [(0, event_index), (1, 1)] {
            self.write(0x08, 4, half);
            self.write(0x0c, 4, features);
        }
        self.write(0x14, 1, 0xb);
        if self.below(4) != 0 {
            self.write(0x10, 2, 0);
            self.write(0x1a, 2, 1);
        }
        self.write(0x18, 2, ENTRIES);
        let desc = if self.below(16) == 0 { DESC + 8 } else { DESC };
        for (register, part) in [(0x20, desc), (0x28, AVAIL), (0x30, USED)] {
            self.write(register, 8, part);
        }
        self.write(0x1c, 2, 1);
        self.write(0x14, 1, DRIVER_OK);
    }

    /// Reads every place of the common configuration at every width, and again after it has written there: each library has its own
    /// table of the registers.
    fn sweep(&mut self) {
        for status in [0, 3] {
            self.write(0x14, 1, status);
            for offset in 0..COMMON_BYTES {
                for width in [1, 2, 4, 8] {
                    self.lines.push(format!("read 0 {offset} {width} 0"));
                    if status != 0 && width <= 2 && offset / 2 != 0x14 / 2 {
                        let value = self.below(1 << 16);
                        self.write(offset, width, value);
                    }
                }
            }
        }
    }

    /// A descriptor of any kind, more often than not a good one.
    fn describe(&mut self, at: u64) {
        let address = match self.below(24) {
            0 if self.knows_bytes => self.below(1 << 30),
            0 => (1 << 30) + self.below(1 << 30),
            1 if self.knows_bytes => TABLE + self.below(4) * 16,
            _ => BUFFERS + self.below(BUFFERS_BYTES / 2),
        };
        let bytes = match self.below(5) {
            0 => 16,
            1 => 512,
            2 => 1 + 512 * self.below(8),
            3 => 16 * self.below(9),
            _ => self.below(4000),
        };
        let flags = if self.below(12) == 0 { self.below(8) } else { self.below(2) * 2 + self.below(2) };
        let mut descriptor = address.to_le_bytes().to_vec();
        descriptor.extend((bytes as u32).to_le_bytes());
        descriptor.extend((flags as u16).to_le_bytes());
        let next = self.below(ENTRIES) as u16;
        descriptor.extend(next.to_le_bytes());
        self.store(at, &descriptor);
    }

    /// A request for sectors, as a driver of disks makes it, whatever device it is for.
    fn request(&mut self) {
        let (kind, sector) = ([0, 0, 0, 1, 4, 8, 99][self.below(7) as usize], self.below(10));
        let mut header = u64::from(kind as u32).to_le_bytes().to_vec();
        header.extend(sector.to_le_bytes());
        self.store(BUFFERS, &header);
        let bytes = 512 * self.below(4) as u32;
        let chain = [(BUFFERS, 16_u32, 1_u16), (BUFFERS + 0x1000, bytes, 3), (BUFFERS + 0x4000, 1, 2)];
        let indirect = self.below(3) == 0;
        for (index, (address, bytes, flags)) in (0_u16..).zip(chain) {
            let mut descriptor = address.to_le_bytes().to_vec();
            descriptor.extend(bytes.to_le_bytes());
            descriptor.extend(flags.to_le_bytes());
            descriptor.extend((index + 1).to_le_bytes());
            self.store(if indirect { TABLE } else { DESC } + u64::from(index) * 16, &descriptor);
        }
        if indirect {
            let mut descriptor = TABLE.to_le_bytes().to_vec();
            descriptor.extend(48_u32.to_le_bytes());
            descriptor.extend([4, 0, 0, 0]);
            self.store(DESC, &descriptor);
        }
        self.offer(0);
    }

    fn offer(&mut self, head: u64) {
        self.store(AVAIL + 4 + self.available % ENTRIES * 2, &(head as u16).to_le_bytes());
        self.available += 1;
        self.store(AVAIL + 2, &(self.available as u16).to_le_bytes());
    }

    fn turn(&mut self) {
        match self.below(20) {
            0 => self.start(),
            1 => self.lines.push("restart".to_owned()),
            2 => self.lines.push("reset 0".to_owned()),
            3..=5 => {
                for _ in 0..self.below(6) {
                    let at = if self.below(3) == 0 { TABLE } else { DESC } + self.below(ENTRIES) * 16;
                    self.describe(at);
                }
                for _ in 0..self.below(3) {
                    let head = self.below(ENTRIES + 1);
                    self.offer(head);
                }
            }
            6..=9 => {
                let (width, offset) = (1 << self.below(4), self.below(0x40));
                self.lines.push(format!("read 0 {offset} {width} 0"));
                if self.below(4) == 0 {
                    let value = self.below(1 << 34);
                    self.write(offset, width, value);
                }
            }
            10 => {
                let (width, offset) = (1 << self.below(4), 0x1000 * self.below(4) + self.below(0x44));
                self.lines.push(format!("read 0 {offset} {width} 0"));
            }
            11 => {
                let event = self.available.wrapping_add(self.below(3));
                self.store(AVAIL + 4 + 2 * ENTRIES, &(event as u16).to_le_bytes());
            }
            _ => self.request(),
        }
        self.lines.push("read 0 20 1 0".to_owned());
        if self.below(8) == 0 {
            self.start();
        }
        self.write(0x3000, 2, 0);
    }
}

/// What of an answer is settled when it comes. A device that has answered goes on to look at its queues, and only once it is quiet
/// are its levels what they will be.
fn settled<'a>(asked: &str, answer: &'a str) -> &'a str {
    let is_quiet = ["quiesce", "load", "store", "vectors"].iter().any(|quiet| asked.starts_with(quiet));
    if is_quiet { answer } else { answer.split("  ").next().unwrap_or_default() }
}

/// Has a plugin and the device of ours do the same, and compares each answer.
fn answers_alike(place: &Place, plugin: &str, ours: &str, knows_bytes: bool) {
    for (seed, carrier) in [(1, "memory"), (2, "memory"), (3, "socket")] {
        let script = Driver::script(seed, knows_bytes);
        let (wanted, found) = (drive(place, ours, carrier, &script), drive(place, plugin, carrier, &script));
        for (number, (asked, (wanted, found))) in script.lines().zip(wanted.iter().zip(&found)).enumerate() {
            let (wanted, found) = (settled(asked, wanted), settled(asked, found));
            assert_eq!(found, wanted, "{plugin} over {carrier}, line {number} of {seed}: {asked}");
        }
        assert_eq!(found.len(), wanted.len());
        let used = wanted.iter().filter(|line| line.contains("signalled") && !line.ends_with("[0, 0]")).count();
        assert!(used > TURNS / 8, "the driver gets somewhere: {used} turns that it was told of");
    }
}

fn kit_finds_nothing(place: &Place, plugin: &str) {
    let output = place.run(&["device", "check", "--seconds", "1", plugin]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn the_sdk_in_python_bears_what_devices_and_drivers_do() {
    let Some(interpreter) = python::interpreter() else { return };
    python::passes(interpreter, &root().join("devices/sdk/python/tests"));
}

#[test]
fn the_sdk_in_cpp_bears_what_devices_and_drivers_do() {
    let place = Place::new();
    for name in ["device", "virtio", "virtio_block"] {
        if !cpp::passes(name, &place.path("")) {
            return;
        }
    }
}

#[test]
fn a_source_of_random_bytes_in_rust_answers_as_our_own() {
    let place = Place::new();
    let plugin = rust::example("virtio_entropy", &place.path(""));
    let plugin = plugin.to_str().unwrap();
    answers_alike(&place, plugin, "virtio-entropy", false);
    kit_finds_nothing(&place, plugin);
}

#[test]
fn a_source_of_random_bytes_in_python_answers_as_our_own() {
    let Some(interpreter) = python::interpreter() else { return };
    let place = Place::new();
    let plugin = python::example("virtio_entropy", interpreter, &place.path(""));
    let plugin = plugin.to_str().unwrap();
    answers_alike(&place, plugin, "virtio-entropy", false);
    kit_finds_nothing(&place, plugin);
}

#[test]
fn a_disk_in_cpp_answers_as_our_own() {
    let place = Place::new();
    let image: Vec<u8> = (0..9 * 512_u32).map(|byte| (byte / 7) as u8).collect();
    let image = place.file("disk.img", &image);
    let Some(plugin) = cpp::example("virtio_block", &place.path("")) else { return };
    let plugin = format!("{},file={}", plugin.display(), image.display());
    answers_alike(&place, &plugin, &format!("virtio-block,readonly,file={}", image.display()), true);
    kit_finds_nothing(&place, &plugin);
}
