//! What a machine is, and what its firmware is told: `-machine`, `-m`, `-smp`, `-boot`, `-bios`, `-fw_cfg`, `-uuid`.

use super::Asked;
use super::list::{list, pairs};
use crate::args::{BootOrder, MachineSpec, usage};
use crate::machine::parse_size;
use anyhow::Result;

/// Letters of the order of boot. There are two for diskettes and four for networks; firmware knows one of each.
const BOOT_LETTERS: [(char, char); 8] =
    [('a', 'a'), ('b', 'a'), ('c', 'c'), ('d', 'd'), ('n', 'n'), ('o', 'n'), ('p', 'n'), ('q', 'n')];
/// Choices that there is room for in the memory of the clock.
const BOOT_CHOICES: usize = 3;

impl Asked {
    /// There are two, and versions of one of them are the same one here.
    pub(super) fn machine(&mut self, value: &str) -> Result<()> {
        let kind = pairs(value).remove("type").unwrap_or_else(|| list(value).0);
        self.asked.machine = match kind.as_str() {
            "none" => MachineSpec::None,
            pc if pc == "pc" || pc.starts_with("pc-i440fx") || pc.contains('=') => MachineSpec::Pc,
            other => return Err(usage!("-machine {other}: unsupported machine type; there are pc and none")),
        };
        Ok(())
    }

    pub(super) fn memory(&mut self, value: &str) -> Result<()> {
        let size = pairs(value).remove("size").unwrap_or_else(|| list(value).0);
        // Without a unit it is MiB.
        let size = if size.ends_with(|last: char| last.is_ascii_digit()) { format!("{size}M") } else { size };
        let bytes = parse_size(&size).ok_or_else(|| usage!("-m {value}: give a size, as in 128M"))?;
        // Less than this machine can have is as good as the least.
        self.asked.memory = bytes.max(vmm::supervisor::MEMORY_MIN).to_string();
        Ok(())
    }

    /// An item of the firmware configuration device.
    pub(super) fn item(&mut self, value: &str) -> Result<()> {
        let options = pairs(value);
        let name = options.get("name").cloned().unwrap_or_else(|| list(value).0);
        let content = ["file", "string"].into_iter().find_map(|kind| Some((kind, options.get(kind)?)));
        let (kind, content) = content.ok_or_else(|| usage!("-fw_cfg {value}: give file=PATH or string=TEXT"))?;
        self.asked.fw_cfg.push(format!("name={name},{kind}={content}"));
        Ok(())
    }

    pub(super) fn processors(&mut self, value: &str) -> Result<()> {
        let options = pairs(value);
        let cpus = options.get("cpus").cloned().unwrap_or_else(|| list(value).0);
        let known = |text: &str| text.parse().ok().filter(|number| (1..=vmm::supervisor::CPUS_MAX).contains(number));
        let wrong = || usage!("-smp {value}: give a number of processors up to {}", vmm::supervisor::CPUS_MAX);
        self.told.cpus = known(&cpus).ok_or_else(wrong)?;
        self.told.cpus_max = match options.get("maxcpus") {
            Some(most) => known(most).filter(|most| *most >= self.told.cpus).ok_or_else(wrong)?,
            None => self.told.cpus,
        };
        Ok(())
    }

    pub(super) fn boot(&mut self, value: &str) -> Result<()> {
        let wrong =
            || usage!("-boot {value}: give order=LETTERS, once=LETTERS, menu=on, splash-time=MS or reboot-timeout=MS");
        let (first, mut options) = list(value);
        match first.split_once('=') {
            Some((name, value)) => drop(options.insert(name.to_owned(), value.to_owned())),
            None => drop(options.insert("order".into(), first)),
        }
        let BootOrder { order, once, .. } = &mut self.asked.boot;
        for (name, word) in options {
            match name.as_str() {
                "order" => *order = letters(&word).ok_or_else(wrong)?,
                "once" => *once = Some(letters(&word).ok_or_else(wrong)?),
                "menu" => self.told.has_menu = word == "on",
                "splash-time" => self.told.menu_wait_ms = Some(word.parse().map_err(|_| wrong())?),
                "reboot-timeout" => self.told.fail_wait_ms = Some(word.parse().map_err(|_| wrong())?),
                "strict" => {}
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }
}

/// The bytes of a UUID, as it is written.
pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = [0; 16];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// An order of boot, as far as firmware has room for it.
fn letters(order: &str) -> Option<String> {
    let known = |letter| BOOT_LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, own)| *own);
    let letters: Option<String> = order.chars().map(known).collect();
    letters.map(|letters| letters.chars().take(BOOT_CHOICES).collect())
}
