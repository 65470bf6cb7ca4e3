//! Every filter that is shipped, asked about every system call: it leaves what its recipe says, and nothing else.
//!
//! The programs are those that the kernel runs, read by an interpreter of their few instructions; what they should answer is
//! worked out from the recipe here, by other code than makes the programs. `docs/system-calls.md` shows the same recipes.

#[path = "../sandbox/probe/bpf.rs"]
mod bpf;
mod harness;

use bpf::{AARCH64, ALLOW, I386, KILL, X32, X86_64};
use device::Options;
use harness::root;
use sandbox::{Condition, DescriptorKind, Held, HelperForm, Mode, Network, Permit, Recipe, Stage};
use schema::host::Level;
use schema::lane::Carrier;
use schema::manifest::Manifest;
use std::fmt::Write;

/// All call numbers of the kernel are below this; the largest of Linux 6.18 is 469, and x32 has its own up to 547.
const NUMBERS: u32 = 1024;
/// Ways to another process.
const CARRIERS: [Carrier; 4] = [Carrier::Memory, Carrier::Virtio, Carrier::Socket, Carrier::Pipe];
/// Every other process has fewer calls than this.
const VMM_CALLS: u32 = 30;
/// The settings by which the catalogue's devices write their files, as `--disk`, `--floppy` and `--ide` have it.
const WRITES: [(&str, &str); 3] = [("readonly", "off"), ("a", "writable"), ("primary", "disk")];

/// A process that is filtered.
struct Shipped {
    name: String,
    over: &'static str,
    recipe: Recipe,
}

impl Shipped {
    fn new(name: impl Into<String>, carrier: Carrier, recipe: Recipe) -> Shipped {
        Shipped { name: name.into(), over: carrier.name(), recipe }
    }

    /// Descriptors as the recipe counts them, numbered with gaps between some and none between others.
    fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        let mut number = 3;
        for (at, keep) in self.recipe.held_at(Stage::Sealed).enumerate() {
            for _ in 0..keep.count.most() {
                held.push(Held::new(number, keep.kind, keep.mode));
                number += 1;
            }
            number += (at % 3) as i32;
        }
        held
    }
}

/// The devices of the catalogue.
fn devices() -> Vec<Manifest> {
    let options = |entry: &device::Registration| {
        let declared = (entry.manifest)(&Options::default()).expect("a manifest").options;
        Options::new(WRITES.into_iter().filter(|(name, _)| declared.iter().any(|option| option.name == *name)))
    };
    ::devices::catalogue().iter().map(|entry| (entry.manifest)(&options(entry)).expect("a manifest")).collect()
}

/// What is between a network, or viewers, and a device's host, whatever that device's lane runs over.
fn relays(carrier: Carrier) -> impl Iterator<Item = Shipped> {
    let relays = [("the net relay of a tap", Network::Tap), ("the net relay of a socket", Network::Socket)];
    let displays = (1..=2).map(|listeners| Recipe::display_relay(Level::Seccomp, listeners));
    relays
        .into_iter()
        .map(|(name, network)| (name, Recipe::net_relay(Level::Seccomp, network)))
        .chain(displays.map(|recipe| ("the display relay", recipe)))
        .map(move |(name, recipe)| Shipped::new(name, carrier, recipe))
}

fn hosts() -> Vec<Shipped> {
    let mut hosts = Vec::new();
    let all = devices();
    for carrier in CARRIERS {
        for manifest in &all {
            let recipe = Recipe::host_over(Level::Seccomp, std::slice::from_ref(manifest), &[carrier]);
            hosts.push(Shipped::new(&manifest.name, carrier, recipe));
        }
        hosts.extend(relays(carrier));
        let recipe = Recipe::host_over(Level::Seccomp, &all, &vec![carrier; all.len()]);
        hosts.push(Shipped::new("all of them in one host", carrier, recipe));
    }
    hosts
}

/// What makes calls for hosts at level `strict`, in both forms.
fn helpers() -> Vec<Shipped> {
    let mut helpers = Vec::new();
    for carrier in CARRIERS {
        for (form, name) in [(HelperForm::Process, "the helper"), (HelperForm::Thread, "the helper, as a thread,")] {
            for manifest in devices() {
                let recipe = Recipe::host_with(Level::Strict, std::slice::from_ref(&manifest), &[carrier], form);
                let helper = recipe.helper_of(form).cloned();
                helpers
                    .extend(helper.map(|recipe| Shipped::new(format!("{name} of {}", manifest.name), carrier, recipe)));
            }
        }
    }
    helpers
}

