//! What tests need of the outside: plain manifests and toy devices.

use schema::manifest::{Class, Manifest};

/// A manifest with a name and nothing else.
pub fn manifest(name: &str) -> Manifest {
    Manifest {
        name: name.to_owned(),
        summary: "A toy.".to_owned(),
        class: Class::System,
        ranges: Vec::new(),
        registers: Vec::new(),
        lines: Vec::new(),
        vectors: 0,
        doorbells: Vec::new(),
        wishes: Vec::new(),
        state_bytes: 8,
        bulk_bytes: 0,
        pci: None,
        acpi: None,
        with: Vec::new(),
        options: Vec::new(),
    }
}
