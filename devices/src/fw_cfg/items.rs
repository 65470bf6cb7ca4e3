//! The items that a guest reads, as one file: a table of where each is, then their bytes.
//!
//! Whoever starts the machine makes the file ([`Items`]); the device looks items up in it ([`find`]). The layout is ours: the guest
//! sees items, never the file.

use device::BlockStore;
use vm_memory::VolatileSlice;

/// Most items: what firmware has is about thirty, so there is room for a person's own.
pub const ITEMS_MAX: usize = 128;
/// Most bytes of an item: firmware's own memory has no room for more.
pub const ITEM_MAX: usize = 16 << 20;
/// Most bytes of a file's name, its ending zero among the 56 of a directory entry (specification, "File Directory").
pub const NAME_MAX: usize = 55;

/// Items with a number of their own (specification, "Selector (Control) Register"; numbers as QEMU's documentation has them).
pub const SIGNATURE: u16 = 0x00;
/// Which interfaces there are.
pub const ID: u16 = 0x01;
/// What the machine is called among all.
pub const UUID: u16 = 0x02;
/// Bytes of guest memory.
pub const RAM_SIZE: u16 = 0x03;
/// Processors that run.
pub const CPUS: u16 = 0x05;
/// Key of whether nobody looks at a display.
pub const HEADLESS: u16 = 0x04;
/// Whether firmware offers a choice of what to boot.
pub const BOOT_MENU: u16 = 0x0e;
/// Processors that could run.
pub const CPUS_MAX: u16 = 0x0f;
/// The directory of files.
const DIRECTORY: u16 = 0x19;
/// The first file; others follow.
const FIRST_FILE: u16 = 0x20;

/// The file begins with these, each little-endian: used (4), selector (4), offset (4), length (4).
const ENTRY_BYTES: usize = 16;
const TABLE_BYTES: usize = ITEMS_MAX * ENTRY_BYTES;
/// A file is whole sectors.
const SECTOR_BYTES: usize = 512;

/// Items that are being put together.
#[derive(Debug, Default)]
pub struct Items {
    numbered: Vec<(u16, Vec<u8>)>,
    files: Vec<(String, Vec<u8>)>,
}

/// Why an item is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Too many.
    #[error("there are more than {ITEMS_MAX} items")]
    Many,
    /// Too large.
    #[error("item `{0}` has more than {ITEM_MAX} bytes")]
    Large(String),
    /// Not a name of a file.
    #[error("`{0}` is no name of an item: 1 to {NAME_MAX} printable characters without spaces")]
    Name(String),
    /// Twice.
    #[error("item `{0}` is there already")]
    Twice(String),
}

impl Items {
    /// Adds an item with a number of its own.
    pub fn number(&mut self, selector: u16, content: Vec<u8>) -> Result<(), ItemError> {
        if self.numbered.iter().any(|(taken, _)| *taken == selector) {
            return Err(ItemError::Twice(format!("{selector:#x}")));
        }
        self.fits(&format!("{selector:#x}"), &content)?;
        self.numbered.push((selector, content));
        Ok(())
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, content: Vec<u8>) -> Result<(), ItemError> {
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ItemError::Name(name.to_owned()));
        }
        if self.files.iter().any(|(taken, _)| taken == name) {
            return Err(ItemError::Twice(name.to_owned()));
        }
        self.fits(name, &content)?;
        self.files.push((name.to_owned(), content));
        Ok(())
    }

    fn fits(&self, name: &str, content: &[u8]) -> Result<(), ItemError> {
        if content.len() > ITEM_MAX {
            return Err(ItemError::Large(name.to_owned()));
        }
        // One is the directory's.
        if self.numbered.len() + self.files.len() + 1 >= ITEMS_MAX { Err(ItemError::Many) } else { Ok(()) }
    }

    /// The file for the device.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        // Count, then for each file: size, selector, reserved, name; numbers are big-endian (specification, "File Directory").
        let mut directory = (self.files.len() as u32).to_be_bytes().to_vec();
        for ((name, content), selector) in self.files.iter().zip(FIRST_FILE..) {
            directory.extend((content.len() as u32).to_be_bytes());
            directory.extend(selector.to_be_bytes());
            directory.extend([0; 2]);
            let mut field = [0; NAME_MAX + 1];
            field[..name.len()].copy_from_slice(name.as_bytes());
            directory.extend(field);
        }
        let files = self.files.into_iter().zip(FIRST_FILE..).map(|((_, content), selector)| (selector, content));
        let (mut table, mut contents) = (Vec::new(), Vec::new());
        for (selector, content) in self.numbered.into_iter().chain([(DIRECTORY, directory)]).chain(files) {
            let offset = (TABLE_BYTES + contents.len()) as u32;
            for word in [1, u32::from(selector), offset, content.len() as u32] {
                table.extend(word.to_le_bytes());
            }
            contents.extend(content);
        }
        table.resize(TABLE_BYTES, 0);
        table.extend(contents);
        table.resize(table.len().next_multiple_of(SECTOR_BYTES), 0);
        table
    }
}

