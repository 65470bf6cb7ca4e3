//! The system call filter: from permits to a program that the kernel runs before each call.

use crate::held::Held;
use crate::recipe::{Call, Condition, Permit, Recipe};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// The one architecture of Cofferdam's guests and hosts. A call made by another convention (32-bit `int 0x80`, x32) is
/// none of those that are permitted.
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
/// Most rules of a call: the filter is a chain that the kernel walks, and 4096 instructions long at most.
const RULES_MAX: usize = 256;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The permits have no program.
    #[error("the system call filter cannot be built: {0}")]
    Build(seccompiler::Error),
    /// A call is permitted with and without conditions.
    #[error("the recipe permits `{0}` both with any arguments and with conditions")]
    Ambiguous(&'static str),
    /// A call has more combinations of permitted arguments than a filter can hold.
    #[error("the recipe has more than {RULES_MAX} rules for `{0}`")]
    TooMany(&'static str),
    /// The kernel refuses it.
    #[error("the system call filter was not installed: {0}")]
    Install(seccompiler::Error),
}

impl Recipe {
    /// The program that the kernel runs before each system call of a process that this recipe seals and that holds
    /// `held`; for those who want to check it.
    pub fn filter(&self, held: &[Held]) -> Result<BpfProgram, FilterError> {
        compile(&self.calls, held)
    }
}

/// The filter that leaves these calls. What is permitted on held descriptors is permitted on no other; a call whose
/// descriptors are not held is not permitted at all.
pub(crate) fn compile(permits: &[Permit], held: &[Held]) -> Result<BpfProgram, FilterError> {
    compile_with(permits, held, SeccompAction::KillProcess)
}

/// As [`compile`], without descriptors, but about every other call somebody is asked: the listener of the filter.
pub(crate) fn compile_asking(permits: &[Permit]) -> Result<BpfProgram, FilterError> {
    /// `SECCOMP_RET_TRACE` and `SECCOMP_RET_USER_NOTIF` of <linux/seccomp.h>; the compiler knows the first alone.
    const TRACE: u32 = 0x7ff0_0000;
    const ASK: u32 = 0x7fc0_0000;
    /// `BPF_RET | BPF_K`.
    const RETURN: u16 = 0x06;
    let mut program = compile_with(permits, &[], SeccompAction::Trace(0))?;
    for instruction in program.iter_mut().filter(|instruction| instruction.code == RETURN && instruction.k == TRACE) {
        instruction.k = ASK;
    }
    Ok(program)
}

fn compile_with(permits: &[Permit], held: &[Held], otherwise: SeccompAction) -> Result<BpfProgram, FilterError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional: Vec<Call> = Vec::new();
    for permit in permits {
        let Call { number, name } = permit.call;
        if permit.when.is_empty() {
            if rules.insert(number, Vec::new()).is_some_and(|rules| !rules.is_empty()) {
                return Err(FilterError::Ambiguous(name));
            }
            unconditional.push(permit.call);
            continue;
        }
        if unconditional.contains(&permit.call) {
            return Err(FilterError::Ambiguous(name));
        }
        let combinations = combinations(permit, held)?;
        // No rules would mean any arguments.
        if !combinations.is_empty() {
            let have = rules.entry(number).or_default();
            have.extend(combinations);
            if have.len() > RULES_MAX {
                return Err(FilterError::TooMany(name));
            }
        }
    }
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, ARCHITECTURE);
    let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
    program.map_err(|error| FilterError::Build(error.into()))
}

/// Every way in which all conditions of a permit hold: any of the rules may match.
fn combinations(permit: &Permit, held: &[Held]) -> Result<Vec<SeccompRule>, FilterError> {
    let mut ways: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
    for condition in &permit.when {
        let alternatives = alternatives(condition, held)?;
        ways = ways.iter().flat_map(|way| alternatives.iter().map(|next| [way.as_slice(), next].concat())).collect();
        if ways.len() > RULES_MAX {
            return Err(FilterError::TooMany(permit.call.name));
        }
    }
    ways.into_iter().map(|way| SeccompRule::new(way).map_err(|error| FilterError::Build(error.into()))).collect()
}

