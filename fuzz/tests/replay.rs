//! Gives each target every input that was kept: those that reached something new, and those that once found a mistake.

use std::fs;
use std::path::{Path, PathBuf};

/// One test, for the targets count the process's descriptors.
#[test]
fn every_kept_input_is_taken_as_it_should_be() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<String> = content(&here.join("fuzz_targets")).iter().map(|path| name(path)).collect();
    let mut known = targets::TARGETS.map(|(target, _)| target);
    known.sort();
    assert_eq!(names, known, "each target has its program");
    for (target, run) in targets::TARGETS {
        let inputs = content(&here.join("corpus").join(target));
        assert!(!inputs.is_empty(), "{target} has no inputs");
        for input in inputs {
            println!("{}", input.display());
            run(&fs::read(&input).unwrap());
        }
    }
}

fn content(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}
