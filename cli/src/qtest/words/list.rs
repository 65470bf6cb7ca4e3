//! The words of an argument: `first,name=value,…`.

use crate::args::usage;
use anyhow::Result;
use std::collections::BTreeMap;
use vmm::pci::{FIRST_SLOT, SLOTS};

/// `first,name=value,…` as the first word and the others; a comma that is part of a value is written twice.
pub fn list(text: &str) -> (String, BTreeMap<String, String>) {
    const COMMA: char = '\0';
    let text = text.replace(",,", &COMMA.to_string());
    let mut parts = text.split(',').map(|part| part.replace(COMMA, ","));
    let first = parts.next().unwrap_or_default();
    let pair = |part: String| match part.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (part, "on".to_owned()),
    };
    (first, parts.map(pair).collect())
}

/// The same where the first word may be `name=value` too.
pub fn pairs(text: &str) -> BTreeMap<String, String> {
    list(&format!(",{text}")).1
}

/// A slot of the PCI bus, as `SLOT` or `SLOT.0` in hexadecimal.
pub fn slot(addr: &str) -> Result<u8> {
    let (slot, function) = addr.split_once('.').unwrap_or((addr, "0"));
    let number = u8::from_str_radix(slot.trim_start_matches("0x"), 16).ok();
    match number.filter(|number| (FIRST_SLOT..SLOTS).contains(number) && function == "0") {
        Some(number) => Ok(number),
        None => Err(usage!("addr={addr}: give a slot from {FIRST_SLOT} to {:x}; each has one function", SLOTS - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_value_is_written_twice() {
        let (first, options) = list("a,,b,c=d,,e,f");
        assert_eq!(first, "a,b");
        assert_eq!((options["c"].as_str(), options["f"].as_str()), ("d,e", "on"));
    }
}
