//! Sealing the mappings of this program's own code, so that nothing can unmap, replace or reprotect them (mseal(2), Linux
//! 6.10 and later).

// The program headers are walked as the C library hands them over.
#![allow(unsafe_code)]

/// `mseal`, of <asm/unistd_64.h>.
const SYS_MSEAL: libc::c_long = 462;
const PAGE_BYTES: u64 = 4096;

/// Whether this kernel has it: sealing nothing succeeds.
pub(crate) fn can_be_sealed() -> bool {
    // SAFETY: an empty range concerns no memory.
    unsafe { libc::syscall(SYS_MSEAL, 0usize, 0usize, 0usize) == 0 }
}

/// Seals what this program maps read-only or executable. False: this kernel cannot, or refused.
pub(crate) fn seal() -> bool {
    let mut sealed = can_be_sealed();
    if sealed {
        // SAFETY: the callback matches the type that is asked for, and `sealed` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(seal_object), (&raw mut sealed).cast()) };
    }
    sealed
}

/// Seals the loaded segments of one object that are not writable: data that the linker made read-only after relocation is
/// part of a writable segment, and stays as it is.
unsafe extern "C" fn seal_object(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    sealed: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes a live object and its headers, and `seal` passes a live bool.
    let (object, sealed) = unsafe { (&*object, &mut *sealed.cast::<bool>()) };
    for index in 0..usize::from(object.dlpi_phnum) {
        // SAFETY: `index` is below the number of headers.
        let header = unsafe { &*object.dlpi_phdr.add(index) };
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (object.dlpi_addr + header.p_vaddr) & !(PAGE_BYTES - 1);
        let end = (object.dlpi_addr + header.p_vaddr + header.p_memsz).next_multiple_of(PAGE_BYTES);
        // SAFETY: the range is that of a segment which stays mapped as it is for the life of this process.
        *sealed &= unsafe { libc::syscall(SYS_MSEAL, start, end - start, 0usize) } == 0;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_code_cannot_be_made_writable() {
        if !can_be_sealed() {
            println!("SKIPPED: this kernel (before 6.10) has no mseal");
            return;
        }
        assert!(seal());
        let code = (sealed_code_cannot_be_made_writable as *const () as u64 & !(PAGE_BYTES - 1)) as *mut libc::c_void;
        // SAFETY: more rights to a page of code harm nobody, and here they are refused.
        let changed = unsafe { libc::mprotect(code, PAGE_BYTES as usize, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!((changed, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
    }
}
