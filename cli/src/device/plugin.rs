//! Plugins on the command line: `./sensor.py,base=0x440,grant=switch+memory,file=disk.img`.

use crate::args::{Choice, usage};
use crate::catalogue::BuiltIn;
use crate::machine::{is_plugin, kind, parse_device, planned};
use anyhow::Result;
use schema::host::{Level, Setting};
use schema::lane::Carrier;
use schema::manifest::{Manifest, Power};
use std::path::Path;
use vmm::supervisor::{Backing, Demands, Pins, PlannedDevice, Plugin, Stand};

/// Says which powers a plugin may have. A device's own option may not have this name.
const GRANT: &str = "grant";
/// Says what is behind a plugin's file, once for each.
const FILE: &str = "file";

/// Has each plugin among the devices of a machine declare what it is, and refuses what was not granted.
pub fn ask(devices: &mut [PlannedDevice], demands: &Demands) -> Result<()> {
    for device in devices.iter_mut().filter(|device| is_plugin(&device.device)) {
        let said = Said::of(&device.device, std::mem::take(&mut device.options))?;
        let path = Path::new(&device.device);
        let asked = Plugin::ask(path, &said.options, device.level, device.carrier, demands);
        let plugin = asked.map_err(|error| usage!("--device {error:#}"))?;
        plugin.check_wishes(&said.granted).map_err(|error| usage!("--device: {error:#}"))?;
        let files = |wish: &&schema::manifest::Wish| matches!(wish.power, Power::FileRead | Power::FileWrite);
        let wanted = plugin.manifest.wishes.iter().filter(files).count();
        if wanted != said.files.len() {
            return Err(usage!(
                "--device: plugin {} works on {wanted} files, and {} are given; give `file=PATH` for each",
                device.device,
                said.files.len()
            ));
        }
        (device.options, device.backing) = (said.options, said.files);
        device.plugin = Some(plugin);
    }
    Ok(())
}

/// Has one plugin declare what it is, whatever it wishes for.
pub fn ask_one(path: &str, options: Vec<Setting>, level: Level, carrier: Carrier) -> Result<Plugin> {
    let said = Said::of(path, options)?;
    Plugin::ask(Path::new(path), &said.options, level, carrier, &Demands::default())
        .map_err(|error| usage!("{error:#}"))
}

/// A plugin that can be started, as it was asked for.
pub struct Checked {
    pub plugin: Plugin,
    pub level: Level,
    said: Said,
}

impl Checked {
    /// Has a plugin, with the options that are given behind its path, declare what it is.
    pub fn of(spec: &str, level: Level) -> Result<Checked> {
        let (path, options) = parse_device(spec)?;
        if !is_plugin(&path) {
            return Err(usage!("{path}: give a plugin by its path, as ./{path}"));
        }
        let said = Said::of(&path, options)?;
        let plugin = ask_one(&path, said.options.clone(), level, Carrier::Memory)?;
        Ok(Checked { plugin, level, said })
    }

    /// What it declares.
    pub fn manifest(&self) -> &Manifest {
        &self.plugin.manifest
    }

    /// Puts it on a stand. Whatever it wishes for it gets.
    pub fn stand(&self, carrier: Carrier) -> Result<Stand> {
        Stand::start(&self.device(carrier), &BuiltIn)
    }

    fn device(&self, carrier: Carrier) -> PlannedDevice {
        let name = self.plugin.path.to_string_lossy().into_owned();
        let mut device = planned(&name, self.said.options.clone(), self.said.files.clone());
        device.label = kind(&name);
        (device.level, device.carrier, device.plugin) = (self.level, carrier, Some(self.plugin.clone()));
        device
    }
}

/// A device, plugin or not, on a stand. What is behind its files is said alike.
pub fn stand(spec: &str, carrier: Carrier, level: Level) -> Result<Stand> {
    Stand::start(&of_spec(spec, carrier, level)?, &BuiltIn)
}

/// The same, where it is said who runs where. With `poll` each side looks for a while before it sleeps.
pub fn stand_on(spec: &str, carrier: Carrier, poll: bool, pins: Pins) -> Result<Stand> {
    Stand::start_on(&of_spec(spec, carrier, Level::DEFAULT)?, &BuiltIn, poll, Some(pins))
}

/// A device, plugin or not, as it is asked for. Whatever a plugin wishes for it gets.
pub fn of_spec(spec: &str, carrier: Carrier, level: Level) -> Result<PlannedDevice> {
    let (name, settings) = parse_device(spec)?;
    if is_plugin(&name) {
        return Ok(Checked::of(spec, level)?.device(carrier));
    }
    let said = Said::of(&name, settings)?;
    let mut device = planned(&name, said.options, said.files);
    (device.level, device.carrier) = (level, carrier);
    Ok(device)
}

/// What was said of a plugin.
struct Said {
    options: Vec<Setting>,
    granted: Vec<Power>,
    files: Vec<Backing>,
}

impl Said {
    fn of(plugin: &str, settings: Vec<Setting>) -> Result<Said> {
        let mut said = Said { options: Vec::new(), granted: Vec::new(), files: Vec::new() };
        for setting in settings {
            match setting.name.as_str() {
                GRANT => {
                    for word in setting.value.split('+') {
                        let power = Power::ALL.into_iter().find(|power| power.name() == word);
                        said.granted.push(power.ok_or_else(|| {
                            let have = Power::ALL.map(Power::name).join(", ");
                            usage!("--device {plugin}: `{word}` is no power that could be granted; there are {have}")
                        })?);
                    }
                }
                FILE => said.files.push(Backing::Path(setting.value.into())),
                _ => said.options.push(setting),
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_that_is_none_cannot_be_granted() {
        let grant = vec![Setting { name: GRANT.into(), value: "switch+root".into() }];
        let sentence = Said::of("./it", grant).err().expect("refused").to_string();
        assert!(sentence.contains("`root`") && sentence.contains("low-memory"), "{sentence}");
    }
}
