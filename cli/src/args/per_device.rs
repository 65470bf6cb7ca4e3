//! What is chosen for all devices of a machine, with exceptions for single ones.

use super::usage;
use anyhow::Result;
use sandbox::HelperForm;
use schema::host::Level;
use schema::lane::Carrier;
use serde::Deserialize;
use vmm::supervisor::{Isolate, PlannedDevice};

/// What is chosen for all devices, and exceptions.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String", bound = "T: Choice")]
pub struct PerDevice<T> {
    pub all: T,
    exceptions: Vec<(String, T)>,
}

/// What the helpers of their hosts are.
pub type HelperSpec = PerDevice<HelperForm>;
/// How strictly devices are confined.
pub type SandboxSpec = PerDevice<Level>;
/// What their lanes run over.
pub type CarrierSpec = PerDevice<Carrier>;

/// What can be chosen for each device.
pub trait Choice: Copy {
    /// The flag by which it is chosen.
    const FLAG: &str;
    /// What is chosen where nothing is said.
    const DEFAULT: Self;
    /// What this word says, or a sentence.
    fn of(word: &str) -> Result<Self, String>;
    /// Chooses it for a device.
    fn choose(self, device: &mut PlannedDevice);
}

impl Choice for Level {
    const FLAG: &str = "--sandbox";
    const DEFAULT: Level = Level::Seccomp;
    fn of(word: &str) -> Result<Level, String> {
        match word {
            "off" => Ok(Level::Off),
            "process" => Ok(Level::Process),
            "seccomp" => Ok(Level::Seccomp),
            "strict" => Ok(Level::Strict),
            other => Err(format!("`{other}` is not a level; there are off, process, seccomp and strict")),
        }
    }
    fn choose(self, device: &mut PlannedDevice) {
        device.level = self;
    }
}

impl Choice for HelperForm {
    const FLAG: &str = "--helper";
    const DEFAULT: HelperForm = HelperForm::Process;
    fn of(word: &str) -> Result<HelperForm, String> {
        match [HelperForm::Process, HelperForm::Thread].into_iter().find(|form| form.name() == word) {
            Some(form) => Ok(form),
            None => Err(format!("`{word}` is not a helper; there are process and thread")),
        }
    }
    fn choose(self, device: &mut PlannedDevice) {
        device.helper = self;
    }
}

impl Choice for Carrier {
    const FLAG: &str = "--carrier";
    const DEFAULT: Carrier = Carrier::Memory;
    fn of(word: &str) -> Result<Carrier, String> {
        match Carrier::ALL.into_iter().find(|carrier| carrier.name() == word) {
            Some(Carrier::InProcess) => {
                Err(format!("`{word}` is not a way to another process; --isolate none links devices into the VMM"))
            }
            Some(carrier) => Ok(carrier),
            None => Err(format!("`{word}` is not a carrier; there are memory, socket, pipe and virtio")),
        }
    }
    fn choose(self, device: &mut PlannedDevice) {
        device.carrier = self;
    }
}

impl<T: Choice> Default for PerDevice<T> {
    fn default() -> Self {
        PerDevice { all: T::DEFAULT, exceptions: Vec::new() }
    }
}

impl<T: Choice> std::str::FromStr for PerDevice<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = PerDevice::default();
        let mut for_all = 0;
        for part in text.split(',') {
            match part.split_once('=') {
                Some((device, word)) => spec.exceptions.push((device.to_owned(), T::of(word)?)),
                None => {
                    spec.all = T::of(part)?;
                    for_all += 1;
                }
            }
        }
        if for_all > 1 {
            return Err("two are given for all devices; give one, and DEVICE=… for exceptions".to_owned());
        }
        Ok(spec)
    }
}

impl<T: Choice> TryFrom<String> for PerDevice<T> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl<T: Choice> PerDevice<T> {
    /// Applies the choice; refuses an exception for a device that is not there.
    pub fn apply(&self, devices: &mut [PlannedDevice]) -> Result<()> {
        for device in devices.iter_mut() {
            self.all.choose(device);
        }
        for (name, choice) in &self.exceptions {
            let mut found = false;
            for device in devices.iter_mut().filter(|device| device.label == *name || device.device == *name) {
                choice.choose(device);
                found = true;
            }
            if !found {
                let have: Vec<&str> = devices.iter().map(|device| device.label.as_str()).collect();
                let (flag, have) = (T::FLAG, have.join(", "));
                return Err(usage!("{flag}: this machine has no device `{name}`; it has {have}"));
            }
        }
        Ok(())
    }
}

/// Applies `--carrier`, where it is given. Devices that are linked into the VMM have no way to choose.
pub fn apply_carrier(spec: Option<&CarrierSpec>, isolate: Isolate, devices: &mut [PlannedDevice]) -> Result<()> {
    match spec {
        Some(_) if isolate == Isolate::None => Err(usage!(
            "--carrier: with --isolate none a device is called in the VMM's own process; give one of the two"
        )),
        Some(spec) => spec.apply(devices),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::RunArgs;

    #[test]
    fn a_sandbox_exception_for_an_absent_device_is_refused() {
        let mut devices = RunArgs::default().devices().unwrap();
        let spec: SandboxSpec = "seccomp,floppy=off".parse().unwrap();
        let sentence = spec.apply(&mut devices).unwrap_err().to_string();
        assert!(sentence.contains("floppy") && sentence.contains("uart16550"), "{sentence}");
    }

    #[test]
    fn a_sandbox_exception_reaches_its_device_alone() {
        let mut devices = RunArgs::default().devices().unwrap();
        "process,uart16550=off".parse::<SandboxSpec>().unwrap().apply(&mut devices).unwrap();
        for device in devices {
            let wanted = if device.device == "uart16550" { Level::Off } else { Level::Process };
            assert_eq!(device.level, wanted, "{}", device.label);
        }
    }

    #[test]
    fn a_carrier_is_chosen_for_all_and_for_single_devices() {
        let mut devices = RunArgs::default().devices().unwrap();
        let spec: CarrierSpec = "socket,i8042=virtio".parse().unwrap();
        apply_carrier(Some(&spec), Isolate::Device, &mut devices).unwrap();
        for device in &devices {
            let wanted = if device.device == "i8042" { Carrier::Virtio } else { Carrier::Socket };
            assert_eq!(device.carrier, wanted, "{}", device.label);
        }
        let sentence = apply_carrier(Some(&spec), Isolate::None, &mut devices).unwrap_err().to_string();
        assert!(sentence.contains("--isolate none"), "{sentence}");
        assert!("in-process".parse::<CarrierSpec>().err().unwrap().contains("--isolate none"));
        assert!("pigeon".parse::<CarrierSpec>().err().unwrap().contains("memory, socket, pipe and virtio"));
    }
}
