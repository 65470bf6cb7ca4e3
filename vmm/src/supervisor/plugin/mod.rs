//! Plugins: devices that somebody else's program serves, in whatever language.
//!
//! A plugin speaks the schema on descriptor 3, as every device host does, and is a catalogue of one: what it declares is asked
//! of it, while it runs confined with nothing but its channel. Nothing of it is believed: not its manifest, not its word
//! that it is sealed.

mod elf;
mod program;
mod python;
mod view;

pub use program::PluginProgram;

use super::mac::Mac;
use super::plan::Demands;
use super::process::Process;
use anyhow::{Context, Result, bail, ensure};
use sandbox::policy::PLUGIN;
use sandbox::{Program, Recipe, Stage};
use schema::host::{Assign, Assignment, Level, Manifests, Setting};
use schema::lane::Carrier;
use schema::manifest::{Class, Manifest, Power};
use std::path::{Path, PathBuf};

/// Carriers that a plugin may be behind. What the others need no SDK has.
pub const CARRIERS: [Carrier; 2] = [Carrier::Memory, Carrier::Socket];

/// A plugin that was asked what it is.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// As the operator named it.
    pub path: PathBuf,
    /// How it is started.
    pub program: PluginProgram,
    /// What it declares with its options.
    pub manifest: Manifest,
}

impl Plugin {
    /// Starts the plugin in its sandbox, has it declare what it is with these options, and ends it.
    pub fn ask(path: &Path, options: &[Setting], level: Level, carrier: Carrier, demands: &Demands) -> Result<Plugin> {
        let program = PluginProgram::find(path)?;
        let named = format!("plugin {}", path.display());
        let assign = assignment(path, options, level, carrier).context(named.clone())?;
        let recipe = Recipe::plugin(level, &unknown(path), carrier, program.view.clone());
        let executable = Program::open(&program.executable).with_context(|| format!("{named}: cannot be opened"))?;
        // What goes wrong with the process names it.
        // Of no VM yet, whose files it might be handed.
        let mac = Mac::demanded(demands, "", false)?;
        mac.claim_channels()?;
        let recipe = mac.label(demands.apply(recipe)?, PLUGIN)?;
        let mut process = Process::spawn_with(&executable, &program.argv0, &program.arguments, &named, recipe)?;
        process.greet()?;
        process.require_clean(Stage::Confined)?;
        let Manifests { manifests } = process.ask(&assign)?;
        let manifest = declared(manifests, options).context(named)?;
        Ok(Plugin { path: path.to_owned(), program, manifest })
    }

    /// Its recipe.
    #[must_use]
    pub fn recipe(&self, level: Level, carrier: Carrier) -> Recipe {
        Recipe::plugin(level, &self.manifest, carrier, self.program.view.clone())
    }

    /// Refuses a wish that the operator did not grant.
    pub fn check_wishes(&self, granted: &[Power]) -> Result<()> {
        for wish in &self.manifest.wishes {
            let name = wish.power.name();
            ensure!(
                granted.contains(&wish.power),
                "plugin {}: wishes for `{name}` ({}), which it was not granted; if it may have that, add `grant={name}` to its \
                 --device",
                self.path.display(),
                wish.because
            );
        }
        Ok(())
    }
}

/// What it is asked to be.
fn assignment(path: &Path, options: &[Setting], level: Level, carrier: Carrier) -> Result<Assign> {
    ensure!(
        level != Level::Strict,
        "level `strict` has no room for a language's run time; give it another, as --sandbox strict,{}=seccomp",
        path.display()
    );
    ensure!(
        CARRIERS.contains(&carrier),
        "a plugin is reached over `memory` or `socket`, not over `{}`",
        carrier.name()
    );
    let device =
        Assignment { device: String::new(), options: options.to_vec(), carrier, poisoned: false, exchanged: None };
    Ok(Assign { level, devices: vec![device], threaded: false })
}

/// What it declares, if that is one device that makes sense.
fn declared(manifests: Vec<Manifest>, options: &[Setting]) -> Result<Manifest> {
    let [manifest] = <[Manifest; 1]>::try_from(manifests)
        .map_err(|manifests| anyhow::anyhow!("it declares {} devices, and a plugin is one", manifests.len()))?;
    manifest.check().context("its manifest makes no sense")?;
    // There is nothing by which a person could say which network it is on.
    if let Some(wish) = manifest.wishes.iter().find(|wish| wish.power == Power::Frames) {
        bail!("it wishes for `frames` ({}), and a plugin has no network", wish.because);
    }
    check_options(&manifest, options)?;
    Ok(manifest)
}

/// Refuses what the manifest does not name. Their values are the plugin's to check.
fn check_options(manifest: &Manifest, options: &[Setting]) -> Result<()> {
    for (at, option) in options.iter().enumerate() {
        let known: Vec<&str> = manifest.options.iter().map(|spec| spec.name.as_str()).collect();
        ensure!(
            known.contains(&option.name.as_str()),
            "there is no option `{}`; there {}",
            option.name,
            if known.is_empty() { "are none".to_owned() } else { format!("are: {}", known.join(", ")) }
        );
        ensure!(
            options[..at].iter().all(|earlier| earlier.name != option.name),
            "option `{}` is given twice",
            option.name
        );
    }
    Ok(())
}

/// What is known of a plugin that was not asked yet.
fn unknown(path: &Path) -> Manifest {
    Manifest {
        name: path.file_stem().map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned()),
        summary: String::new(),
        class: Class::System,
        ranges: Vec::new(),
        registers: Vec::new(),
        lines: Vec::new(),
        vectors: 0,
        doorbells: Vec::new(),
        wishes: Vec::new(),
        state_bytes: 0,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: Vec::new(),
        options: Vec::new(),
        remembered: 0,
    }
}
