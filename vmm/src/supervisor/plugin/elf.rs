//! What an ELF file says that it needs. It is a plugin's: read in pieces, each of them bounded, and never run.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Program headers that are looked at. A linker makes about a dozen.
const HEADERS_MAX: usize = 64;
/// Bytes of one, `Elf64_Phdr`.
const HEADER_BYTES: usize = 56;
/// Entries of the dynamic section that are looked at.
const ENTRIES_MAX: u64 = 1024;
/// Bytes of one, `Elf64_Dyn`.
const ENTRY_BYTES: u64 = 16;
/// Longest name or search path.
const NAME_MAX: usize = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// An ELF file for this machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// Its loader; none: it is static, or a library.
    pub(super) loader: Option<PathBuf>,
    /// Names of libraries that it needs.
    pub(super) needed: Vec<String>,
    /// Where they are looked for first, `$ORIGIN` replaced.
    pub(super) search: Vec<PathBuf>,
}

/// A part of the file that is mapped.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

impl Elf {
    /// Whether `path` is an ELF file for whatever machine.
    pub(super) fn is_one(path: &Path) -> io::Result<bool> {
        let mut magic = [0; 4];
        Ok(File::open(path)?.read_exact_at(&mut magic, 0).is_ok() && magic == *b"\x7fELF")
    }

    /// Reads `path`; `None` where it is no ELF file for x86-64.
    pub(super) fn read(path: &Path) -> io::Result<Option<Elf>> {
        let file = File::open(path)?;
        let mut head = [0; 64];
        if file.read_exact_at(&mut head, 0).is_err() || head[..6] != *b"\x7fELF\x02\x01" || word(&head, 18, 2) != 62 {
            return Ok(None);
        }
        let segments = segments(&file, &head)?;
        let mut elf = Elf::default();
        if let Some(loader) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
            elf.loader = Some(text(&file, loader.offset)?.into());
        }
        let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Ok(Some(elf)) };
        let mut table = vec![0; dynamic.bytes.min(ENTRIES_MAX * ENTRY_BYTES) as usize];
        file.read_exact_at(&mut table, dynamic.offset)?;
        let entries: Vec<(u64, u64)> =
            table.chunks_exact(ENTRY_BYTES as usize).map(|entry| (word(entry, 0, 8), word(entry, 8, 8))).collect();
        let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).map(|(_, address)| *address);
        let Some(strings) = strings.and_then(|address| offset_of(&segments, address)) else { return Ok(Some(elf)) };
        let origin = path.parent().unwrap_or(Path::new("/")).to_string_lossy();
        for (tag, value) in entries {
            if !matches!(tag, DT_NEEDED | DT_RPATH | DT_RUNPATH) {
                continue;
            }
            let said = text(&file, strings.saturating_add(value))?;
            if tag == DT_NEEDED {
                elf.needed.push(said);
            } else {
                let folders =
                    said.split(':').map(|folder| folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
                elf.search.extend(folders.filter(|folder| folder.starts_with('/')).map(PathBuf::from));
            }
        }
        Ok(Some(elf))
    }
}

fn segments(file: &File, head: &[u8; 64]) -> io::Result<Vec<Segment>> {
    let (at, size, count) = (word(head, 32, 8), word(head, 54, 2) as usize, word(head, 56, 2) as usize);
    if size != HEADER_BYTES {
        // Nothing that a loader takes.
        return Ok(Vec::new());
    }
    let mut table = vec![0; size * count.min(HEADERS_MAX)];
    file.read_exact_at(&mut table, at)?;
    let segment = |header: &[u8]| Segment {
        kind: word(header, 0, 4) as u32,
        offset: word(header, 8, 8),
        address: word(header, 16, 8),
        bytes: word(header, 32, 8),
    };
    Ok(table.chunks_exact(size).map(segment).collect())
}

/// Where in the file an address is.
fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    let inside = |segment: &&Segment| {
        segment.kind == PT_LOAD && address.checked_sub(segment.address).is_some_and(|into| into < segment.bytes)
    };
    segments.iter().find(inside)?.offset.checked_add(address - segments.iter().find(inside)?.address)
}

/// The text that ends with a zero at this offset.
fn text(file: &File, offset: u64) -> io::Result<String> {
    let mut bytes = vec![0; NAME_MAX];
    let length = file.read_at(&mut bytes, offset)?;
    let end = bytes[..length].iter().position(|byte| *byte == 0).ok_or(io::ErrorKind::InvalidData)?;
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A little-endian number of up to eight bytes.
fn word(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_program_is_none() {
        assert_eq!(Elf::read(Path::new("/proc/self/status")).unwrap(), None);
    }

    #[test]
    fn a_dynamic_program_names_its_loader_and_libraries() {
        let shell = Elf::read(Path::new("/bin/sh")).unwrap().expect("an ELF file");
        assert!(shell.loader.is_some_and(|loader| loader.is_file()));
        assert!(shell.needed.iter().any(|name| name.starts_with("libc.so")), "{:?}", shell.needed);
    }
}
