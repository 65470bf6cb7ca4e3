//! All attempts, by group.

use super::attempt::{Attempt, Group};
use super::{behaviour, descriptors, kernel, memory, messages, policy, resources};

/// All groups.
pub const GROUPS: [&Group; 7] = [
    &kernel::GROUP,
    &resources::GROUP,
    &descriptors::GROUP,
    &memory::GROUP,
    &messages::GROUP,
    &behaviour::GROUP,
    &policy::GROUP,
];

/// All attempts, in order.
pub fn all() -> impl Iterator<Item = (&'static Group, &'static Attempt)> {
    GROUPS.into_iter().flat_map(|group| group.attempts.iter().map(move |attempt| (group, attempt)))
}

/// The attempt of this name.
pub fn find(id: &str) -> Option<&'static Attempt> {
    all().map(|(_, attempt)| attempt).find(|attempt| attempt.id == id)
}
