//! What is said of single layers of the sandbox.

use super::usage;
use anyhow::Result;
use clap::Args as ClapArgs;
use sandbox::{LayerName, Module};
use schema::host::Level;
use serde::Deserialize;
use vmm::supervisor::{Demands, LabelChoice};

/// What is said of single layers of the sandbox. `run` has the same, which a config file may say as well.
#[derive(ClapArgs)]
pub struct LayerArgs {
    /// Refuse to start without this layer of the sandbox; `cofferdam recipe` lists them. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub require: Vec<LayerSpec>,
    /// Start without this layer of the sandbox where it is not to be had. May be repeated.
    #[arg(long, value_name = "LAYER")]
    pub allow_missing: Vec<LayerSpec>,
    /// Labels of a security module: auto, none, selinux or apparmor. [default: auto, where the policy is installed]
    #[arg(long, value_name = "WHOSE")]
    pub label: Option<LabelSpec>,
}

impl LayerArgs {
    /// The same, for a plan.
    pub fn demands(&self) -> Result<Demands> {
        demands(&self.require, &self.allow_missing, self.label)
    }
}

/// What these flags demand; refuses a layer that is both required and allowed to be missing.
pub fn demands(require: &[LayerSpec], allow_missing: &[LayerSpec], label: Option<LabelSpec>) -> Result<Demands> {
    let names = |specs: &[LayerSpec]| specs.iter().map(|spec| spec.0).collect::<Vec<_>>();
    let (required, may_be_missing) = (names(require), names(allow_missing));
    if let Some(both) = required.iter().find(|layer| may_be_missing.contains(layer)) {
        return Err(usage!("--require and --allow-missing both name `{}`; give one of the two", both.name()));
    }
    Ok(Demands { required, may_be_missing, label: label.map_or_else(LabelChoice::default, |spec| spec.0) })
}

/// A layer of the sandbox, by its name.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct LayerSpec(LayerName);

impl std::str::FromStr for LayerSpec {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        word.parse().map(LayerSpec)
    }
}

impl TryFrom<String> for LayerSpec {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

/// Whose labels processes get.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct LabelSpec(LabelChoice);

impl std::str::FromStr for LabelSpec {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        Ok(LabelSpec(match word {
            "auto" => LabelChoice::Auto,
            "none" => LabelChoice::None,
            "selinux" => LabelChoice::Module(Module::Selinux),
            "apparmor" => LabelChoice::Module(Module::Apparmor),
            other => return Err(format!("`{other}` gives no labels; there are auto, none, selinux and apparmor")),
        }))
    }
}

impl TryFrom<String> for LabelSpec {
    type Error = String;
    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

/// The level of `attack --sandbox`: attempts are made in a whole sandbox, so a part of one is no answer.
pub fn whole_sandbox(word: &str) -> Result<Level, String> {
    match word {
        "seccomp" => Ok(Level::Seccomp),
        "strict" => Ok(Level::Strict),
        other => Err(format!("`{other}` is not a whole sandbox; there are seccomp and strict")),
    }
}
