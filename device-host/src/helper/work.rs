//! The helper's side: what it was granted, and what it does with it.

use super::mailbox::{DATA_MAX, DISKS_MAX, Kind, Listed, Mailbox, Question};
use crate::grants::{held_file, held_wake};
use device::{BlockStore, KernelRandom, RandomSource, RawFile};
use imc::Wake;
use sandbox::{Call, Held, Mode, Recipe, Sealed};
use std::convert::Infallible;
use std::io;

/// A disk that was granted for a wish of a device.
pub(crate) struct Disk {
    pub(crate) device: u8,
    pub(crate) wish: u32,
    pub(crate) file: RawFile,
}

/// All that a helper has.
pub(crate) struct Work {
    mailbox: Mailbox,
    /// What it sleeps on.
    asked: Wake,
    /// The host's wake.
    bell: Wake,
    disks: Vec<Disk>,
    /// Its host has a device that hands random bytes on.
    random: bool,
}

/// Why a helper ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The host asked for what there is not. An honest one never does.
    #[error("the host asked its helper for {0}")]
    Violation(&'static str),
    /// The kernel refused to let it sleep or ring.
    #[error("the kernel refused to let the helper sleep or ring: {0}")]
    Io(#[from] io::Error),
}

impl Work {
    /// What a helper by `recipe` works with. Tells the host what disks there are.
    pub(crate) fn new(
        mailbox: Mailbox,
        asked: Wake,
        bell: Wake,
        disks: Vec<Disk>,
        recipe: &Recipe,
    ) -> Result<Work, String> {
        if disks.len() > DISKS_MAX {
            return Err(format!("{} disks cannot be in one host", disks.len()));
        }
        let random = recipe.calls.iter().any(|permit| permit.call == Call::GETRANDOM);
        mailbox.clear();
        mailbox.fault_in();
        mailbox.list(disks.iter().map(|Disk { device, wish, file }| Listed {
            device: *device,
            wish: *wish,
            bytes: file.bytes(),
            readonly: file.readonly(),
        }));
        Ok(Work { mailbox, asked, bell, disks, random })
    }

    /// Does what it is asked, for ever. Only a sealed process may, or thread.
    pub(crate) fn go_on(&mut self, _: &Sealed) -> Result<Infallible, Ended> {
        self.until_ended()
    }

    pub(super) fn until_ended(&mut self) -> Result<Infallible, Ended> {
        let mut last = 0;
        loop {
            while let Some((sequence, question)) = self.mailbox.asked(last) {
                last = sequence;
                let done = self.act(&question)?;
                self.mailbox.answer(sequence, &done);
                self.bell.signal(1)?;
            }
            self.asked.sleep()?;
        }
    }

    /// Does one thing. An error inside the answer is the disk's; any other is that the host asked for what it may not.
    pub(super) fn act(&mut self, question: &Question) -> Result<io::Result<()>, Ended> {
        let Question { kind, disk, offset, bytes } = *question;
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= DATA_MAX);
        let bytes = bytes.ok_or(Ended::Violation("more bytes than there is room for"))?;
        if kind == Kind::Random as u32 {
            if !self.random {
                return Err(Ended::Violation("random bytes, which no device of it needs"));
            }
            return Ok(KernelRandom.fill(&self.mailbox.data(bytes)));
        }
        let disk = usize::try_from(disk).ok().and_then(|disk| self.disks.get_mut(disk));
        let file = &mut disk.ok_or(Ended::Violation("a disk that there is not"))?.file;
        if kind == Kind::Flush as u32 {
            return Ok(file.flush());
        }
        if offset.checked_add(bytes as u64).is_none_or(|end| end > file.bytes()) {
            return Err(Ended::Violation("bytes beyond the end of a disk"));
        }
        if bytes == 0 {
            return Ok(Ok(()));
        }
        let data = &[self.mailbox.data(bytes)];
        match kind {
            kind if kind == Kind::Read as u32 => Ok(file.read_at(offset, data)),
            kind if kind == Kind::Write as u32 && file.readonly() => {
                Err(Ended::Violation("a write to a disk that may only be read"))
            }
            kind if kind == Kind::Write as u32 => Ok(file.write_at(offset, data)),
            _ => Err(Ended::Violation("something that it does not do")),
        }
    }

    /// The descriptors that it still needs once all is set up.
    pub(crate) fn held(&self) -> Vec<Held> {
        let mut held = vec![held_wake(&self.asked, Mode::Read), held_wake(&self.bell, Mode::Write)];
        held.extend(self.disks.iter().map(|disk| held_file(&disk.file, disk.file.readonly())));
        held
    }
}
