//! Keeps `schema/compiled/schema.cgr`, which the build reads in place of the sources, equal to them.

mod history;
mod meaning;
pub mod readers;
mod reference;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use capnp::schema_capnp::code_generator_request;

use crate::packages;
use crate::report::Outcome;
use meaning::Meaning;

/// The compiled schema, from the top of the tree.
const COMPILED: &str = "schema/compiled/schema.cgr";

/// Whether the schema keeps the house's rules and what each release promised.
pub fn check_history(top: &Path) -> Outcome {
    const NAME: &str = "schema history";
    let compare = || -> Result<(Vec<String>, usize)> {
        let schema = kept(top)?;
        let released = history::released(top)?;
        let broken = released.iter().flat_map(|(version, then)| history::broken(version, then, &schema));
        Ok((history::rules(&schema).into_iter().chain(broken).collect(), released.len()))
    };
    match compare() {
        Ok((broken, _)) if !broken.is_empty() => Outcome::fail(NAME, broken.join("\n")),
        Ok((_, 0)) => Outcome::skip(NAME, "no schema has been released yet"),
        Ok(_) => Outcome::pass(),
        Err(error) => Outcome::fail(NAME, format!("{error:#}")),
    }
}

/// Records what the schema means as that of a release.
pub fn release(top: &Path, version: &str) -> Result<()> {
    let outcome = check_history(top);
    if let Some(finding) = outcome.failed.first() {
        bail!("this schema cannot be released:\n{}", finding.why);
    }
    let path = history::record(top, version, &kept(top)?)?;
    println!("{}", path.display());
    Ok(())
}

fn kept(top: &Path) -> Result<Meaning> {
    Meaning::of_compiled(&std::fs::read(top.join(COMPILED)).context(COMPILED)?)
}

/// Compiles the schema again and compares: byte by byte, and where the compilers differ, node by node.
pub fn check(top: &Path) -> Outcome {
    const NAME: &str = "compiled schema";
    if let Err(missing) = packages::find("capnp") {
        return Outcome::skip(NAME, missing);
    }
    let compare = || -> Result<bool> {
        let kept = std::fs::read(top.join(COMPILED)).context(COMPILED)?;
        let fresh = compile(top)?;
        Ok(kept == fresh || nodes(&kept)? == nodes(&fresh)?)
    };
    match compare() {
        Ok(true) => Outcome::pass(),
        Ok(false) => Outcome::fail(NAME, format!("{COMPILED} is older than its sources: run `cargo xtask schema`")),
        Err(error) => Outcome::fail(NAME, format!("{error:#}")),
    }
}

/// Writes anew what is made of the schema: its compiled form, and the golden bytes of each message.
pub fn write(cargo: &Path, top: &Path) -> Result<()> {
    let fresh = compile(top)?;
    std::fs::write(top.join(reference::PAGE), reference::page(&fresh)?).context(reference::PAGE)?;
    std::fs::write(top.join(COMPILED), fresh).context(COMPILED)?;
    // The schema's tests compare this with the sources where there is no `capnp` program.
    let stamp = "cat schema/*.capnp | cksum > schema/compiled/sources.cksum";
    let stamped = Command::new("sh").args(["-c", stamp]).env("LC_ALL", "C").current_dir(top).status()?;
    if !stamped.success() {
        bail!("{stamp}: {stamped}");
    }
    // The plain types know the values, so the schema's own test writes them.
    let golden = ["test", "--quiet", "--package", "cofferdam-schema", "--lib", "golden_files"];
    let written = Command::new(cargo).args(golden).env("COFFERDAM_WRITE_GOLDEN", "1").current_dir(top).output()?;
    if !written.status.success() {
        bail!(
            "the schema's tests: {}{}",
            String::from_utf8_lossy(&written.stdout),
            String::from_utf8_lossy(&written.stderr)
        );
    }
    Ok(())
}

/// What the `capnp` program makes of all our sources. Run in their folder, so that no path of this machine and no
/// prefix gets into the result.
fn compile(top: &Path) -> Result<Vec<u8>> {
    let folder = top.join("schema");
    let mut sources: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
        .collect::<std::io::Result<_>>()?;
    sources.retain(|source| source.extension().is_some_and(|extension| extension == "capnp"));
    sources.sort();
    let capnp = packages::find("capnp").map_err(anyhow::Error::msg)?;
    let done = Command::new(capnp).args(["compile", "-o-"]).args(&sources).current_dir(folder).output()?;
    if !done.status.success() {
        bail!("capnp compile: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(done.stdout)
}

/// Each node as text, in order of its id: everything but the compiler's version and the places in the source.
fn nodes(request: &[u8]) -> Result<Vec<(u64, String)>> {
    let mut rest = request;
    let message = capnp::serialize::read_message_from_flat_slice_no_alloc(&mut rest, Default::default())?;
    let request: code_generator_request::Reader = message.get_root()?;
    let mut nodes: Vec<_> = request.get_nodes()?.iter().map(|node| (node.get_id(), format!("{node:?}"))).collect();
    nodes.sort();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_schema_decodes_to_nodes_that_name_themselves() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let nodes = nodes(&std::fs::read(top.join(COMPILED)).unwrap()).unwrap();
        assert!(nodes.iter().any(|(_, text)| text.contains("lane.capnp:Access")), "{nodes:?}");
    }
}