/// Hosts at level `strict`, as far as a filter stands in for mode 1.
fn strict() -> Vec<Shipped> {
    let all = devices();
    let host = |carrier, manifest: &Manifest| {
        let recipe = Recipe::host_over(Level::Strict, std::slice::from_ref(manifest), &[carrier]);
        Shipped::new(&manifest.name, carrier, recipe)
    };
    CARRIERS.into_iter().flat_map(|carrier| all.iter().map(move |manifest| host(carrier, manifest))).collect()
}

fn vmms() -> Vec<Shipped> {
    let all = devices();
    let mut vmms = Vec::new();
    for carrier in CARRIERS {
        let recipe = Recipe::vmm_over(Level::Seccomp, 2, true, &all, &vec![carrier; all.len()]);
        vmms.push(Shipped::new("the VMM", carrier, recipe));
        let recipe = Recipe::vmm_over(Level::Seccomp, 2, false, &all, &vec![carrier; all.len()]);
        vmms.push(Shipped::new("the VMM without KVM", carrier, recipe));
    }
    vmms
}

/// Whether the recipe leaves this call, as a person reads the recipe.
fn is_left(permits: &[Permit], held: &[Held], number: u32, arguments: [u64; 6]) -> bool {
    let holds = |condition: &Condition| match condition {
        Condition::On(kinds, mode) => held.iter().any(|held| {
            held.number as u32 == arguments[0] as u32 && kinds.contains(&held.kind) && held.mode.covers(*mode)
        }),
        Condition::OneOf(argument, values) => {
            values.iter().any(|named| named.value as u32 == arguments[usize::from(*argument)] as u32)
        }
        Condition::Without(argument, bits) => arguments[usize::from(*argument)] & bits.value == 0,
    };
    permits.iter().any(|permit| permit.call.number == i64::from(number) && permit.when.iter().all(holds))
}

