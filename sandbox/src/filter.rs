//! The system call filter: from permits to a program that the kernel runs before each call.

use crate::confine::Held;
use crate::recipe::{Call, Condition, Permit};
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

/// The filter that leaves these calls. What is permitted on held descriptors is permitted on no other; a call whose
/// descriptors are not held is not permitted at all.
pub(crate) fn compile(permits: &[Permit], held: &[Held]) -> Result<BpfProgram, FilterError> {
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
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, ARCHITECTURE);
    let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
    program.map_err(|error| FilterError::Build(error.into()))
}

/// Every way in which all conditions of a permit hold: any of the rules may match.
fn combinations(permit: &Permit, held: &[Held]) -> Result<Vec<SeccompRule>, FilterError> {
    let mut ways: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
    for condition in &permit.when {
        let alternatives = alternatives(condition, held)?;
        ways = ways
            .iter()
            .flat_map(|way| alternatives.iter().map(|next| way.iter().chain([next]).cloned().collect()))
            .collect();
        if ways.len() > RULES_MAX {
            return Err(FilterError::TooMany(permit.call.name));
        }
    }
    ways.into_iter().map(|way| SeccompRule::new(way).map_err(|error| FilterError::Build(error.into()))).collect()
}

fn alternatives(condition: &Condition, held: &[Held]) -> Result<Vec<SeccompCondition>, FilterError> {
    // The kernel takes descriptors and flags as 32 bits, whatever stands in the upper half of the register.
    let low = |argument, operator, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            .map_err(|error| FilterError::Build(error.into()))
    };
    match condition {
        Condition::On(kinds, mode) => held
            .iter()
            .filter(|held| kinds.contains(&held.kind) && held.mode.covers(*mode))
            .map(|held| low(0, SeccompCmpOp::Eq, held.number as u64))
            .collect(),
        Condition::OneOf(argument, values) => {
            values.iter().map(|named| low(*argument, SeccompCmpOp::Eq, named.value)).collect()
        }
        Condition::Without(argument, bits) => Ok(vec![low(*argument, SeccompCmpOp::MaskedEq(bits.value), 0)?]),
    }
}

/// Installs it on every thread of this process. It stays until the process ends.
pub(crate) fn install(program: BpfProgram) -> Result<(), FilterError> {
    let result = seccompiler::apply_filter_all_threads(&program).map_err(FilterError::Install);
    // Giving its memory back could take a system call that has just been forbidden.
    std::mem::forget(program);
    result
}
