//! What people get wrong: each a sentence that names the culprit, and nothing left behind.

// A process is changed between fork and exec.
#![allow(unsafe_code)]

mod harness;

use harness::{Place, kvm, text, tick_guest};
use std::os::unix::process::CommandExt;

/// Runs and expects a refusal with this status whose sentence has these words.
fn refused(place: &Place, words: &[&str], status: i32, said: &[&str]) {
    let output = place.run(words);
    let sentence = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?} said: {sentence}");
    for word in said {
        assert!(sentence.contains(word), "{words:?}: no {word:?} in: {sentence}");
    }
    assert!(!sentence.contains("panicked at") && !sentence.contains("Os {"), "{sentence}");
    assert!(place.runtime_files().is_empty(), "{words:?} left {:?}", place.runtime_files());
}

#[test]
fn kernels_that_are_none_are_refused_by_name() {
    let place = Place::new();
    let text_file = place.file("letter", &[b'x'; 100_000]);
    let empty = place.file("empty", b"");
    refused(&place, &["run"], 2, &["--kernel"]);
    refused(&place, &["run", "--kernel", "/no/such"], 1, &["/no/such", "No such file"]);
    refused(&place, &["run", "--kernel", "/tmp"], 1, &["/tmp", "folder"]);
    refused(&place, &["run", "--kernel", empty.to_str().unwrap()], 1, &["empty"]);
    if kvm() {
        refused(&place, &["run", "--kernel", text_file.to_str().unwrap()], 1, &["kernel", "neither"]);
    }
}

#[test]
fn a_truncated_kernel_is_refused() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    // A boot sector that claims to be a bzImage, with nothing behind it.
    let mut kernel = vec![0u8; 1024];
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x206] = 0x0f;
    kernel[0x207] = 0x02;
    kernel[0x211] = 1;
    kernel[0x236] = 1;
    let path = place.file("cut", &kernel);
    refused(&place, &["run", "--kernel", path.to_str().unwrap()], 1, &["kernel"]);
}

#[test]
fn disks_that_are_none_are_refused_by_name() {
    let place = Place::new();
    let guest = place.file("guest", &tick_guest());
    let odd = place.file("odd", &[0; 1000]);
    let run = |disk: &str, said: &[&str]| {
        refused(&place, &["run", "--flat", guest.to_str().unwrap(), "--disk", disk], 1, said);
    };
    run("/no/such", &["/no/such"]);
    run("/tmp", &["/tmp", "folder"]);
    run(odd.to_str().unwrap(), &["odd", "multiple of 512"]);
    refused(&place, &["run", "--flat", guest.to_str().unwrap(), "--disk", "a,writable"], 2, &["writable", "readonly"]);
}

#[test]
fn a_disk_that_another_vm_writes_is_refused() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let disk = place.file("disk", &[0; 4096]);
    let disk = disk.to_str().unwrap();
    let vm = place.start("holder", &tick_guest(), &["--disk", disk]);
    vm.wait_until_running();
    let guest = place.file("guest", &tick_guest());
    let output = place.run(&["run", "--flat", guest.to_str().unwrap(), "--disk", disk]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("locked"), "{}", text(&output.stderr));
    let output = place.run(&["run", "--flat", guest.to_str().unwrap(), "--name", "holder"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("holder"), "{}", text(&output.stderr));
}

#[test]
fn impossible_sizes_are_refused() {
    let place = Place::new();
    let guest = place.file("guest", &tick_guest());
    let guest = guest.to_str().unwrap();
    refused(&place, &["run", "--flat", guest, "--memory", "0"], 2, &["--memory 0M", "64M"]);
    refused(&place, &["run", "--flat", guest, "--memory", "lots"], 2, &["lots", "512M"]);
    refused(&place, &["run", "--flat", guest, "--memory", "100000G"], 1, &["--memory", "this machine has"]);
    refused(&place, &["run", "--flat", guest, "--cpus", "0"], 2, &["--cpus 0", "1 to 16"]);
    refused(&place, &["run", "--flat", guest, "--cpus", "17"], 2, &["--cpus 17"]);
}

#[test]
fn unknown_words_are_refused_with_what_there_is() {
    let place = Place::new();
    let guest = place.file("guest", &tick_guest());
    let guest = guest.to_str().unwrap();
    refused(&place, &["run", "--flat", guest, "--device", "teleprinter"], 2, &["teleprinter", "uart16550"]);
    refused(&place, &["run", "--flat", guest, "--device", "debug-exit,color=red"], 2, &["debug-exit", "color", "port"]);
    refused(&place, &["run", "--flat", guest, "--device", "debug-exit,port=red"], 2, &["port", "red"]);
    refused(&place, &["run", "--flat", guest, "--sandbox", "iron"], 2, &["iron", "seccomp"]);
    refused(&place, &["run", "--flat", guest, "--sandbox", "seccomp,teleprinter=off"], 2, &["teleprinter"]);
    refused(&place, &["run", "--flat", guest, "--name", "../x"], 2, &["../x"]);
    refused(&place, &["run", "--flat", guest, "--console", "tv"], 2, &["tv", "stdio"]);
    refused(&place, &["recipe", "teleprinter"], 2, &["teleprinter"]);
    refused(&place, &["stop", "nobody"], 1, &["nobody", "cofferdam ps"]);
    refused(&place, &["run", "--frobnicate"], 2, &["frobnicate"]);
}

#[test]
fn a_config_file_says_what_is_wrong_and_where() {
    let place = Place::new();
    let config = place.file("vm.toml", b"kernel = \"k\"\nmemry = \"1G\"\n");
    refused(&place, &["run", "--config", config.to_str().unwrap()], 2, &["vm.toml", "memry", "line 2"]);
    refused(&place, &["run", "--config", "/no/such.toml"], 1, &["/no/such.toml"]);
}

#[test]
fn no_vms_is_a_sentence() {
    let place = Place::new();
    let output = place.run(&["ps"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("No virtual machine"));
    assert_eq!(place.ps(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_machine_without_kvm_says_so() {
    let place = Place::new();
    let guest = place.file("guest", &tick_guest());
    let mut command = place.cofferdam();
    command.args(["run", "--flat"]).arg(guest);
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // A mount namespace of its own in which /dev/kvm is not there.
            let hidden = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(c"none".as_ptr(), c"/dev".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0;
            if hidden { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: no mount namespace can be had here: {error}");
            return;
        }
    };
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/dev/kvm: this machine has none"), "{}", text(&output.stderr));
}

#[test]
fn forbidden_user_namespaces_are_a_sentence() {
    let place = Place::new();
    let mut command = place.cofferdam();
    command.args(["demo", "--no-kvm"]);
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // A user namespace in which no further one may be made.
            let limit = c"/proc/sys/user/max_user_namespaces";
            let forbidden = libc::unshare(libc::CLONE_NEWUSER) == 0 && {
                let file = libc::open(limit.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                file >= 0 && libc::write(file, c"0".as_ptr().cast(), 1) == 1
            };
            if forbidden { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: no user namespace can be had here: {error}");
            return;
        }
    };
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("user namespace") && said.contains("user.max_user_namespaces"), "{said}");
}