/// Values about which code that compares is wrong, if it is: those on each side of what it compares with, in one half of a
/// register and in both.
fn boundaries(around: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX, u64::from(u32::MAX), 1 << 31, i32::MIN as u64, 1 << 32, 1 << 63];
    for value in around {
        let near = [value.wrapping_sub(1), value, value.wrapping_add(1)];
        values.extend(near);
        values.extend(near.map(|value| value as u32 as u64 | 1 << 32));
        values.extend(near.map(|value| value as u32 as u64 | u64::from(u32::MAX) << 32));
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Values to try for `argument` of the calls that `permits` are.
fn values_for(argument: usize, permits: &[&Permit], held: &[Held]) -> Vec<u64> {
    let mut around = Vec::new();
    for condition in permits.iter().flat_map(|permit| &permit.when) {
        match condition {
            Condition::On(..) if argument == 0 => around.extend(held.iter().map(|held| held.number as u64)),
            Condition::OneOf(at, values) if usize::from(*at) == argument => {
                around.extend(values.iter().map(|named| named.value));
            }
            Condition::Without(at, bits) if usize::from(*at) == argument => around.extend([bits.value, !bits.value]),
            _ => {}
        }
    }
    // What no condition names is tried at its ends.
    if around.is_empty() { vec![0, u64::MAX] } else { boundaries(around.into_iter()) }
}

/// Asks about one call with all combinations of values of the arguments that `around` names; where it names the call not at
/// all, with each value in every place. Returns how much was asked, and adds where the answer is not what `permits` leave.
fn compare(
    program: &[seccompiler::sock_filter],
    permits: &[Permit],
    around: &[Permit],
    held: &[Held],
    number: u32,
    wrong: &mut Vec<String>,
) -> u64 {
    let of_it: Vec<&Permit> = around.iter().filter(|permit| permit.call.number == i64::from(number)).collect();
    let mut asked = 0;
    let mut ask = |arguments: [u64; 6]| {
        asked += 1;
        let expected = if is_left(permits, held, number, arguments) { ALLOW } else { KILL };
        let answered = bpf::answer(program, X86_64, number, arguments);
        if answered != expected && wrong.len() < 20 {
            wrong.push(format!("call {number} {arguments:x?}: answers {answered:#x}, not {expected:#x}"));
        }
    };
    if of_it.is_empty() {
        for value in boundaries(held.iter().map(|held| held.number as u64)) {
            ask([value; 6]);
        }
        for value in boundaries(std::iter::empty()) {
            (0..6).for_each(|place| ask(std::array::from_fn(|at| if at == place { value } else { 0 })));
        }
        return asked;
    }
    let values: [Vec<u64>; 6] = std::array::from_fn(|argument| values_for(argument, &of_it, held));
    let mut at = [0; 6];
    loop {
        ask(std::array::from_fn(|argument| values[argument][at[argument]]));
        let Some(place) = (0..6).find(|place| at[*place] + 1 < values[*place].len()) else { return asked };
        at[place] += 1;
        at[..place].fill(0);
    }
}

/// How `program` differs from what `permits` leave, and how much was asked.
fn differences(program: &[seccompiler::sock_filter], permits: &[Permit], held: &[Held]) -> (Vec<String>, u64) {
    let mut wrong = Vec::new();
    let mut asked = 0;
    let beyond = [u32::MAX, u32::MAX - 1, 1 << 31, (1 << 31) - 1];
    for number in (0..NUMBERS).flat_map(|number| [number, number | X32]).chain(beyond) {
        asked += compare(program, permits, permits, held, number, &mut wrong);
    }
    // The number of a call means another call in another convention, so none of those may be left, whatever its arguments.
    let values = boundaries(held.iter().map(|held| held.number as u64));
    for arch in [I386, AARCH64, 0, X86_64 ^ 1, X86_64 ^ 1 << 31] {
        for number in 0..NUMBERS {
            for value in &values {
                asked += 1;
                if bpf::answer(program, arch, number, [*value; 6]) != KILL {
                    wrong.push(format!("call {number} of architecture {arch:#x} is left"));
                }
            }
        }
    }
    (wrong, asked)
}

fn differ_nowhere(shipped: &[Shipped]) {
    let mut asked = 0;
    for process in shipped {
        let held = process.held();
        let program = process.recipe.filter(&held).expect("a filter");
        let (wrong, count) = differences(&program, &process.recipe.calls, &held);
        asked += count;
        assert!(wrong.is_empty(), "{} over {}:\n{}", process.name, process.over, wrong.join("\n"));
    }
    println!("{} filters, {asked} calls", shipped.len());
}

#[test]
fn filters_of_hosts_leave_what_their_recipes_say_and_nothing_else() {
    differ_nowhere(&hosts());
}

#[test]
fn filters_in_place_of_mode_1_and_those_of_helpers_leave_what_their_recipes_say_and_nothing_else() {
    differ_nowhere(&strict());
    differ_nowhere(&helpers());
}

#[test]
fn filters_of_the_vmm_leave_what_their_recipes_say_and_nothing_else() {
    differ_nowhere(&vmms());
}

#[test]
fn a_filter_that_leaves_more_or_less_is_found() {
    for process in hosts().iter().chain(&helpers()).chain(&vmms()) {
        let held = process.held();
        let whole = process.recipe.filter(&held).expect("a filter");
        for at in 0..process.recipe.calls.len() {
            let mut fewer = process.recipe.clone();
            let call = fewer.calls.remove(at).call;
            let less = fewer.filter(&held).expect("a filter");
            let found = |program: &[seccompiler::sock_filter], recipe: &Recipe| {
                let mut wrong = Vec::new();
                compare(program, &recipe.calls, &process.recipe.calls, &held, call.number as u32, &mut wrong);
                !wrong.is_empty()
            };
            // A permit on descriptors of which it holds none changes nothing.
            if whole != less {
                assert!(found(&less, &process.recipe), "{}: less of {}", process.name, call.name);
                assert!(found(&whole, &fewer), "{}: more of {}", process.name, call.name);
            }
        }
    }
}

#[test]
fn a_register_device_is_left_four_calls_over_every_carrier_and_the_others_at_most_twelve() {
    let powers_without_calls = |manifest: &Manifest| {
        use schema::manifest::Power::{Entropy, FileRead, FileWrite};
        manifest.wishes.iter().all(|wish| !matches!(wish.power, FileRead | FileWrite | Entropy))
    };
    let registers: Vec<String> = devices().into_iter().filter(powers_without_calls).map(|device| device.name).collect();
    assert!(registers.len() >= 6, "{registers:?}");
    for process in hosts() {
        let names: Vec<&str> = process.recipe.calls.iter().map(|permit| permit.call.name).collect();
        if registers.contains(&process.name) {
            assert_eq!(names, ["read", "write", "exit", "rt_sigreturn"], "{} over {}", process.name, process.over);
        }
        assert!(process.recipe.syscalls_allowed() <= 12, "{} over {}: {names:?}", process.name, process.over);
    }
    for process in strict() {
        assert_eq!(process.recipe.syscalls_allowed(), 4, "{} over {}", process.name, process.over);
    }
    for process in vmms() {
        assert!(process.recipe.syscalls_allowed() <= VMM_CALLS, "{} over {}", process.name, process.over);
    }
}

#[test]
fn each_eventfd_is_left_one_direction() {
    for process in hosts() {
        let held = process.held();
        let program = process.recipe.filter(&held).expect("a filter");
        for eventfd in held.iter().filter(|held| held.kind == DescriptorKind::Eventfd) {
            let left = [libc::SYS_read, libc::SYS_write].map(|call| {
                bpf::answer(&program, X86_64, call as u32, [eventfd.number as u64, 0, 8, 0, 0, 0]) == ALLOW
            });
            // What a display relay holds to read keeps a number taken, and is left neither.
            let keeps_a_number = process.name == "the display relay" && eventfd.mode == Mode::Read;
            let expected = if keeps_a_number { 0 } else { 1 };
            let count = left.iter().filter(|left| **left).count();
            assert_eq!(count, expected, "{} over {}: {eventfd:?}", process.name, process.over);
        }
    }
}

/// One line of a process's table: call, conditions and reason, and the carriers over which it is so.
struct Line {
    call: &'static str,
    with: String,
    why: String,
    over: Vec<&'static str>,
}

/// The lines of each process over any carrier, in the recipes' order.
fn lines() -> Vec<(String, Vec<Line>)> {
    let mut processes: Vec<(String, Vec<Line>)> = Vec::new();
    for process in hosts().into_iter().chain(helpers()).chain(vmms()) {
        let at = processes.iter().position(|(name, _)| *name == process.name).unwrap_or_else(|| {
            processes.push((process.name.clone(), Vec::new()));
            processes.len() - 1
        });
        let lines = &mut processes[at].1;
        for permit in &process.recipe.calls {
            let (call, with, why) = (permit.call.name, permit.conditions(), permit.because.to_string());
            match lines.iter_mut().find(|line| (line.call, &line.with, &line.why) == (call, &with, &why)) {
                Some(line) => line.over.push(process.over),
                None => {
                    let behind = lines.iter().rposition(|line| line.call == call).map_or(lines.len(), |last| last + 1);
                    lines.insert(behind, Line { call, with, why, over: vec![process.over] });
                }
            }
        }
    }
    processes
}

/// The recipes' calls as a page, processes with the same ones together.
fn page() -> String {
    let mut tables: Vec<(String, usize, Vec<String>)> = Vec::new();
    for (name, lines) in lines() {
        let mut table = "| call | with | over | why |\n| --- | --- | --- | --- |\n".to_owned();
        for Line { call, with, why, over } in &lines {
            let over = if over.len() == CARRIERS.len() { "all".to_owned() } else { over.join(", ") };
            let _ = writeln!(table, "| `{call}` | {with} | {over} | {why} |");
        }
        let mut calls: Vec<&str> = lines.iter().map(|line| line.call).collect();
        calls.dedup();
        match tables.iter_mut().find(|(other, ..)| *other == table) {
            Some((.., names)) => names.push(name),
            None => tables.push((table, calls.len(), vec![name])),
        }
    }
    let mut page = HEAD.to_owned();
    for (table, calls, names) in tables {
        let _ = write!(page, "\n## {}: {calls} calls\n\n{table}", names.join(", "));
    }
    page
}

const HEAD: &str = "# System calls

What is left to each process once it is sealed, at level `seccomp`. Any other call, and one of these with other arguments or
by another convention (32-bit, x32), ends the process. *Over* are the carriers of its lanes. `cofferdam recipe DEVICE` shows
the same for one device, beside the rest of its recipe.

At level `strict` every host has the four calls of the first table, by seccomp mode 1, which takes them on any descriptor that
the process holds; where mode 1 is not to be had, by that filter. Its helper makes the others for it.

This page is written from the recipes (`COFFERDAM_WRITE_DOCS=1 cargo test -p cofferdam --test filters`), and a test holds it
to them. Another asks every filter about every call number with the values on each side of what it compares with. A third makes
every call in sealed processes of their own. It shows two that Linux asks no filter about: `uretprobe` (335, since 6.14) and
`uprobe` (336, since 6.18), which fail for all but the trampoline that the kernel puts into a process that an administrator traces.
";

#[test]
fn the_page_of_system_calls_says_what_the_recipes_say() {
    let path = root().join("docs/system-calls.md");
    if std::env::var_os("COFFERDAM_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).expect("the page is written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/system-calls.md is not what the recipes say; write it anew as it says itself");
}
