//! A device's options, checked against what it declares.

use crate::{OptionKind, OptionSpec};
use std::fmt;

/// Options as a person set them: names and unparsed values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

/// Why not: one sentence for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl From<String> for Refusal {
    fn from(sentence: String) -> Refusal {
        Refusal(sentence)
    }
}

impl From<&str> for Refusal {
    fn from(sentence: &str) -> Refusal {
        Refusal(sentence.to_owned())
    }
}

impl Options {
    /// These settings.
    #[must_use]
    pub fn new(settings: &[(&str, &str)]) -> Options {
        Options(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    pub(crate) fn of(settings: Vec<(String, String)>) -> Options {
        Options(settings)
    }

    /// The text of an option, or `fallback`.
    #[must_use]
    pub fn text<'a>(&'a self, name: &str, fallback: &'a str) -> &'a str {
        self.find(name).unwrap_or(fallback)
    }

    /// The number of an option, decimal or `0x` hexadecimal.
    pub fn number(&self, name: &str, fallback: u64) -> Result<u64, Refusal> {
        let Some(value) = self.find(name) else { return Ok(fallback) };
        let parsed = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.parse(),
        };
        parsed.map_err(|_| Refusal(format!("option `{name}`: `{value}` is not a number")))
    }

    /// Whether a flag is on.
    pub fn flag(&self, name: &str, fallback: bool) -> Result<bool, Refusal> {
        match self.find(name) {
            None => Ok(fallback),
            Some("" | "on" | "true") => Ok(true),
            Some("off" | "false") => Ok(false),
            Some(value) => Err(Refusal(format!("option `{name}`: `{value}` is not `on` or `off`"))),
        }
    }

    /// What the word stands for that an option has, or the first of these.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
        let word = self.find(name).or(choices.first().map(|(first, _)| *first)).unwrap_or_default();
        let found = choices.iter().find(|(choice, _)| *choice == word);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            let words = match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => words.concat(),
            };
            Refusal(format!("option `{name}`: `{word}` is not {words}"))
        })
    }

    /// Refuses what `specs` does not name, values that do not parse, and a name set twice.
    pub fn check(&self, specs: &[OptionSpec]) -> Result<(), Refusal> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            let Some(spec) = specs.iter().find(|spec| spec.name == *name) else {
                let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
                return Err(Refusal(format!("there is no option `{name}`; there are: {}", known.join(", "))));
            };
            if self.0[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal(format!("option `{name}` is given twice")));
            }
            match spec.kind {
                OptionKind::Number => drop(self.number(name, 0)?),
                OptionKind::Flag => drop(self.flag(name, false)?),
                OptionKind::Text => {}
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }
}