/// The ways in which one condition holds.
fn alternatives(condition: &Condition, held: &[Held]) -> Result<Vec<Vec<SeccompCondition>>, FilterError> {
    // The kernel takes descriptors and flags as 32 bits, whatever stands in the upper half of the register.
    let low = |argument, operator, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            .map_err(|error| FilterError::Build(error.into()))
    };
    match condition {
        Condition::On(kinds, mode) => {
            let usable = held.iter().filter(|held| kinds.contains(&held.kind) && held.mode.covers(*mode));
            let runs = runs(usable.map(|held| held.number as u64).collect());
            let way = |(first, last): (u64, u64)| {
                if first == last {
                    return Ok(vec![low(0, SeccompCmpOp::Eq, first)?]);
                }
                Ok(vec![low(0, SeccompCmpOp::Ge, first)?, low(0, SeccompCmpOp::Le, last)?])
            };
            runs.into_iter().map(way).collect()
        }
        Condition::OneOf(argument, values) => {
            values.iter().map(|named| Ok(vec![low(*argument, SeccompCmpOp::Eq, named.value)?])).collect()
        }
        Condition::Without(argument, bits) => Ok(vec![vec![low(*argument, SeccompCmpOp::MaskedEq(bits.value), 0)?]]),
    }
}

/// Numbers as runs without a gap, first and last: a VMM holds some for each device, and each rule costs instructions.
fn runs(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
    numbers.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

/// Installs it on every thread of this process. It stays until the process ends.
pub(crate) fn install(program: BpfProgram) -> Result<(), FilterError> {
    keep(program, |program| seccompiler::apply_filter_all_threads(program))
}

/// Installs it on this thread. It stays until the thread ends.
pub(crate) fn install_here(program: BpfProgram) -> Result<(), FilterError> {
    keep(program, |program| seccompiler::apply_filter(program))
}

fn keep(program: BpfProgram, apply: impl Fn(&BpfProgram) -> Result<(), seccompiler::Error>) -> Result<(), FilterError> {
    let result = apply(&program).map_err(FilterError::Install);
    // Giving its memory back could take a system call that has just been forbidden.
    std::mem::forget(program);
    result
}

#[cfg(test)]
#[path = "../probe/bpf.rs"]
mod bpf;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{DescriptorKind, Mode, Named, kvm};
    use bpf::{ALLOW, I386, KILL, X86_64};
    use schema::host::Level;
    use schema::lane::Carrier;

    fn answer_on(arch: u32, program: &BpfProgram, number: i64, arguments: [u64; 6]) -> u32 {
        bpf::answer(program, arch, number as u32, arguments)
    }

    fn answer(program: &BpfProgram, call: Call, arguments: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        answer_on(X86_64, program, call.number, all)
    }

    fn register_host() -> BpfProgram {
        let held = [
            Held::new(3, DescriptorKind::Channel, Mode::Write),
            Held::new(4, DescriptorKind::Eventfd, Mode::Read),
            Held::new(5, DescriptorKind::Eventfd, Mode::Write),
        ];
        compile(&Recipe::host(Level::Seccomp, &[]).calls, &held).expect("a filter")
    }

    #[test]
    fn reads_and_writes_are_pinned_to_numbers_and_directions() {
        let program = register_host();
        for (number, read, write) in
            [(2, KILL, KILL), (3, KILL, ALLOW), (4, ALLOW, KILL), (5, KILL, ALLOW), (6, KILL, KILL)]
        {
            assert_eq!(answer(&program, Call::READ, &[number]), read, "read {number}");
            assert_eq!(answer(&program, Call::WRITE, &[number]), write, "write {number}");
        }
    }

    #[test]
    fn ends_of_a_lane_are_pinned_to_their_directions_and_the_channel_is_still_not_read() {
        let carriers = [Carrier::Socket, Carrier::Pipe];
        let held = [
            Held::new(3, DescriptorKind::Channel, Mode::Write),
            Held::new(4, DescriptorKind::Eventfd, Mode::Read),
            Held::new(6, DescriptorKind::Channel, Mode::Both),
            Held::new(8, DescriptorKind::Pipe, Mode::Read),
            Held::new(10, DescriptorKind::Pipe, Mode::Write),
        ];
        let program = compile(&Recipe::host_over(Level::Seccomp, &[], &carriers).calls, &held).expect("a filter");
        for (number, read, write) in [
            (3, KILL, ALLOW),
            (4, ALLOW, KILL),
            (6, ALLOW, ALLOW),
            (8, ALLOW, KILL),
            (10, KILL, ALLOW),
            (11, KILL, KILL),
        ] {
            assert_eq!(answer(&program, Call::READ, &[number]), read, "read {number}");
            assert_eq!(answer(&program, Call::WRITE, &[number]), write, "write {number}");
        }
        assert_eq!(
            answer(&program, Call { number: libc::SYS_sendmsg, name: "sendmsg" }, &[6]),
            KILL,
            "a lane carries data alone"
        );
    }

    #[test]
    fn neighbouring_numbers_are_permitted_and_no_number_between_them_and_the_next() {
        let numbers = [30, 4, 6, 5, 9, 11, 10];
        let mut held: Vec<Held> =
            numbers.iter().map(|number| Held::new(*number, DescriptorKind::Eventfd, Mode::Write)).collect();
        held.push(Held::new(7, DescriptorKind::Eventfd, Mode::Read));
        let program = compile(&Recipe::host(Level::Seccomp, &[]).calls, &held).expect("a filter");
        for number in 0..40 {
            let expected = if numbers.contains(&number) { ALLOW } else { KILL };
            assert_eq!(answer(&program, Call::WRITE, &[number as u64]), expected, "{number}");
        }
        assert_eq!(answer(&program, Call::WRITE, &[u64::MAX]), KILL);
    }

    #[test]
    fn a_vmm_of_sixty_four_devices_has_a_filter() {
        // For each device: two wakes, a reply, a vector for each of three queues, and a gap where a region was closed.
        let numbers = (4..4 + 64 * 8).filter(|number| number % 8 < 6);
        let held: Vec<Held> = numbers.map(|number| Held::new(number, DescriptorKind::Eventfd, Mode::Both)).collect();
        compile(&Recipe::vmm(Level::Seccomp, 16, true, &[], false).calls, &held).expect("a filter");
    }

    #[test]
    fn the_upper_half_of_a_descriptor_is_ignored_as_the_kernel_ignores_it() {
        assert_eq!(answer(&register_host(), Call::READ, &[1 << 32 | 4]), ALLOW);
        assert_eq!(answer(&register_host(), Call::READ, &[1 << 32 | 5]), KILL);
    }

    #[test]
    fn calls_of_another_convention_are_killed() {
        let program = register_host();
        // Number 1 is exit of 32-bit programs and write of ours; bit 30 marks a call of x32.
        assert_eq!(answer_on(I386, &program, 1, [3, 0, 0, 0, 0, 0]), KILL);
        assert_eq!(answer_on(X86_64, &program, 1 << 30 | Call::WRITE.number, [3, 0, 0, 0, 0, 0]), KILL);
    }

    #[test]
    fn a_call_whose_descriptors_are_not_held_is_not_permitted_at_all() {
        let program = compile(&Recipe::host(Level::Seccomp, &[]).calls, &[]).expect("a filter");
        for number in 0..64 {
            assert_eq!(answer(&program, Call::READ, &[number]), KILL);
        }
        assert_eq!(answer(&program, Call::EXIT, &[]), ALLOW);
    }

    #[test]
    fn all_conditions_of_a_permit_must_hold() {
        let flag = Named { value: 8, name: "NOWAIT" };
        let recipe = Recipe::host(Level::Seccomp, &[]).permit(
            Call::PREADV2,
            vec![Condition::On(&[DescriptorKind::Eventfd], Mode::Read), Condition::OneOf(5, vec![flag])],
            "a test",
        );
        let held = [
            Held::new(4, DescriptorKind::Eventfd, Mode::Read),
            Held::new(7, DescriptorKind::Eventfd, Mode::Both),
            Held::new(9, DescriptorKind::File, Mode::Both),
        ];
        let program = compile(&recipe.calls, &held).expect("a filter");
        for (number, flags, expected) in [(4, 8, ALLOW), (7, 8, ALLOW), (4, 0, KILL), (4, 9, KILL), (9, 8, KILL)] {
            assert_eq!(answer(&program, Call::PREADV2, &[number, 0, 0, 0, 0, flags]), expected, "{number} {flags}");
        }
    }

    #[test]
    fn a_call_permitted_both_with_and_without_conditions_is_refused() {
        let plain = Recipe::host(Level::Seccomp, &[]).permit(Call::READ, vec![], "a test");
        let held = [Held::new(4, DescriptorKind::Eventfd, Mode::Read)];
        assert!(matches!(compile(&plain.calls, &held), Err(FilterError::Ambiguous("read"))));
    }

    #[test]
    fn the_vmm_makes_its_kvm_requests_on_its_kvm_descriptors_alone() {
        let held = [
            Held::new(3, DescriptorKind::Channel, Mode::Both),
            Held::new(8, DescriptorKind::KvmMachine, Mode::Both),
            Held::new(9, DescriptorKind::KvmProcessor, Mode::Both),
        ];
        let program = compile(&Recipe::vmm(Level::Seccomp, 1, true, &[], false).calls, &held).expect("a filter");
        // KVM_CREATE_VCPU, and TIOCSTI.
        let foreign = [0xAE41, 0x5412];
        for (number, request, expected) in [
            (9, kvm::RUN.value, ALLOW),
            (8, kvm::IRQ_LINE.value, ALLOW),
            (8, kvm::RUN.value, KILL),
            (9, kvm::IRQ_LINE.value, KILL),
            (3, kvm::RUN.value, KILL),
            (8, foreign[0], KILL),
            (9, foreign[1], KILL),
        ] {
            assert_eq!(answer(&program, Call::IOCTL, &[number, request]), expected, "{number} {request:#x}");
        }
    }

    #[test]
    fn a_plugin_that_writes_a_file_is_not_ended_for_it_by_the_filter_of_loading() {
        let device = crate::recipe::tests::device("it", &[schema::manifest::Power::FileWrite]);
        let recipe = Recipe::plugin(Level::Seccomp, &device, Carrier::Memory, Vec::new());
        let outer = compile(&recipe.loading.as_ref().expect("a plugin loads").calls, &[]).expect("a filter");
        let inner = compile_asking(&recipe.calls).expect("a filter");
        for call in [Call::PREAD64, Call::PREADV, Call::PWRITE64, Call::PWRITEV, Call::FDATASYNC] {
            assert_eq!((answer(&outer, call, &[3]), answer(&inner, call, &[3])), (ALLOW, ALLOW), "{}", call.name);
        }
        let other = crate::recipe::tests::device("it", &[]);
        let recipe = Recipe::plugin(Level::Seccomp, &other, Carrier::Memory, Vec::new());
        let outer = compile(&recipe.loading.as_ref().expect("a plugin loads").calls, &[]).expect("a filter");
        assert_eq!(answer(&outer, Call::PWRITE64, &[3]), KILL);
    }

    #[test]
    fn a_plugin_is_permitted_at_once_what_a_sealed_one_has_and_is_asked_about_what_loading_takes() {
        const ASK: u32 = 0x7fc0_0000;
        let recipe =
            Recipe::plugin(Level::Seccomp, &crate::recipe::tests::device("it", &[]), Carrier::Memory, Vec::new());
        let loading = recipe.loading.as_ref().expect("a plugin loads");
        let outer = compile(&loading.calls, &[]).expect("a filter");
        let inner = compile_asking(&recipe.calls).expect("a filter");
        let both = |call: Call, arguments: &[u64]| (answer(&outer, call, arguments), answer(&inner, call, arguments));
        for call in [Call::READ, Call::WRITE, Call::FUTEX, Call::BRK, Call::EXIT] {
            assert_eq!(both(call, &[3]), (ALLOW, ALLOW), "{}", call.name);
        }
        for call in [Call::OPENAT, Call::RECVMSG, Call::EXECVEAT, Call::CLOSE] {
            assert_eq!(both(call, &[3]), (ALLOW, ASK), "{}", call.name);
        }
        let executable = [0, 4096, 4];
        assert_eq!(both(Call::MMAP, &executable), (ALLOW, ASK), "a library is mapped while it loads alone");
        for name in ["sendmsg", "clone", "execve", "ptrace"] {
            let number = match name {
                "sendmsg" => libc::SYS_sendmsg,
                "clone" => libc::SYS_clone,
                "execve" => libc::SYS_execve,
                _ => libc::SYS_ptrace,
            };
            assert_eq!(answer(&outer, Call { number, name }, &[3]), KILL, "{name}");
        }
    }

    #[test]
    fn the_vmm_maps_no_executable_memory() {
        let program = compile(&Recipe::vmm(Level::Seccomp, 1, false, &[], false).calls, &[]).expect("a filter");
        for call in [Call::MMAP, Call::MPROTECT] {
            for (protection, expected) in [(0, ALLOW), (3, ALLOW), (4, KILL), (7, KILL), (1 << 32 | 4, KILL)] {
                assert_eq!(answer(&program, call, &[0, 4096, protection]), expected, "{} {protection:#x}", call.name);
            }
        }
    }
}