/// Where an item is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Item {
    offset: u64,
    length: u64,
}

/// Looks an item up. One that is not there, or does not lie in the file, is empty.
pub(super) fn find(store: &mut dyn BlockStore, selector: u16) -> Item {
    let mut table = [0; TABLE_BYTES];
    if store.bytes() < TABLE_BYTES as u64 || store.read_at(0, &[VolatileSlice::from(&mut table[..])]).is_err() {
        return Item::default();
    }
    let (entries, _) = table.as_chunks::<ENTRY_BYTES>();
    for entry in entries {
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        if (word(0), word(4)) == (1, u32::from(selector)) {
            let item = Item { offset: word(8).into(), length: word(12).into() };
            return if item.offset + item.length <= store.bytes() { item } else { Item::default() };
        }
    }
    Item::default()
}

impl Item {
    /// Fills `into` with the item's bytes from `at` on; past its end there are zeros.
    pub(super) fn read(self, store: &mut dyn BlockStore, at: u32, into: &mut [u8]) {
        into.fill(0);
        let left = self.length.saturating_sub(at.into());
        let count = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count > 0 && store.read_at(self.offset + u64::from(at), &[VolatileSlice::from(&mut into[..count])]).is_err()
        {
            into.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fw_cfg::tests::Memory;

    #[test]
    fn name_that_no_directory_can_hold_is_refused() {
        let mut items = Items::default();
        for name in ["", "with space", "zero\0", "größe", &"x".repeat(56)] {
            assert_eq!(items.file(name, Vec::new()), Err(ItemError::Name(name.to_owned())));
        }
        items.file(&"x".repeat(55), Vec::new()).unwrap();
        items.file("a", vec![1]).unwrap();
        assert_eq!(items.file("a", vec![2]), Err(ItemError::Twice("a".to_owned())));
        items.number(ID, vec![1]).unwrap();
        assert!(items.number(ID, vec![1]).is_err());
    }

    #[test]
    fn more_items_or_bytes_than_there_is_room_for_are_refused() {
        let mut items = Items::default();
        for number in 0..ITEMS_MAX - 1 {
            items.file(&format!("opt/{number}"), Vec::new()).unwrap();
        }
        assert_eq!(items.file("one-more", Vec::new()), Err(ItemError::Many));
        assert!(matches!(Items::default().file("a", vec![0; ITEM_MAX + 1]), Err(ItemError::Large(_))));
    }

    #[test]
    fn every_item_is_found_and_nothing_beside_it() {
        let mut items = Items::default();
        items.number(SIGNATURE, b"QEMU".to_vec()).unwrap();
        items.file("etc/a", vec![1, 2, 3]).unwrap();
        items.file("etc/b", vec![4]).unwrap();
        let mut store = Memory(items.finish());
        assert!(store.0.len().is_multiple_of(SECTOR_BYTES));
        let mut read = |selector, at, count| {
            let mut bytes = vec![0xee; count];
            find(&mut store, selector).read(&mut store, at, &mut bytes);
            bytes
        };
        assert_eq!(read(SIGNATURE, 0, 6), b"QEMU\0\0");
        assert_eq!(read(FIRST_FILE, 1, 3), [2, 3, 0]);
        assert_eq!(read(FIRST_FILE, u32::MAX, 1), [0]);
        assert_eq!(read(0x7777, 0, 2), [0, 0]);
        let directory = read(DIRECTORY, 0, 4 + 2 * 64);
        assert_eq!(directory[..12], [0, 0, 0, 2, 0, 0, 0, 3, 0, 0x20, 0, 0]);
        assert_eq!(&directory[12..18], b"etc/a\0");
        assert_eq!(directory[68..76], [0, 0, 0, 1, 0, 0x21, 0, 0]);
    }

    #[test]
    fn file_that_says_what_cannot_be_is_read_as_empty_items() {
        let entry = |offset: u32, length: u32| {
            let mut file = vec![0; TABLE_BYTES];
            for (at, word) in [1, 5, offset, length].into_iter().enumerate() {
                file[4 * at..4 * at + 4].copy_from_slice(&u32::to_le_bytes(word));
            }
            file
        };
        for (offset, length) in [(u32::MAX, u32::MAX), (2048, 1), (0, 2049), (u32::MAX, 0)] {
            assert_eq!(find(&mut Memory(entry(offset, length)), 5), Item::default(), "{offset} {length}");
        }
        assert_eq!(find(&mut Memory(vec![0; 16]), 5), Item::default(), "too short");
    }
}
