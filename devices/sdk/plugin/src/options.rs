//! A device's options: what it declares, and what a person set.

use std::fmt;

/// An option that a person may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// What it is when it is not set.
    pub default: Value<&'static str>,
    /// What it is for.
    pub summary: &'static str,
}

/// What an option's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<T> {
    /// A number, decimal or `0x` hexadecimal.
    Number(u64),
    /// Text.
    Text(T),
    /// `on` or `off`.
    Flag(bool),
}

/// Values of a device's options: what was set, or the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(&'static str, Value<String>)>);

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

impl OptionSpec {
    /// An option whose value is a number, decimal or `0x` hexadecimal.
    #[must_use]
    pub const fn number(name: &'static str, default: u64, summary: &'static str) -> OptionSpec {
        OptionSpec { name, default: Value::Number(default), summary }
    }

    /// An option whose value is text.
    #[must_use]
    pub const fn text(name: &'static str, default: &'static str, summary: &'static str) -> OptionSpec {
        OptionSpec { name, default: Value::Text(default), summary }
    }

    /// An option that is on or off.
    #[must_use]
    pub const fn flag(name: &'static str, default: bool, summary: &'static str) -> OptionSpec {
        OptionSpec { name, default: Value::Flag(default), summary }
    }

    /// What it is when a person set this.
    fn parse(&self, value: &str) -> Result<Value<String>, Refusal> {
        let name = self.name;
        match self.default {
            Value::Text(_) => Ok(Value::Text(value.to_owned())),
            Value::Flag(_) => match value {
                "" | "on" | "true" => Ok(Value::Flag(true)),
                "off" | "false" => Ok(Value::Flag(false)),
                _ => Err(Refusal(format!("option `{name}`: `{value}` is not `on` or `off`"))),
            },
            Value::Number(_) => {
                let (digits, base) = value.strip_prefix("0x").map_or((value, 10), |digits| (digits, 16));
                // A sign is none.
                let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let parsed = u64::from_str_radix(digits, base).ok().filter(|_| plain).map(Value::Number);
                parsed.ok_or_else(|| Refusal(format!("option `{name}`: `{value}` is not a number")))
            }
        }
    }
}

impl Options {
    /// What was set, or the default. Refuses what `specs` does not name, values that do not parse, and a name set twice.
    pub fn parse<S: AsRef<str>>(specs: &[OptionSpec], settings: &[(S, S)]) -> Result<Options, Refusal> {
        for (at, (name, _)) in settings.iter().enumerate() {
            let name = name.as_ref();
            if !specs.iter().any(|spec| spec.name == name) {
                let known: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
                return Err(Refusal(format!("there is no option `{name}`; there are: {}", known.join(", "))));
            }
            if settings[..at].iter().any(|(earlier, _)| earlier.as_ref() == name) {
                return Err(Refusal(format!("option `{name}` is given twice")));
            }
        }
        let value = |spec: &OptionSpec| {
            let set = settings.iter().find(|(name, _)| name.as_ref() == spec.name);
            let value = match (set, spec.default) {
                (Some((_, value)), _) => spec.parse(value.as_ref())?,
                (None, Value::Number(number)) => Value::Number(number),
                (None, Value::Text(text)) => Value::Text(text.to_owned()),
                (None, Value::Flag(flag)) => Value::Flag(flag),
            };
            Ok((spec.name, value))
        };
        specs.iter().map(value).collect::<Result<_, _>>().map(Options)
    }

    /// The number of an option.
    ///
    /// # Panics
    ///
    /// As the next two: where the device declares no such option.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Number(number)) => *number,
            _ => panic!("the device declares no option `{name}` that is a number"),
        }
    }

    /// The text of an option.
    #[must_use]
    #[allow(clippy::missing_panics_doc)] // As said above.
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => panic!("the device declares no option `{name}` that is text"),
        }
    }

    /// Whether a flag is on.
    #[must_use]
    #[allow(clippy::missing_panics_doc)] // As said above.
    pub fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Flag(flag)) => *flag,
            _ => panic!("the device declares no option `{name}` that is on or off"),
        }
    }

    /// What the word stands for that an option has: one of these.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
        let word = self.text(name);
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

    fn value(&self, name: &str) -> Option<&Value<String>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}
