//! What follows from the powers that devices wish for.

use super::{Because, Call, Condition, Count, DescriptorKind, Mode, Named, Permit, Recipe, Share, Value};
use schema::display::SCANOUT_BYTES;
use schema::host::FRAMES_REGION_BYTES;
use schema::manifest::{Manifest, Power};

/// Guest memory of [`Power::LowMemory`]: what an ISA device can reach with its 24 address lines.
const LOW_MEMORY_BYTES: u64 = 16 << 20;
/// Shared memory that devices have beside guest memory.
pub(super) fn shared_bytes(devices: &[Manifest]) -> u64 {
    /// Each of the two copies of a state is put on pages of its own, and a lane has some more.
    const LANE_BYTES: u64 = 64 << 10;
    let direct = |device: &Manifest| {
        let bytes = device.wishes.iter().map(|wish| match wish.power {
            Power::Direct => wish.bytes,
            Power::Scanout => SCANOUT_BYTES,
            _ => 0,
        });
        bytes.sum::<u64>()
    };
    let frames = |device: &Manifest| {
        device.wishes.iter().filter(|wish| wish.power == Power::Frames).count() as u64 * FRAMES_REGION_BYTES
    };
    let each = |device: &Manifest| {
        2 * u64::from(device.state_bytes) + u64::from(device.bulk_bytes) + direct(device) + frames(device)
    };
    devices.iter().map(|device| each(device) + LANE_BYTES).sum()
}

pub(super) fn has(devices: &[Manifest], powers: &[Power]) -> bool {
    devices.iter().flat_map(|device| &device.wishes).any(|wish| powers.contains(&wish.power))
}

/// The largest that a process with the files of `devices` may make a file.
pub(super) fn file_bytes(devices: &[Manifest]) -> (Value, &'static str) {
    if has(devices, &[Power::FileWrite]) {
        (Value::LargestFile, "it writes a file, and cannot make it grow")
    } else {
        NO_FILE
    }
}

/// Of a process that writes no file.
pub(super) const NO_FILE: (Value, &str) = (Value::Exactly(0), "it writes no file, and makes no memfd larger");

/// Descriptors of one device, as the host that runs it holds them, beside its lane and its files.
pub(super) fn keep_for(mut recipe: Recipe, device: &Manifest) -> Recipe {
    let name = &device.name;
    let one = Count::Exactly(1);
    if device.vectors > 0 {
        let count = Count::Exactly(u32::from(device.vectors));
        recipe =
            recipe.keep(DescriptorKind::Eventfd, Mode::Write, count, "vector", format!("{name}: its MSI-X vectors"));
    }
    for wish in &device.wishes {
        let because: Because = format!("{name}: {}", wish.because).into();
        recipe = match wish.power {
            Power::Stream | Power::Frames => recipe.keep(DescriptorKind::Eventfd, Mode::Write, one, "bell", because),
            Power::Switch => recipe.keep(DescriptorKind::Eventfd, Mode::Write, one, "switch", because),
            _ => recipe,
        };
    }
    recipe
}

/// Files of one device, as who reads and writes them holds them.
pub(super) fn file(mut recipe: Recipe, device: &Manifest) -> Recipe {
    for wish in &device.wishes {
        let mode = match wish.power {
            Power::FileRead => Mode::Read,
            // A file granted for writing may be a read-only image all the same: the mode is then less, never more.
            Power::FileWrite => Mode::Both,
            _ => continue,
        };
        let because = format!("{}: {}", device.name, wish.because);
        recipe = recipe.keep(DescriptorKind::File, mode, Count::Exactly(1), "file", because);
    }
    recipe
}

/// Shared memory that `devices` have mapped, beside that of their lanes and their state.
pub(super) fn shares(devices: &[Manifest]) -> Vec<Share> {
    let share = |name, mode, bytes, guest, because: Because| Share { name, mode, bytes, guest, because };
    let mut shares = Vec::new();
    let wishes = |power| {
        devices.iter().flat_map(move |device| {
            device.wishes.iter().filter(move |wish| wish.power == power).map(move |wish| (device, wish))
        })
    };
    let reasons = |power| -> Because {
        wishes(power)
            .map(|(device, wish)| format!("{}: {}", device.name, wish.because))
            .collect::<Vec<_>>()
            .join("; ")
            .into()
    };
    if has(devices, &[Power::Stream]) {
        shares.push(share("cofferdam:stream", Mode::Both, None, false, reasons(Power::Stream)));
    }
    if has(devices, &[Power::Frames]) {
        let bytes = wishes(Power::Frames).count() as u64 * FRAMES_REGION_BYTES;
        shares.push(share("cofferdam:frames", Mode::Both, Some(bytes), false, reasons(Power::Frames)));
    }
    if has(devices, &[Power::Direct]) {
        let bytes = wishes(Power::Direct).map(|(_, wish)| wish.bytes).sum();
        shares.push(share("cofferdam:direct", Mode::Both, Some(bytes), false, reasons(Power::Direct)));
    }
    if has(devices, &[Power::Scanout]) {
        let bytes = SCANOUT_BYTES * wishes(Power::Scanout).count() as u64;
        shares.push(share("cofferdam:scanout", Mode::Both, Some(bytes), false, reasons(Power::Scanout)));
    }
    if has(devices, &[Power::Memory]) {
        let because = format!("all of guest memory: {}", reasons(Power::Memory)).into();
        shares.push(share("cofferdam:ram", Mode::Both, None, true, because));
    } else if has(devices, &[Power::LowMemory]) {
        let because = format!("the first 16 MiB of guest memory: {}", reasons(Power::LowMemory)).into();
        shares.push(share("cofferdam:ram", Mode::Both, Some(LOW_MEMORY_BYTES), true, because));
    }
    shares
}

/// Calls that follow from a power.
pub(super) fn add_power_calls(calls: &mut Vec<Permit>, devices: &[Manifest]) {
    let on = |mode| vec![Condition::On(&[DescriptorKind::File], mode)];
    if has(devices, &[Power::FileRead, Power::FileWrite]) {
        for call in [Call::PREAD64, Call::PREADV] {
            calls.push(Permit {
                call,
                when: on(Mode::Read),
                because: "reading its image, at an offset it names".into(),
            });
        }
    }
    if has(devices, &[Power::FileWrite]) {
        for call in [Call::PWRITE64, Call::PWRITEV] {
            calls.push(Permit {
                call,
                when: on(Mode::Write),
                because: "writing its image, at an offset it names".into(),
            });
        }
        calls.push(Permit { call: Call::FDATASYNC, when: on(Mode::Write), because: "the guest's flush".into() });
    }
    // A VMM has it with any flags already: its hash maps are seeded so.
    if has(devices, &[Power::Entropy]) && calls.iter().all(|permit| permit.call != Call::GETRANDOM) {
        calls.push(getrandom());
    }
}

/// The kernel's random bytes.
pub(super) fn getrandom() -> Permit {
    // GRND_INSECURE among the flags: bytes of a pool that nothing has been stirred into yet.
    let flags = Condition::OneOf(2, vec![Named { value: 0, name: "no flag" }]);
    Permit { call: Call::GETRANDOM, when: vec![flags], because: "entropy for the guest".into() }
}
