//! Where what is said comes from and goes to: `-qtest`, `-qmp`, `-mon`, `-chardev`, `-serial`, `-parallel`.

use super::Asked;
use super::devices::SERIAL;
use super::list::{list, pairs};
use crate::args::{Port, usage};
use crate::qtest::Link;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is behind a character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chardev {
    Socket(Link),
    File(String),
    /// Our standard input and output.
    Stdio,
    /// Nothing, or nothing that we have: the name of the backend.
    Other(String),
}

impl Chardev {
    /// As `query-chardev` has it.
    pub(super) fn shown(&self) -> String {
        match self {
            Chardev::Socket(Link::Connect(path)) => format!("unix:{}", path.display()),
            Chardev::Socket(Link::Listen(path)) => format!("unix:{},server=on", path.display()),
            Chardev::Socket(_) => "unix:".to_owned(),
            Chardev::File(_) => "file".to_owned(),
            Chardev::Stdio => "stdio".to_owned(),
            Chardev::Other(backend) => backend.clone(),
        }
    }
}

/// `unix:PATH[,server=on][,wait=off]`, or a chardev of the backend `socket`.
fn socket(path: &str, options: &BTreeMap<String, String>) -> Link {
    let is_server = options.get("server").is_some_and(|value| value == "on" || value == "yes");
    let path = PathBuf::from(path);
    if is_server { Link::Listen(path) } else { Link::Connect(path) }
}

impl Asked {
    /// A way to somebody: a socket by its path or by its chardev, or our standard input and output.
    pub(super) fn link(&self, text: &str) -> Result<Link> {
        let (first, options) = list(text);
        let chardev = first.strip_prefix("chardev:").map(|id| self.chardevs.get(id));
        match (first.strip_prefix("unix:"), chardev) {
            (Some(path), _) => Ok(socket(path.strip_prefix("path=").unwrap_or(path), &options)),
            (None, Some(Some(Chardev::Socket(link)))) => Ok(link.clone()),
            (None, Some(Some(Chardev::Stdio))) => Ok(Link::Stdio),
            _ if first == "stdio" => Ok(Link::Stdio),
            _ => Err(usage!("{text}: give unix:PATH, stdio, or chardev:ID of a socket")),
        }
    }

    pub(super) fn chardev(&mut self, value: &str) -> Result<()> {
        let (backend, options) = list(value);
        let id = options.get("id").ok_or_else(|| usage!("-chardev {value}: give it an id"))?;
        let path = || options.get("path").ok_or_else(|| usage!("-chardev {value}: give a path"));
        let chardev = match (backend.as_str(), options.get("fd")) {
            ("socket", Some(number)) => {
                let number = number.parse().ok().filter(|number| *number > 2);
                Chardev::Socket(Link::Inherited(
                    number.ok_or_else(|| usage!("-chardev {value}: give the number of a descriptor above 2"))?,
                ))
            }
            ("socket", None) => Chardev::Socket(socket(path()?, &options)),
            ("file", _) => Chardev::File(path()?.clone()),
            ("stdio", _) => Chardev::Stdio,
            _ => Chardev::Other(backend),
        };
        self.chardevs.insert(id.clone(), chardev);
        Ok(())
    }

    pub(super) fn monitor(&mut self, value: &str) -> Result<()> {
        let options = pairs(value);
        let id = options.get("chardev").cloned().unwrap_or_else(|| list(value).0);
        if options.get("mode").is_none_or(|mode| mode != "control") {
            return Err(usage!("-mon {value}: there is no monitor for people; give mode=control"));
        }
        match self.chardevs.get(&id) {
            Some(Chardev::Socket(link)) => self.monitors.push(link.clone()),
            Some(_) => return Err(usage!("-mon {value}: a monitor is on a socket, and `{id}` is none")),
            None => return Err(usage!("-mon {value}: there is no chardev `{id}`")),
        }
        Ok(())
    }

    /// The next serial port, whose bytes go there.
    pub(super) fn serial(&mut self, value: &str) -> Result<()> {
        // The first is there in any case, unless the machine has only what is asked for.
        let number = if self.asked.serial.is_none() { 0 } else { self.serial };
        let Some((port, irq)) = SERIAL.get(number) else {
            return Err(usage!("-serial {value}: a PC has four serial ports"));
        };
        let to = self.port("-serial", value)?;
        if number == 0 {
            self.asked.serial = Some(to);
            self.serial = self.serial.max(1);
            return Ok(());
        }
        let more = match to {
            Port::File(path) => format!(",to={path}"),
            Port::Nowhere | Port::Output => String::new(),
        };
        self.devices.push((false, String::new(), format!("uart16550,port={port},irq={irq}{more}")));
        self.serial += 1;
        Ok(())
    }

    /// Where a port's bytes go.
    pub(super) fn port(&self, name: &str, value: &str) -> Result<Port> {
        let is_stdio = |id: &str| self.chardevs.get(id) == Some(&Chardev::Stdio);
        if name == "-serial" && (value == "stdio" || value.strip_prefix("chardev:").is_some_and(is_stdio)) {
            return Ok(Port::Output);
        }
        Ok(self.outlet(name, value)?.map_or(Port::Nowhere, Port::File))
    }

    /// The file that they go to; or they go nowhere.
    pub(super) fn outlet(&self, name: &str, value: &str) -> Result<Option<String>> {
        let refused =
            || usage!("{name} {value}: its bytes go to a file (file:PATH, or a chardev that is one) or to null");
        match value.split_once(':') {
            None if matches!(value, "null" | "none") => Ok(None),
            Some(("file", path)) => Ok(Some(path.to_owned())),
            Some(("chardev", id)) => match self.chardevs.get(id) {
                Some(Chardev::File(path)) => Ok(Some(path.clone())),
                Some(Chardev::Other(backend)) if backend == "null" => Ok(None),
                _ => Err(refused()),
            },
            _ => Err(refused()),
        }
    }
}
