//! Which licences and which sources our dependencies may have. Read from `cargo metadata`: no database is asked.

use serde_json::Value;

use crate::report::Outcome;

/// Licences that go with `Apache-2.0 OR MIT`: permissive, no duty beyond notice.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Where every dependency comes from: the public registry, whose packages are checked against Cargo.lock.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks each package of the output of `cargo metadata --format-version 1`.
pub fn check(metadata: &Value) -> Outcome {
    let mut outcome = Outcome::default();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap_or_default(),
            package["version"].as_str().unwrap_or_default()
        );
        let source = package["source"].as_str();
        if source.is_some_and(|source| source != REGISTRY) {
            outcome.add_failure(&name, format!("comes from {}, not from crates.io", source.unwrap_or_default()));
        }
        match package["license"].as_str() {
            None => outcome.add_failure(&name, "names no licence"),
            Some(licence) if !allowed(licence) => {
                outcome.add_failure(&name, format!("its licence, {licence}, is not in xtask/src/licences.rs"));
            }
            Some(_) => {}
        }
    }
    if metadata["packages"].as_array().is_none_or(Vec::is_empty) {
        outcome.add_failure("cargo metadata", "shows no packages");
    }
    if outcome.failed.is_empty() {
        outcome.passed = 1;
    }
    outcome
}

/// Whether an SPDX expression can be met with allowed licences alone. A slash, which old manifests use, means OR.
pub fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    alternatives(&mut rest) == Some(true) && rest.is_empty()
}

/// `a OR b`; `None` where it is no expression.
fn alternatives(words: &mut &[&str]) -> Option<bool> {
    let mut met = conjunction(words)?;
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        met |= conjunction(words)?;
    }
    Some(met)
}

/// `a AND b`, which binds closer than OR.
fn conjunction(words: &mut &[&str]) -> Option<bool> {
    let mut met = licence(words)?;
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        met &= licence(words)?;
    }
    Some(met)
}

fn licence(words: &mut &[&str]) -> Option<bool> {
    let (&word, rest) = words.split_first()?;
    *words = rest;
    if word == "(" {
        let met = alternatives(words)?;
        let (&")", rest) = words.split_first()? else { return None };
        *words = rest;
        return Some(met);
    }
    if let [with @ "WITH", exception, rest @ ..] = *words {
        *words = rest;
        return Some(ALLOWED.contains(&format!("{word} {with} {exception}").as_str()));
    }
    Some(ALLOWED.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_met_when_one_alternative_is() {
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("GPL-3.0-only OR MIT"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only"));
    }

    #[test]
    fn a_licence_outside_the_list_is_refused() {
        assert!(!allowed("GPL-3.0-only"));
        assert!(!allowed("MIT AND GPL-2.0-only"));
        assert!(!allowed("Apache-2.0 WITH Classpath-exception-2.0"));
        assert!(!allowed(""));
        assert!(!allowed("(MIT"));
        assert!(!allowed("MIT Apache-2.0"));
    }

    #[test]
    fn a_package_from_elsewhere_is_named() {
        let metadata = serde_json::json!({"packages": [
            {"name": "ours", "version": "0.1.0", "license": "MIT", "source": null},
            {"name": "odd", "version": "1.0.0", "license": "MIT", "source": "git+https://example.org/odd"},
        ]});
        let outcome = check(&metadata);
        assert_eq!(outcome.failed.len(), 1);
        assert_eq!(outcome.failed[0].name, "odd 1.0.0");
    }
}
