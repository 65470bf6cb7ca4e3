//! Whether a program needs a dynamic loader, read from its ELF header (System V ABI, chapters 4 and 5).

use anyhow::{Result, bail};

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// e_phoff, e_phentsize and e_phnum of the ELF64 header.
const PROGRAM_HEADERS_AT: usize = 32;
const HEADER_BYTES_AT: usize = 54;
const HEADER_COUNT_AT: usize = 56;
/// p_type of the segment that names the loader.
const PT_INTERP: u64 = 3;

/// Says whether `program`, a 64-bit little-endian ELF file, starts without a loader.
pub fn is_static(program: &[u8]) -> Result<bool> {
    if !program.starts_with(MAGIC) {
        bail!("not a 64-bit little-endian ELF program");
    }
    let start = number(program, PROGRAM_HEADERS_AT, 8)?;
    let bytes = number(program, HEADER_BYTES_AT, 2)?;
    let count = number(program, HEADER_COUNT_AT, 2)?;
    for index in 0..count {
        let at = usize::try_from(start.saturating_add(index * bytes))?;
        if number(program, at, 4)? == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

fn number(program: &[u8], at: usize, width: usize) -> Result<u64> {
    let Some(bytes) = at.checked_add(width).and_then(|end| program.get(at..end)) else {
        bail!("the program ends inside its header");
    };
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(types: &[u8]) -> Vec<u8> {
        const HEADER: usize = 64;
        const ENTRY: usize = 56;
        let mut bytes = vec![0; HEADER + ENTRY * types.len()];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[PROGRAM_HEADERS_AT] = HEADER as u8;
        bytes[HEADER_BYTES_AT] = ENTRY as u8;
        bytes[HEADER_COUNT_AT] = types.len() as u8;
        for (index, kind) in types.iter().enumerate() {
            bytes[HEADER + ENTRY * index] = *kind;
        }
        bytes
    }

    #[test]
    fn a_program_that_names_a_loader_is_not_static() {
        assert!(!is_static(&program(&[1, 3, 2])).unwrap());
        assert!(is_static(&program(&[1, 2])).unwrap());
    }

    #[test]
    fn a_short_or_foreign_file_is_an_error() {
        assert!(is_static(b"#!/bin/sh").is_err());
        let whole = program(&[1]);
        assert!(is_static(&whole[..whole.len() - 54]).is_err());
    }
}
