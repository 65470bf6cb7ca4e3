//! A device's options, checked against what it declares.

use schema::manifest::{OptionKind, OptionSpec};

/// Options as a person set them: names and unparsed values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// These settings.
    pub fn new<N: Into<String>, V: Into<String>>(settings: impl IntoIterator<Item = (N, V)>) -> Options {
        Options(settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// Refuses what `specs` does not name, values that do not parse, and a name set twice.
    pub fn check(&self, specs: &[OptionSpec]) -> Result<(), OptionError> {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let Some(spec) = specs.iter().find(|spec| spec.name == *name) else {
                return Err(OptionError::Unknown {
                    name: name.clone(),
                    known: specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
                });
            };
            if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(OptionError::Twice { name: name.clone() });
            }
            match spec.kind {
                OptionKind::Number => drop(parse_number(name, value)?),
                OptionKind::Flag => drop(parse_flag(name, value)?),
                OptionKind::Text => {}
            }
        }
        Ok(())
    }

    /// The text of `name`, if set.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }

    /// The number `name`, decimal or `0x` hexadecimal.
    pub fn number(&self, name: &str) -> Result<Option<u64>, OptionError> {
        self.text(name).map(|value| parse_number(name, value)).transpose()
    }

    /// The flag `name`: `on`, `off`, or nothing for on.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, OptionError> {
        self.text(name).map(|value| parse_flag(name, value)).transpose()
    }
}

fn parse_number(name: &str, value: &str) -> Result<u64, OptionError> {
    let parsed = match value.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| OptionError::Value { name: name.into(), value: value.into(), wanted: "a number" })
}

fn parse_flag(name: &str, value: &str) -> Result<bool, OptionError> {
    match value {
        "" | "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(OptionError::Value { name: name.into(), value: value.into(), wanted: "`on` or `off`" }),
    }
}

/// What is wrong with a person's options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("there is no option `{name}`; there are: {known}")]
    Unknown {
        /// As given.
        name: String,
        /// What there is.
        known: String,
    },
    /// Set twice.
    #[error("option `{name}` is given twice")]
    Twice {
        /// As given.
        name: String,
    },
    /// Not such a value.
    #[error("option `{name}`: `{value}` is not {wanted}")]
    Value {
        /// The option.
        name: String,
        /// As given.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}
